"""A deterministic simulator: the production decision core in a modelled world, on a virtual clock.

``python -m resilient_llm.testing.simulate`` runs the fault schedules, ``python -m resilient_llm.testing.mutants`` shows
that the checks have teeth.  See ``docs/simulation.md``.
"""

from resilient_llm.testing.simulate.client import Production, Question
from resilient_llm.testing.simulate.fuzz import Run, fuzz
from resilient_llm.testing.simulate.invariants import INVARIANTS, Checker, Violation
from resilient_llm.testing.simulate.providers import Nature, Provider, Trouble
from resilient_llm.testing.simulate.schedules import SCHEDULES, Schedule
from resilient_llm.testing.simulate.world import Load, World

__all__ = [
    "INVARIANTS",
    "SCHEDULES",
    "Checker",
    "Load",
    "Nature",
    "Production",
    "Provider",
    "Question",
    "Run",
    "Schedule",
    "Trouble",
    "Violation",
    "World",
    "fuzz",
]
