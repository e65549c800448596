"""Servers on this machine in the vendors' places, so that the applications beside this file run without a key."""

from __future__ import annotations

import os
from itertools import cycle

from resilient_llm.testing import LoopbackLLM, Reply, Status

ANSWER = "Sunlight meets air, and the air scatters blue far more than red, so blue is what reaches us."
GOOD = Reply(ANSWER, first_token=0.2, interval=0.05)


def urls() -> list[str]:
    """The servers to ask: those named in ``LLM_URLS``, or two that live as long as this process, of which the first
    one fails every second request."""
    named = os.environ.get("LLM_URLS", "").split()
    if named:
        return named
    behaviours = cycle([GOOD, Status(503)])
    servers = [LoopbackLLM(default=lambda request: next(behaviours)), LoopbackLLM(default=GOOD)]
    return [f"{server.start().url}/v1" for server in servers]
