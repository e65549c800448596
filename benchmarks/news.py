"""What eight worker processes save by shared news: ``python -m benchmarks.news [--quick]``, about five minutes.

A real Redis (``redis-server`` or ``valkey-server`` on the path), a loopback provider in front and another behind it.
Each scenario runs twice, without and with news; what counts is what the first provider was asked in vain.  ``--calls``
measures instead how long a call takes while the store is well, paused, gone and answers garbage; half a minute.
``--pace`` compares ways to keep to one declared limit in eight processes; five minutes.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from resilient_llm import CallFailed, ResilientClient
from resilient_llm.events import AttemptEnded, Event
from resilient_llm.operate.news import share_news, share_pace
from resilient_llm.providers import Function, OpenAI
from resilient_llm.testing import LoopbackLLM, RateLimit, ReceivedRequest, Reply, Status

WORKERS = 8
SOON = 0.5
"""Seconds between the last worker's being ready and the first call."""


@dataclass(frozen=True)
class Scenario:
    """``rate``: calls a second of each worker, for ``seconds``; ``outage``: from when to when the first provider is
    down; ``limit``: what it takes from all together; ``alone``: there is no second provider."""

    name: str
    rate: float
    seconds: float
    outage: tuple[float, float] | None = None
    limit: RateLimit | None = None
    alone: bool = False
    deadline: float = 10.0


def scenarios(quick: bool) -> list[Scenario]:
    """What is measured."""
    long = 12.0 if quick else 40.0
    after = 10.0 if quick else 20.0
    return [
        Scenario("outage, 0.5 calls a second each", 0.5, long - 6.0 + after, outage=(2.0, long - 6.0)),
        Scenario("outage, 2 calls a second each", 2.0, long - 6.0 + after, outage=(2.0, long - 6.0)),
        Scenario("shared limit, told by headers", 2.0, long, limit=RateLimit(requests=60, per=10.0)),
        Scenario("shared limit, told by 429 alone", 2.0, long, limit=RateLimit(requests=60, per=10.0, dialect="plain")),
        Scenario(
            "the same, no other provider",
            1.0,
            long,
            limit=RateLimit(requests=60, per=10.0, dialect="plain"),
            alone=True,
            deadline=15.0,
        ),
    ]


# --- one worker process ---


def work(orders: dict[str, object]) -> None:
    """Calls at a steady rate; prints what became of them."""
    urls, store = orders["urls"], orders["store"]
    assert isinstance(urls, list)
    rate, seconds = float(str(orders["rate"])), float(str(orders["seconds"]))
    deadline = float(str(orders["deadline"]))
    seen: Counter[str] = Counter()
    guard = threading.Lock()

    def listen(event: Event) -> None:
        if isinstance(event, AttemptEnded) and event.provider == "first":
            with guard:
                seen[event.record.outcome] += 1

    declared = orders.get("declared")
    limits = {"first": None if declared is None else float(str(declared))}
    providers = [
        OpenAI("m", id=name, base_url=url, api_key="k", requests_per_minute=limits.get(name))
        for name, url in zip(("first", "second"), urls, strict=False)
    ]
    client = ResilientClient(providers, listeners=[listen])
    if store:
        share_news(client, str(store), group=str(orders["group"]))
        if orders.get("exact"):
            share_pace(client, str(store), group=str(orders["group"]), workers=WORKERS)

    def call() -> None:
        try:
            client.chat("Hello?", deadline=deadline)
            seen["answered"] += 1
        except CallFailed:
            seen["failed"] += 1

    print("ready", flush=True)
    start = float(sys.stdin.readline())
    offset = float(str(orders["offset"]))
    with ThreadPoolExecutor(64) as pool:
        for number in range(round(rate * seconds)):
            time.sleep(max(0.0, start + offset + number / rate - time.time()))
            pool.submit(call)
    print(json.dumps(seen))


# --- all of them ---


@contextmanager
def redis() -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server of our own, at a Unix socket."""
    server = shutil.which("redis-server") or shutil.which("valkey-server")
    if server is None:
        sys.exit("needs redis-server or valkey-server on the path")
    with tempfile.TemporaryDirectory(prefix="rl") as directory:
        path = Path(directory, "s")
        options = ["--port", "0", "--unixsocket", str(path), "--save", "", "--appendonly", "no", "--dir", directory]
        process = subprocess.Popen([server, *options], stdout=subprocess.DEVNULL)
        try:
            while not path.exists():
                time.sleep(0.01)
            yield f"unix://{path}", process
        finally:
            process.kill()
            process.wait()


def run(scenario: Scenario, store: str) -> dict[str, int]:
    """One run of eight workers."""
    answer = Reply("Hello.", delay=0.05)
    with LoopbackLLM(default=answer) as first, LoopbackLLM(default=answer) as second:
        first.limit = scenario.limit
        begins, ends = scenario.outage or (0.0, 0.0)
        orders = {
            "urls": [f"{first.url}/v1"] if scenario.alone else [f"{first.url}/v1", f"{second.url}/v1"],
            "store": store,
            "group": str(time.time()),
            "seconds": scenario.seconds,
            "deadline": scenario.deadline,
        }
        workers = started(orders, [scenario.rate] * WORKERS)
        start = begun(workers)
        if scenario.outage is not None:
            at(start + begins, lambda: setattr(first, "default", Status(503)))
            at(start + ends, lambda: setattr(first, "default", answer))
        total = told(workers)
    return {**total, "calls": WORKERS * round(scenario.rate * scenario.seconds)}


def started(orders: dict[str, object], rates: list[float]) -> list[subprocess.Popen[str]]:
    """A worker for each rate."""
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.news", "--worker"),
                json.dumps({**orders, "rate": rate, "offset": number / len(rates) / rate}),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for number, rate in enumerate(rates)
    ]


def told(workers: list[subprocess.Popen[str]]) -> Counter[str]:
    """What became of all their calls."""
    total: Counter[str] = Counter()
    for worker in workers:
        total.update(json.loads(worker.communicate()[0]))
    return total


# --- one declared limit ---

LIMIT, LASTS = 60, 40.0
"""Requests a minute that all may make together, and seconds of a run."""
LOADS = {"the same from each": [0.5] * WORKERS, "half of them from one": [2.0, *([2.0 / 7.0] * 7)]}
WAYS: dict[str, dict[str, object]] = {
    "nothing declared": {},
    "nothing declared, with news": {"store": True},
    "each declares the limit": {"declared": LIMIT},
    "each declares an eighth": {"declared": LIMIT / WORKERS},
    "`share_pace`": {"declared": LIMIT, "store": True, "exact": True},
}


class Bucket:
    """A provider's limit that fills all the time, as OpenAI's and Anthropic's do."""

    def __init__(self) -> None:
        self.level, self.at = float(LIMIT), time.monotonic()

    def __call__(self, request: ReceivedRequest) -> Reply | Status:
        """An answer, or a refusal."""
        now = time.monotonic()
        self.level, self.at = min(LIMIT, self.level + (now - self.at) * LIMIT / 60.0), now
        if self.level < 1.0:
            return Status(429, retry_after=max(1, math.ceil((1.0 - self.level) * 60.0 / LIMIT)))
        self.level -= 1.0
        return Reply("Hello.", delay=0.05)


