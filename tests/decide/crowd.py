"""Many callers at providers that have rate limits, in virtual time: the servers are the loopback server's limiters."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.errors import Fault, FaultKind, ResilientError
from resilient_llm.testing import RateLimit
from resilient_llm.testing.limits import Limiter
from resilient_llm.wire.faults.ratelimit import parse_rate_limit
from tests.decide.driver import Driver, Run
from tests.decide.world import Provider, Target


class Server:
    """Answers after ``seconds``; a request is on its way for up to ``transit`` seconds either way, so that requests
    overtake each other.  ``limit=None``: no limit.  ``hints=False``: it says nothing, not even when it refuses."""

    def __init__(
        self,
        limit: Mapping[str, Any] | None = None,
        *,
        seconds: float = 0.05,
        transit: float = 0.02,
        hints: bool = True,
    ) -> None:
        self.seconds, self.transit, self.hints = seconds, transit, hints
        self.limit = limit
        self.limiter: Limiter | None = None
        self.requests: Counter[int] = Counter()

    def begin(self, clock: Callable[[], float]) -> None:
        self.limiter = None if self.limit is None else Limiter(RateLimit(clock=clock, **self.limit))

    def admit(self, key: int, tokens: int) -> tuple[dict[str, str], Fault | None]:
        self.requests[key] += 1
        if self.limiter is None:
            return {}, None
        found = self.limiter.admit(str(key), tokens)
        headers = dict(found.headers) if self.hints else {}
        if found.admitted:
            return headers, None
        wait = headers.get("retry-after-ms")
        after = float(wait) / 1000.0 if wait else float(headers["retry-after"]) if headers else None
        return headers, Fault(FaultKind.RATE_LIMITED, status=429, retry_after=after)


class Visit(Run):
    """A call whose attempts travel to a server and back."""

    driver: Crowd
    worker: Work | None = None
    _end: str | ResilientError | None = None

    @property
    def end(self) -> str | ResilientError | None:
        """How it ended."""
        return self._end

    @end.setter
    def end(self, value: str | ResilientError | None) -> None:
        self._end = value
        if value is not None:
            self.over()

    def over(self) -> None:
        """It ended: its worker begins the next."""
        if self.worker is not None:
            self.driver.at(self.driver.now + self.worker.pause, self.driver.next, self.worker)
            self.worker = None

    def launch(self, attempt: Attempt[Target]) -> None:
        self.driver.requests.append((self.driver.now, attempt.target.id, attempt))
        self.running.append(attempt)
        server = self.driver.servers[attempt.target.id]
        self.driver.at(self.driver.now + server.transit * self.driver.luck.random(), self.arrived, attempt, server)
        if self.call.deadline < 1e9:
            self.driver.at(self.call.deadline, self.out_of_time, attempt)
        self.arm(attempt)

    def arrived(self, attempt: Attempt[Target], server: Server) -> None:
        driver = self.driver
        headers, fault = server.admit(attempt.key.number, attempt.ask.tokens + 50)
        took = server.transit * driver.luck.random() + (server.seconds if fault is None else 0.0)
        driver.at(driver.now + took, self.heard, attempt, headers, fault)

    def heard(self, attempt: Attempt[Target], headers: dict[str, str], fault: Fault | None) -> None:
        if attempt.released:
            return
        limits = parse_rate_limit("openai", headers, now=time.time())
        if limits.requests.remaining is not None or limits.tokens.remaining is not None:
            self.driver.pool.learn(attempt, self.driver.now, limits.requests, limits.tokens)
        if fault is None:
            self.call.succeeded(attempt, self.driver.now, 50, 200, attempt.ask.tokens + 50)
            self.won(attempt)
            self.end, self.ended, self.by = "answered", self.driver.now, attempt.target.id
        else:
            self.failed(attempt, fault)


@dataclass
class Work:
    """Somebody who makes one call after the other, with these options, from ``start`` on."""

    left: Iterator[object]
    options: dict[str, Any] = field(default_factory=dict)
    runs: list[Run] = field(default_factory=list)
    timeout: float = 600.0
    start: float = 0.0
    pause: float = 0.0


class Crowd(Driver):
    """Workers, servers and the time."""

    def __init__(self, servers: Mapping[str, Server], *tiers: Provider | list[Provider], **settings: Any) -> None:
        settings.setdefault("delay", lambda: 0.001)
        super().__init__({}, *(tiers or tuple(servers)), **settings)
        self.servers = servers
        self.workers: list[Work] = []
        for server in servers.values():
            server.begin(lambda: self.now)

    def work(self, workers: int, prompts: int, **how: Any) -> list[Work]:
        """So many workers share so many prompts."""
        left = iter(range(prompts))
        names = ("timeout", "start", "pause")
        options = {name: value for name, value in how.items() if name not in names}
        timing = {name: how[name] for name in names if name in how}
        made = [Work(left, options, **timing) for _ in range(workers)]
        self.workers += made
        return made

    def all(self, until: float = 1e6) -> Crowd:
        """Let everybody work until there are no prompts, or the time is over."""
        self.end = until
        for worker in self.workers:
            self.at(worker.start, self.next, worker)
        self.run()
        return self

    def next(self, worker: Work) -> None:
        if self.now >= self.end or next(worker.left, None) is None:
            return
        run = Visit(self, self.ask(worker))
        run.worker = worker
        worker.runs.append(run)
        self.runs.append(run)
        self.at(self.now, run.go_on, 0)

    def ask(self, worker: Work) -> Ask:
        return Ask("main", self.now + worker.timeout, **worker.options)

    # --- how it went ---

    @property
    def refused(self) -> int:
        return len(self.requests) - sum(run.answered for run in self.runs)

    @property
    def lost(self) -> list[Run]:
        return [run for run in self.runs if not run.answered]

    @property
    def seconds(self) -> float:
        return max(run.ended for run in self.runs)

    @property
    def slowest(self) -> float:
        return max(run.took for run in self.runs)


def spread(luck: random.Random) -> Callable[[], float]:
    """How long a woken call takes to run, on a busy machine."""
    return lambda: 0.0005 + 0.002 * luck.random()
