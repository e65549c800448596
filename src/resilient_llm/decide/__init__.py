"""Pure decisions: whom to ask, for how long, what an outcome means.

No clock, no I/O, no logging and no randomness of its own: ``now`` (monotonic seconds) and random draws come in, a
decision comes out.  Everything but :class:`~resilient_llm.decide.pool.Pool` and ``Call`` expects the pool's lock to
be held.
"""
