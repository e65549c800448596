"""For your tests and ours: a loopback LLM server that misbehaves on purpose, a manual clock, an event recorder.

See ``docs/testing.md``.  The fixtures are in :mod:`resilient_llm.testing.pytest_plugin`.
"""

from resilient_llm.testing.clock import EventRecorder, ManualClock
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

__all__ = [
    "Answer",
    "Behaviour",
    "Close",
    "Cut",
    "Drip",
    "EndlessHeaders",
    "EventRecorder",
    "Hang",
    "InBandError",
    "LoopbackLLM",
    "Malformed",
    "ManualClock",
    "RateLimit",
    "Raw",
    "ReceivedRequest",
    "Reply",
    "Reset",
    "Responder",
    "Stall",
    "Status",
    "StreamFault",
    "gzip_bomb",
]
