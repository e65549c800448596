"""All fault schedules by name."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from resilient_llm.simulate.classic import CLASSIC
from resilient_llm.simulate.everyday import EVERYDAY
from resilient_llm.simulate.schedule import Schedule, Want

__all__ = ["SCHEDULES", "Schedule", "Want"]

SCHEDULES: Final = MappingProxyType({schedule.name: schedule for schedule in (*EVERYDAY, *CLASSIC)})
