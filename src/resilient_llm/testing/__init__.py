"""For your tests and ours: servers, providers and transports that misbehave on purpose, time that obeys, and chaos
experiments.

See ``docs/testing.md`` and ``docs/chaos.md``.  The fixtures are in :mod:`resilient_llm.testing.pytest_plugin`.  Each
name is imported when it is first asked for, so that the pytest plugin costs nothing where it is not used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.chaos.experiment import Experiment, Hypothesis, Traffic
    from resilient_llm.chaos.report import ChaosReport, Verdict
    from resilient_llm.testing.clock import EventRecorder, ManualClock
    from resilient_llm.testing.control import inject, instant
    from resilient_llm.testing.faults import (
        Faults,
        FaultsLike,
        Injected,
        Injection,
        Latency,
        Line,
        Mishap,
        Schedule,
        SlowTokens,
    )
    from resilient_llm.testing.loopback import LoopbackLLM, ReceivedRequest, Responder
    from resilient_llm.testing.script import (
        Answer,
        Behaviour,
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
        StreamFault,
        gzip_bomb,
    )
    from resilient_llm.testing.scripted import (
        AsyncFaultyProvider,
        AsyncScriptedProvider,
        FaultyProvider,
        ScriptedProvider,
        ScriptStep,
    )
    from resilient_llm.chaos.timeline.figures import Totals
    from resilient_llm.testing.transport import FaultyTransport

__all__ = [
    "Answer",
    "AsyncFaultyProvider",
    "AsyncScriptedProvider",
    "Behaviour",
    "ChaosReport",
    "Close",
    "Cut",
    "Drip",
    "EndlessHeaders",
    "EventRecorder",
    "Experiment",
    "Faults",
    "FaultsLike",
    "FaultyProvider",
    "FaultyTransport",
    "Hang",
    "Hypothesis",
    "InBandError",
    "Injected",
    "Injection",
    "Latency",
    "Line",
    "LoopbackLLM",
    "Malformed",
    "ManualClock",
    "Mishap",
    "RateLimit",
    "Raw",
    "ReceivedRequest",
    "Reply",
    "Reset",
    "Responder",
    "Schedule",
    "ScriptStep",
    "ScriptedProvider",
    "SlowTokens",
    "Stall",
    "Status",
    "StreamFault",
    "Totals",
    "Traffic",
    "Verdict",
    "gzip_bomb",
    "inject",
    "instant",
]

_HOMES = {
    "chaos": ("Experiment", "Hypothesis", "Traffic"),
    "chaos_report": ("ChaosReport", "Verdict"),
    "clock": ("EventRecorder", "ManualClock"),
    "control": ("inject", "instant"),
    "faults": ("Faults", "FaultsLike", "Injected", "Injection", "Latency", "Line", "Mishap", "Schedule", "SlowTokens"),
    "loopback": ("LoopbackLLM", "ReceivedRequest", "Responder"),
    "script": (
        *("Answer", "Behaviour", "Close", "Cut", "Drip", "EndlessHeaders", "Hang", "InBandError", "Malformed"),
        *("RateLimit", "Raw", "Reply", "Reset", "Stall", "Status", "StreamFault", "gzip_bomb"),
    ),
    "scripted": (
        *("AsyncFaultyProvider", "AsyncScriptedProvider", "FaultyProvider", "ScriptStep", "ScriptedProvider"),
    ),
    "timeline.figures": ("Totals",),
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