def paces(store: str) -> None:
    """Print what becomes of one limit."""
    print(f"| calls | how | asked in vain | answered by the first, of {LIMIT + LASTS * LIMIT / 60:.0f} | answered |")
    print("|---|---|---|---|---|")
    for load, rates in LOADS.items():
        for way, its in WAYS.items():
            answer = Reply("Hello.", delay=0.05)
            with LoopbackLLM(default=Bucket()) as first, LoopbackLLM(default=answer) as second:
                orders: dict[str, object] = {
                    "urls": [f"{first.url}/v1", f"{second.url}/v1"],
                    "group": str(time.time()),
                    "seconds": LASTS,
                    "deadline": 10.0,
                    **its,
                    "store": store if its.get("store") else "",
                }
                workers = started(orders, rates)
                begun(workers)
                total = told(workers)
            calls = sum(round(rate * LASTS) for rate in rates)
            print(
                f"| {load} | {way} | {total['error']} | {total['success']} | {100 * total['answered'] / calls:.1f} % |",
                flush=True,
            )


# --- all of them: when they begin ---


def begun(workers: list[subprocess.Popen[str]]) -> float:
    """When all of them, being ready, begin."""
    for worker in workers:
        assert worker.stdout is not None
        worker.stdout.readline()
    start = time.time() + SOON
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.write(f"{start}\n")
        worker.stdin.flush()
    return start


def at(when: float, what: Callable[[], object]) -> None:
    """Do this at a time."""
    time.sleep(max(0.0, when - time.time()))
    what()


# --- what it costs a call ---


def calls() -> None:
    """Print how long calls take while the store does this and that."""
    print("| the store | median | 99th percentile | 99.9th |")
    print("|---|---|---|---|")
    with redis() as (store, process), garbage() as stranger:
        print(took("none: no news are shared", None))
        print(took("is well", store))
        process.send_signal(signal.SIGSTOP)
        print(took("stands still (SIGSTOP)", store))
        process.send_signal(signal.SIGCONT)
        print(took("answers garbage", stranger))
        process.kill()
        print(took("is gone", store))


def took(what: str, store: str | None) -> str:
    """A row: calls for five seconds, with a round of news every 20 ms, which is a dozen times as often as usual."""
    times: list[float] = []
    with ResilientClient([Function(lambda messages: "yes", id="x")]) as client:
        news = None if store is None else share_news(client, store, every=0.02)
        ends = time.monotonic() + 5.0
        while (began := time.perf_counter()) and time.monotonic() < ends:
            client.chat("?")
            times.append(time.perf_counter() - began)
            if news is not None:
                news._not_before = 0.0  # never spared because it failed
            time.sleep(0.0005)
        if news is not None:
            news.close()
    times.sort()
    cells = [f"{1e6 * times[int(share * len(times))]:.0f} µs" for share in (0.5, 0.99, 0.999)]
    return f"| {what} | {' | '.join(cells)} |"


@contextmanager
def garbage() -> Iterator[str]:
    """The address of a server that answers anything with noise."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    with listening.accept()[0] as connection, suppress(OSError):
                        connection.recv(65536)
                        connection.sendall(b"\x00\xff*1\r\n" * 100)

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{listening.getsockname()[1]}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.news", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter and less exact")
    parser.add_argument("--calls", action="store_true", help="how long a call takes, whatever the store does")
    parser.add_argument("--pace", action="store_true", help="one declared limit in eight processes")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.calls:
        calls()
        return
    if given.pace:
        with redis() as (store, _):
            paces(store)
        return
    if given.worker:
        work(json.loads(given.worker))
        return
    print("| scenario | calls | asked in vain | with news | answered | with news |")
    print("|---|---|---|---|---|---|")
    with redis() as (store, _):
        for scenario in scenarios(given.quick):
            without, shared = run(scenario, ""), run(scenario, store)
            cells = [f"{one['calls']:.0f}" for one in (without,)]
            cells += [f"{one.get('error', 0):.0f}" for one in (without, shared)]
            cells += [f"{100 * one.get('answered', 0) / one['calls']:.1f} %" for one in (without, shared)]
            print(f"| {scenario.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
