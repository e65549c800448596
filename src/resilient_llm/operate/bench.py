"""``python -m resilient_llm bench``: what one call costs on this machine, beside bare httpx.

A server in a process of its own answers at once, so that what is measured is the client's side alone: CPU time of this
process, and how long a call takes.  Batches of each take turns, because a machine has better and worse moments; the
figures are the best batch's, the ratio the median over the rounds.  It sends nothing to anybody else.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Final, TypeAlias

import httpx

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.operate.look import Sheet, row, write
from resilient_llm.providers.openai import OpenAICompatible
from resilient_llm.version import __version__

Batch: TypeAlias = Callable[[int], object]
"""Makes so many calls."""

_PROMPT: Final = "Why is the sky blue?"
_BODY: Final = {"model": "model", "messages": [{"role": "user", "content": _PROMPT}]}
_KEY: Final = {"authorization": "Bearer key"}
_SERVER: Final = """
import sys
from resilient_llm.testing import LoopbackLLM, Reply
with LoopbackLLM(default=Reply("word " * 100), record=False) as server:
    print(server.url, flush=True)
    sys.stdin.read()
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("--calls", type=_count, default=60, metavar="N", help="in a batch (%(default)s)")
    parser.add_argument("--rounds", type=_count, default=7, metavar="N", help="batches of each (%(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measure, and print the figures.  Returns 0, or 130 after Ctrl-C."""
    if sys.stderr.isatty():
        sys.stderr.write("measuring...\n")
    try:
        found = measure(arguments.calls, arguments.rounds)
    except KeyboardInterrupt:
        return 130
    if arguments.json:
        sys.stdout.write(json.dumps({**_machine(), "figures": [one.as_json() for one in found]}, indent=2) + "\n")
        return 0
    rows = [
        row(one.what, f"{one.cpu * 1e6:.0f} us", f"{one.wall * 1e6:.0f} us", f"{one.ratio:.2f} x {one.beside}")
        for one in found
    ]
    machine = [row(name.replace("_", " "), value) for name, value in _machine().items()]
    heads = ("one call", "CPU", "takes", "CPU beside")
    write(sys.stdout, Sheet("What a call costs on this machine", rows, heads), Sheet("", machine))
    return 0


@dataclass(frozen=True, slots=True)
class Figure:
    """One thing that was measured: seconds of CPU time and of waiting for a call, and CPU time as a multiple of what
    stands ``beside`` it."""

    what: str
    cpu: float
    wall: float
    ratio: float
    beside: str

    def as_json(self) -> dict[str, object]:
        """As plain data, in microseconds."""
        return {
            "what": self.what,
            "cpu_us": round(self.cpu * 1e6, 1),
            "wall_us": round(self.wall * 1e6, 1),
            "ratio": round(self.ratio, 3),
            "beside": self.beside,
        }


def measure(calls: int, rounds: int) -> list[Figure]:
    """Measure both clients beside httpx: ``rounds`` batches of ``calls`` calls of each."""
    with _serving() as url, asyncio.Runner() as runner, ExitStack() as stack:
        groups = (_sync(stack, url), _async(stack, runner, url))
        return [one for group in groups for one in _compared(group, calls, rounds)]


def _sync(stack: ExitStack, url: str) -> Mapping[str, Batch]:
    bare = stack.enter_context(httpx.Client(headers=_KEY))
    ours = stack.enter_context(ResilientClient(_providers(url)))

    def bare_calls(count: int) -> None:
        for _ in range(count):
            bare.post(url + "/v1/chat/completions", json=_BODY).json()

    def our_calls(count: int) -> None:
        for _ in range(count):
            ours.chat(_PROMPT)

    def streams(count: int) -> None:
        for _ in range(count):
            with ours.stream(_PROMPT) as stream:
                for _ in stream.text_deltas():
                    pass

    return {"httpx.Client.post().json()": bare_calls, "client.chat()": our_calls, "a stream of 100 tokens": streams}


def _async(stack: ExitStack, runner: asyncio.Runner, url: str) -> Mapping[str, Batch]:
    bare, ours = httpx.AsyncClient(headers=_KEY), AsyncResilientClient(_providers(url))
    stack.callback(lambda: runner.run(bare.aclose()))
    stack.callback(lambda: runner.run(ours.aclose()))

    async def bare_calls(count: int) -> None:
        for _ in range(count):
            (await bare.post(url + "/v1/chat/completions", json=_BODY)).json()

    async def our_calls(count: int) -> None:
        for _ in range(count):
            await ours.chat(_PROMPT)

    return {
        "await httpx.AsyncClient.post()": lambda count: runner.run(bare_calls(count)),
        "await client.chat()": lambda count: runner.run(our_calls(count)),
    }


def _providers(url: str) -> list[OpenAICompatible]:
    """Two, so that there is somebody to fail over to."""
    return [OpenAICompatible("model", id=name, base_url=f"{url}/v1", api_key="key") for name in ("first", "second")]


def _compared(group: Mapping[str, Batch], calls: int, rounds: int) -> list[Figure]:
    """Batches of each in turns; the first of the group is what the others stand beside."""
    for batch in group.values():
        batch(max(calls // 4, 1))
    names = list(group)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for turn in range(rounds):
        for name in names if turn % 2 else reversed(names):
            found[name].append(_timed(group[name], calls))
    bare = names[0]
    return [
        Figure(
            name,
            min(cpu for cpu, _ in times),
            min(wall for _, wall in times),
            median(mine / theirs for (mine, _), (theirs, _) in zip(times, found[bare], strict=True)),
            bare,
        )
        for name, times in found.items()
    ]


def _timed(batch: Batch, calls: int) -> tuple[float, float]:
    """Seconds of CPU time and of waiting for a call; garbage is collected between batches only."""
    gc.collect()
    gc.disable()
    try:
        cpu, wall = time.process_time(), time.perf_counter()
        batch(calls)
        return (time.process_time() - cpu) / calls, (time.perf_counter() - wall) / calls
    finally:
        gc.enable()


@contextmanager
def _serving() -> Generator[str]:
    """The URL of a server in a process of its own."""
    command = [sys.executable, "-c", _SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()


def _machine() -> dict[str, str]:
    return {
        "resilient_llm": __version__,
        "httpx": httpx.__version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.machine()}",
    }


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be 1 or more, not {number}")
    return number
