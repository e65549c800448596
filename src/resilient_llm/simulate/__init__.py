"""What would a configuration have done?  The production decision core in a modelled world, on a virtual clock.

``python -m resilient_llm.simulate`` runs the fault schedules beside an SDK and an oracle.  See ``docs/simulation.md``.
"""

from resilient_llm.simulate.client import Production, Question
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.schedules import SCHEDULES, Schedule
from resilient_llm.simulate.world import Load, World

__all__ = [
    "SCHEDULES",
    "Load",
    "Nature",
    "Production",
    "Provider",
    "Question",
    "Schedule",
    "Trouble",
    "World",
]
