"""How many Python functions one ``chat()`` and one streamed chunk call, through the whole client.

A count does not depend on the machine or its load, so a test may hold it to a bound: ``python -m benchmarks calls``
prints the counts beside the bounds, and ``tests/test_calls.py`` fails where one is exceeded.  The network is an engine
that has the answer ready.  Whoever makes something cheaper lowers the bound here.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FrameType
from typing import NamedTuple

from benchmarks.harness import Row
from resilient_llm import ResilientClient
from resilient_llm.drive.engines import Limit, Outgoing
from resilient_llm.providers import Anthropic, OpenAI

PIECES = 100
BOUNDS: Mapping[str, int] = {
    "openai_chat: chat()": 300,
    f"openai_chat: {PIECES} chunks": 3600,
    "anthropic_messages: chat()": 350,
    f"anthropic_messages: {PIECES} chunks": 3500,
}
"""Calls of Python functions that are allowed: a little above what was counted when they were set."""


class Ready:
    """An answer that is there already."""

    status = 200

    def __init__(self, pieces: Sequence[bytes], headers: Mapping[str, str]) -> None:
        self._pieces = iter(pieces)
        self.headers = headers

    def read(self) -> bytes | None:
        return next(self._pieces, None)

    def sever(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


class Canned:
    """An engine that gives the same answer to everybody."""

    bounded = True

    def __init__(self, pieces: Sequence[bytes], content: str) -> None:
        self._pieces = pieces
        self._headers = {"content-type": content}

    def send(self, outgoing: Outgoing, limit: Limit) -> Ready:
        return Ready(self._pieces, self._headers)

    def close(self) -> None:
        """Nothing is open."""


class Subject(NamedTuple):
    """What is counted: a provider, its whole answer, and its stream of so many pieces."""

    provider: OpenAI | Anthropic
    whole: bytes
    stream: Callable[[int], list[bytes]]


def _event(value: object, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value)}\n\n".encode()


def _openai(count: int) -> list[bytes]:
    def chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return _event({"id": "c", "object": "chat.completion.chunk", "model": "gpt-5.2", "choices": [choice]})

    return [
        chunk({"role": "assistant"}),
        *(chunk({"content": "word "}) for _ in range(count)),
        chunk({}, "stop"),
        b"data: [DONE]\n\n",
    ]


def _anthropic(count: int) -> list[bytes]:
    def one(kind: str, **fields: object) -> bytes:
        return _event({"type": kind, **fields}, kind)

    message = {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "claude-sonnet-5"}
    delta = {"type": "text_delta", "text": "word "}
    return [
        one("message_start", message={**message, "usage": {"input_tokens": 1, "output_tokens": 1}}),
        one("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        *(one("content_block_delta", index=0, delta=delta) for _ in range(count)),
        one("content_block_stop", index=0),
        one("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": count}),
        one("message_stop"),
    ]


def subjects() -> Mapping[str, Subject]:
    """By the name of the wire."""
    choice = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
    openai = {"id": "c", "model": "gpt-5.2", "choices": [choice], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
    anthropic = {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-5",
        "stop_reason": "end_turn",
        "content": [{"type": "text", "text": "hello"}],
        "usage": {"input_tokens": 1, "output_tokens": 1},
    }
    return {
        "openai_chat": Subject(OpenAI("gpt-5.2", api_key="none"), json.dumps(openai).encode(), _openai),
        "anthropic_messages": Subject(
            Anthropic("claude-sonnet-5", api_key="none"), json.dumps(anthropic).encode(), _anthropic
        ),
    }


def counted(do: Callable[[], object]) -> int:
    """Calls of Python functions that one more run makes, after some to warm up."""
    for _ in range(5):
        do()
    count = 0

    def called(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    before = sys.getprofile()
    gc.collect()
    gc.disable()  # finalisers of others are not counted
    sys.setprofile(called)
    try:
        do()
    finally:
        sys.setprofile(before)
        gc.enable()
    return count


def _chat(subject: Subject) -> int:
    with ResilientClient([subject.provider], engine=Canned([subject.whole], "application/json")) as client:
        return counted(lambda: client.chat("Why is the sky blue?", deadline=20))


def _stream(subject: Subject, pieces: int) -> int:
    def consume() -> None:
        with client.stream("Why is the sky blue?", deadline=20) as stream:
            for _ in stream:
                pass

    with ResilientClient([subject.provider], engine=Canned(subject.stream(pieces), "text/event-stream")) as client:
        return counted(consume)


def counts() -> Mapping[str, int]:
    """Calls of one ``chat()``, and of a hundred chunks, on each wire."""
    found: dict[str, int] = {}
    for name, subject in subjects().items():
        found[f"{name}: chat()"] = _chat(subject)
        found[f"{name}: {PIECES} chunks"] = _stream(subject, 2 * PIECES) - _stream(subject, PIECES)
    return found


def rows(quick: bool) -> list[Row]:
    """The counts beside their bounds."""
    return [
        Row(name, f"{count} Python calls", f"<= {BOUNDS[name]}", count <= BOUNDS[name])
        for name, count in counts().items()
    ]
