"""Pytest fixtures: ``loopback_llm``, ``manual_clock``, ``event_recorder``.

Where the package's entry point is not loaded, put ``pytest_plugins = ["resilient_llm.testing.pytest_plugin"]`` into
the topmost ``conftest.py``.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient_llm.testing.clock import EventRecorder, ManualClock
from resilient_llm.testing.loopback import LoopbackLLM

__all__ = ["event_recorder", "loopback_llm", "manual_clock"]


@pytest.fixture
def loopback_llm() -> Iterator[LoopbackLLM]:
    """A running :class:`~resilient_llm.testing.LoopbackLLM`, closed after the test."""
    with LoopbackLLM() as server:
        yield server


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock at 1000 seconds that moves only when told to."""
    return ManualClock()


@pytest.fixture
def event_recorder() -> EventRecorder:
    """A listener that stores every event."""
    return EventRecorder()
