"""Loopback servers that limit, in a process of their own: ``python -m benchmarks.limited PLANS``.

A plan is a dictionary: ``rate`` requests a second (without one: no limit), ``delay`` seconds to answer, ``dialect`` of
the headers (``openai`` by default, ``plain``: whole seconds of Retry-After alone), ``silent``: not even that,
``chance``: the share of requests that are refused at random, whatever the rate (``hint``: with Retry-After).
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Self

from resilient_llm.testing import LoopbackLLM, RateLimit, ReceivedRequest, Reply, Status

ROOT = Path(__file__).parents[1]


class Silent:
    """At most so many requests in any second; the others are refused without a word about when to come back."""

    def __init__(self, rate: int, delay: float) -> None:
        self._rate = rate
        self._reply = Reply("ok", delay=delay)
        self._passed: deque[float] = deque()

    def __call__(self, request: ReceivedRequest) -> Reply | Status:
        now = time.monotonic()
        while self._passed and self._passed[0] + 1.0 <= now:
            self._passed.popleft()
        if len(self._passed) >= self._rate:
            return Status(429)
        self._passed.append(now)
        return self._reply


class Chance:
    """Refuses a share of the requests, whoever comes when."""

    def __init__(self, share: float, delay: float, hint: str | None) -> None:
        self._share, self._luck = share, random.Random(7)
        self._reply = Reply("ok", delay=delay)
        self._refusal = Status(429, headers={} if hint is None else {"retry-after": hint})

    def __call__(self, request: ReceivedRequest) -> Reply | Status:
        return self._refusal if self._luck.random() < self._share else self._reply


def server(plan: dict[str, Any]) -> LoopbackLLM:
    """A server as planned."""
    rate, delay = plan.get("rate"), plan.get("delay", 0.0)
    if plan.get("chance"):
        return LoopbackLLM(default=Chance(plan["chance"], delay, plan.get("hint")), record=False)
    if plan.get("silent"):
        return LoopbackLLM(default=Silent(plan["rate"], delay), record=False)
    limit = RateLimit(requests=rate, per=1.0, dialect=plan.get("dialect", "openai")) if rate else None
    return LoopbackLLM(default=Reply("ok", delay=delay), limit=limit, record=False)


def main(plans: str) -> None:
    """Serve until the input ends; tell the URLs, and at each line of input how many requests came."""
    servers = [server(plan).start() for plan in json.loads(plans)]
    print(json.dumps([one.url for one in servers]), flush=True)
    for _ in sys.stdin:
        print(json.dumps([one.request_count for one in servers]), flush=True)


class Served:
    """The servers, from the outside."""

    def __init__(self, *plans: dict[str, object]) -> None:
        command = [sys.executable, "-m", "benchmarks.limited", json.dumps(plans)]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.urls: list[str] = self._line()
        self.rates: list[Any] = [plan.get("rate") or 10_000 for plan in plans]

    def _line(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def requests(self) -> int:
        """How many came so far."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return sum(self._line())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()


if __name__ == "__main__":
    main(sys.argv[1])
