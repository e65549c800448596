"""The lease on one attempt of a call."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Generic

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.keys import Key
from resilient_llm.decide.member import Member, T, Target
from resilient_llm.decide.refusals import Sent
from resilient_llm.faults import AttemptKind

__all__ = ["Ask", "Attempt", "T", "Target"]


def larger_only(ask: Ask, targets: Iterable[Target], size: int) -> Ask:
    """The same after a prompt did not fit a window of ``size`` tokens (0: unknown): only a provider whose window is
    larger or unknown may be asked."""
    small = {
        target.id: f"its context window of {target.context_window} is no larger"
        for target in targets
        if target.context_window is not None and target.context_window <= size
    }
    return ask._replace(unsuitable={**ask.unsuitable, **small})


class Attempt(Generic[T]):
    """One try of a call at one provider, and the lease that permits it: released exactly once, whatever happens.

    Written by the pool alone, under its lock.  ``kind`` is as in ``AttemptRecord``.  ``timeout`` is how many seconds
    after ``started`` it may stay without a sign of life (a stream's first token, a whole answer), ``rescue_after`` when
    a second attempt may start beside it (0: at once; ``None``: never), ``delay`` the wait that preceded it.  ``fresh``:
    it is to be sent over a new connection.  ``key`` is what it is sent with; ``need`` tokens of that key's limits are
    reserved for it.
    """

    late_after: float = math.inf
    """Seconds from which on its silence speaks against its provider."""
    known: bool = False
    """Whether that is its provider's own measure."""
    rescue_after: float | None = None
    timeout: float = math.inf
    delay: float = 0.0
    fresh: bool = False
    pause: float = 0.0
    """Seconds of the longest pause of its stream."""
    quiet_since: float = math.inf
    """When its stream, which has begun, fell silent, while its caller waits for more; infinite: nobody waits for more.
    Written by the stream alone, without the lock: what is read a moment too late is read at the next look."""
    presumed: float = math.nan
    """When its provider lost its traffic on the presumption that its stream, with others, had stopped."""
    stopped: bool = False
    """Whether it was judged as failed because its stream fell silent, before it ended."""
    waits_for_key: bool = False
    judged: bool = False
    """Whether the breaker has its verdict already."""
    by_chance: bool = False
    """Whether it was refused by chance: a failure like any other."""
    other_key: bool = False
    """Whether it failed for its key's sake alone, and its provider has another key that can be used."""
    insists: bool = False
    """Whether it was sent against what we only guess of its key's limits."""
    contradicts: bool = False
    """Whether a limit that its provider reported is none if it is let through."""
    not_before: float = -math.inf
    """When its call may ask its provider, which refused it, again."""
    refused_alone: bool = False
    """Whether a rate limit refused it alone, so that nobody else waits for it."""
    heard: bool = False
    """Whether the head of its answer was read."""
    opened_account: bool = False
    """Whether its answer opened the gate of its key's account, which may be other providers' too."""

    def __init__(self, ask: Ask, member: Member[T], kind: AttemptKind, number: int, now: float) -> None:
        key, keys = member.keys[0], member.keys
        if len(keys) > 1:
            key = member.key_for(ask, now)
        sent = key.pace.reserve(ask.tokens, ask.max_tokens, now)
        self.ask: Ask = ask
        self.member: Member[T] = member
        self.key: Key = key
        self.sent: Sent = sent
        self.need: float = sent[0]
        self.kind: AttemptKind = kind
        self.number: int = number
        self.generation: int = member.breaker.generation
        self.started: float = now
        waiting, slowness = len(member.pending), member.slowness
        self.calm: bool = not (waiting or slowness.suspected) or slowness.sent(waiting, now)
        """Whether nobody queued at its provider when it was sent."""
        self.content_at: float | None = None
        self.slow_lease: bool = False
        """Whether it is the one that finds out if a quota or a key is good again."""
        self.released: bool = False

    def __repr__(self) -> str:
        return f"<Attempt {self.number} ({self.kind}) at {self.member.id}>"

    def late(self, now: float) -> bool:
        """Whether it gave no sign of life for longer than its provider should take."""
        return self.content_at is None and not self.waits_for_key and now >= self.started + self.late_after

    def slow(self, now: float) -> bool:
        """Whether it gave no sign of life for longer than 95 % of its provider's answers take."""
        factor = self.member.policies.hedge.factor
        silent = self.content_at is None and not self.waits_for_key
        return self.known and silent and now >= self.started + self.late_after / factor

    @property
    def trial(self) -> bool:
        """Whether it tests a provider rather than merely asking it."""
        return self.kind == "trial"

    @property
    def target(self) -> T:
        """The provider to ask."""
        return self.member.target
