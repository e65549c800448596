"""Two servers of llmock (PyPI): faults are scripted at the preferred one, the other one is well.  Each case asks a few
times with ten seconds each; it passes if every answer is whole, no break goes unnoticed, and llmock's own verdict finds
nothing wrong with the client."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx

from benchmarks.beds.others import free_port, python_package, serving
from resilient_llm import ResilientClient, StreamInterrupted
from resilient_llm.providers import OpenAI

DEADLINE: Final = 10.0
_CALLS: Final = 3
_UNSEEN: Final = "truncated_stream_accepted"
"""What the first server cannot judge: it does not see that the other one was asked, or that the caller was told."""

Use = Callable[[ResilientClient, str], bool]
"""Makes one call; whether it ended as it should."""


def _chat(client: ResilientClient, prompt: str) -> bool:
    return prompt in client.chat(prompt, deadline=DEADLINE).text


def _stream(client: ResilientClient, prompt: str) -> bool:
    with client.stream(prompt, deadline=DEADLINE) as stream:
        text = "".join(stream.text_deltas())
    return prompt in text


def _stream_or_told(client: ResilientClient, prompt: str) -> bool:
    """A break after content cannot be repaired, but must be told, with what had arrived."""
    try:
        return _stream(client, prompt)
    except StreamInterrupted as broken:
        return bool(broken.partial.text)


class Case(NamedTuple):
    """What happens at the preferred server, and how it is used."""

    name: str
    behaviours: tuple[dict[str, Any], ...]
    use: Use = _chat


def _fail(status: int, times: int | None = 1, **more: object) -> dict[str, Any]:
    return {"type": "fail", "status": status, "times": times, **more}


def _broken(kind: str, after: int, **more: object) -> dict[str, Any]:
    return {"type": "stream_fault", "kind": kind, "after_chunks": after, **more}


CASES: Final = (
    Case("a 500", (_fail(500),)),
    Case("down for good", (_fail(503, None),)),
    Case("two 429 with Retry-After", (_fail(429, 2, retry_after=1),)),
    Case("429 for good, without a hint", (_fail(429, None),)),
    Case("the key is refused", (_fail(401, None),)),
    Case("no such model", (_fail(404, None),)),
    Case("the prompt is too long for it", (_fail(400, None, code="context_length_exceeded", message="too long"),)),
    Case("a whole answer that is 20 s late", ({"type": "delay", "seconds": 20},)),
    Case("a first token that is 20 s late", ({"type": "slow_first_token", "seconds": 20},), _stream),
    Case("a stream cut before content", (_broken("disconnect", 0),), _stream),
    Case("a stream that ends before content", (_broken("truncate", 0),), _stream),
    Case("a stream cut after content", (_broken("disconnect", 3),), _stream_or_told),
    Case("a stream that ends early after content", (_broken("truncate", 3),), _stream_or_told),
    Case("a stream with a damaged chunk", (_broken("malformed", 3),), _stream_or_told),
)


def _run(case: Case, first: str, second: str) -> str:
    """What is wrong; empty if nothing is."""
    for url in (first, second):
        httpx.post(f"{url}/_llmock/reset").raise_for_status()
    httpx.post(f"{first}/_llmock/scenario", json={"behaviors": case.behaviours}).raise_for_status()
    providers = [
        OpenAI("gpt-4o-mini", id=name, base_url=f"{url}/v1", api_key="k")
        for name, url in (("first", first), ("second", second))
    ]
    with ResilientClient(providers) as client:
        for number in range(_CALLS):
            try:
                if not case.use(client, f"question {number}"):
                    return f"call {number}: not the answer"
            except Exception as error:
                return f"call {number}: {type(error).__name__}: {error}"
    for url in (first, second):
        verdict = httpx.get(f"{url}/_llmock/verdict").json()
        errors = [f for f in verdict["findings"] if f["severity"] == "error" and f["code"] != _UNSEEN]
        if errors:
            return f"llmock says: {errors}"
    return ""


def main(arguments: Sequence[str]) -> int:
    """The command."""
    argparse.ArgumentParser(prog="python -m benchmarks.beds llmock", description=__doc__).parse_args(arguments)
    program: Path = python_package("llmock") / "llmock"
    passed = 0
    with ExitStack() as servers:
        ports = [free_port(), free_port()]
        first, second = (
            servers.enter_context(serving([program, "serve", "--port", str(port), "--response-style", "echo"], port))
            for port in ports
        )
        for case in CASES:
            wrong = _run(case, first, second)
            passed += not wrong
            print(f"{'passed' if not wrong else 'FAILED'}: {case.name}{f' ({wrong})' if wrong else ''}", flush=True)
    print(f"{passed} of {len(CASES)} passed")
    return 0 if passed == len(CASES) else 1
