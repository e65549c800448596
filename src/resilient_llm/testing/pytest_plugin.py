"""Pytest fixtures: ``loopback_llm``, ``manual_clock``, ``event_recorder``, ``scripted_provider``,
``async_scripted_provider``, ``faults``, ``inject_faults`` and ``instantly``.

They are there wherever the package is installed.  If plugins are not loaded by entry point
(``PYTEST_DISABLE_PLUGIN_AUTOLOAD``), put ``pytest_plugins = ["resilient_llm.testing.pytest_plugin"]`` into the topmost
``conftest.py``.  Nothing but pytest is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from resilient_llm.client import AsyncResilientClient, ResilientClient
    from resilient_llm.testing import (
        AsyncScriptedProvider,
        EventRecorder,
        Faults,
        LoopbackLLM,
        ManualClock,
        ScriptedProvider,
    )
    from resilient_llm.testing.faults import FaultsLike

__all__ = [
    "async_scripted_provider",
    "event_recorder",
    "faults",
    "inject_faults",
    "instantly",
    "loopback_llm",
    "manual_clock",
    "scripted_provider",
]


@pytest.fixture
def loopback_llm() -> Iterator[LoopbackLLM]:
    """A running :class:`~resilient_llm.testing.LoopbackLLM`, closed after the test."""
    from resilient_llm.testing import LoopbackLLM  # noqa: PLC0415 - pytest imports this module in every project

    with LoopbackLLM() as server:
        yield server


@pytest.fixture
def manual_clock() -> ManualClock:
    """A clock at 1000 seconds that moves only when told to."""
    from resilient_llm.testing import ManualClock  # noqa: PLC0415

    return ManualClock()


@pytest.fixture
def event_recorder() -> EventRecorder:
    """A listener that stores every event."""
    from resilient_llm.testing import EventRecorder  # noqa: PLC0415

    return EventRecorder()


@pytest.fixture
def scripted_provider() -> Callable[..., ScriptedProvider]:
    """Makes a :class:`~resilient_llm.testing.ScriptedProvider`."""
    from resilient_llm.testing import ScriptedProvider  # noqa: PLC0415

    return ScriptedProvider


@pytest.fixture
def async_scripted_provider() -> Callable[..., AsyncScriptedProvider]:
    """Makes an :class:`~resilient_llm.testing.AsyncScriptedProvider`."""
    from resilient_llm.testing import AsyncScriptedProvider  # noqa: PLC0415

    return AsyncScriptedProvider


@pytest.fixture
def faults() -> Callable[..., Faults]:
    """Makes a :class:`~resilient_llm.testing.Faults`."""
    from resilient_llm.testing import Faults  # noqa: PLC0415

    return Faults


@pytest.fixture
def inject_faults() -> Iterator[
    Callable[[ResilientClient | AsyncResilientClient, Mapping[str, FaultsLike]], Mapping[str, Faults]]
]:
    """``inject_faults(client, {provider id: faults})`` until the test ends; see
    :func:`~resilient_llm.testing.inject`."""
    from resilient_llm.testing import inject  # noqa: PLC0415

    with ExitStack() as stack:
        yield lambda client, faults: stack.enter_context(inject(client, faults))


@pytest.fixture
def instantly() -> Iterator[Callable[[ResilientClient | AsyncResilientClient], ManualClock]]:
    """``clock = instantly(client)``: its waits take no time until the test ends; see
    :func:`~resilient_llm.testing.instant`."""
    from resilient_llm.testing import instant  # noqa: PLC0415

    with ExitStack() as stack:
        yield lambda client: stack.enter_context(instant(client))
