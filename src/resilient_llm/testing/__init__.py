"""For your tests and ours: servers, providers and transports that misbehave on purpose, and time that obeys.

See ``docs/testing.md``; chaos experiments are in :mod:`resilient_llm.chaos`.  The fixtures are in
:mod:`resilient_llm.testing.pytest_plugin`.  Each name is imported when it is first asked for, so that the pytest plugin
costs nothing where it is not used.  Types for annotations stand beside what they describe: ``Behaviour``, ``Answer``
and ``StreamFault`` in ``testing.script``, ``FaultsLike``, ``Schedule`` and ``Injected`` in ``testing.faults``,
``Responder`` in ``testing.loopback``, ``ScriptStep`` in ``testing.scripted``.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.testing.clock import EventRecorder, ManualClock
    from resilient_llm.testing.control import inject, instant
    from resilient_llm.testing.faults import Faults, Injection, Latency, Mishap, SlowTokens
    from resilient_llm.testing.faulty import AsyncFaultyProvider, FaultyProvider
    from resilient_llm.testing.loopback import LoopbackLLM, ReceivedRequest
    from resilient_llm.testing.script import (
        Close,
        Cut,
        Drip,
        EndlessHeaders,
        Hang,
        InBandError,
        Malformed,
        RateLimit,
        Raw,
        Reply,
        Reset,
        Stall,
        Status,
    )
    from resilient_llm.testing.scripted import AsyncScriptedProvider, ScriptedProvider
    from resilient_llm.testing.transport import FaultyTransport

__all__ = [
    "AsyncFaultyProvider",
    "AsyncScriptedProvider",
    "Close",
    "Cut",
    "Drip",
    "EndlessHeaders",
    "EventRecorder",
    "Faults",
    "FaultyProvider",
    "FaultyTransport",
    "Hang",
    "InBandError",
    "Injection",
    "Latency",
    "LoopbackLLM",
    "Malformed",
    "ManualClock",
    "Mishap",
    "RateLimit",
    "Raw",
    "ReceivedRequest",
    "Reply",
    "Reset",
    "ScriptedProvider",
    "SlowTokens",
    "Stall",
    "Status",
    "inject",
    "instant",
]

_HOMES = {
    "clock": ("EventRecorder", "ManualClock"),
    "control": ("inject", "instant"),
    "faults": ("Faults", "Injection", "Latency", "Mishap", "SlowTokens"),
    "faulty": ("AsyncFaultyProvider", "FaultyProvider"),
    "loopback": ("LoopbackLLM", "ReceivedRequest"),
    "script": (
        *("Close", "Cut", "Drip", "EndlessHeaders", "Hang", "InBandError", "Malformed"),
        *("RateLimit", "Raw", "Reply", "Reset", "Stall", "Status"),
    ),
    "scripted": ("AsyncScriptedProvider", "ScriptedProvider"),
    "transport": ("FaultyTransport",),
}
"""Module -> the names it is the home of."""


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
