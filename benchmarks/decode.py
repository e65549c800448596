"""What a streamed chunk costs on its way to a neutral event, against what nobody can avoid.

    python -m benchmarks decode

For every wire: 200 chunks of text through the codec's stream decoder, against ``json.loads`` of the same chunks, and
(but for Bedrock, whose frames are no lines) against ``httpx``'s ``aiter_lines()`` plus ``json.loads``.  Budget: 1.25
of the latter.  All figures are the best of several runs, in microseconds a chunk; compare ratios, not times.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence

import httpx

from benchmarks.harness import Row
from resilient_llm.model import StreamStart, TextDelta
from resilient_llm.wire import codec
from resilient_llm.wire.protocol import Codec

NAMES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock_converse", "cohere_v2", "ollama")
CHUNKS = 200
RUNS = 40


def openai_chunk(text: str) -> bytes:
    """As the vendor sends it today, padding and all."""
    chunk = {
        "id": "chatcmpl-C4Hxyz0123456789abcdefghijkl",
        "object": "chat.completion.chunk",
        "created": 1755137921,
        "model": "gpt-5-nano-2025-08-07",
        "service_tier": "default",
        "system_fingerprint": None,
        "choices": [{"index": 0, "delta": {"content": text}, "logprobs": None, "finish_reason": None}],
        "usage": None,
        "obfuscation": "WuQNX",
    }
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


def sample(name: str, wire: Codec) -> tuple[bytes, list[bytes]]:
    """The beginning of a stream and its chunks of text, as a vendor of this wire would send them."""
    words = [f" token{i}" for i in range(CHUNKS)]
    if name == "openai_chat":
        return b"", [openai_chunk(word) for word in words]
    encoder = wire.stream_encoder()
    opening = encoder.feed(StreamStart("id", "model", 1755137921)) + encoder.feed(TextDelta("Once"))
    return opening, [encoder.feed(TextDelta(word)) for word in words]


def payload(chunk: bytes) -> str:
    """The JSON inside a chunk."""
    start = chunk.index(b"{")
    for end in range(len(chunk), start, -1):
        if chunk[end - 1 : end] == b"}":
            try:
                json.loads(chunk[start:end])
            except ValueError:
                continue
            return chunk[start:end].decode()
    raise ValueError("no JSON in this chunk")


def best(run: Callable[[], object]) -> float:
    """Microseconds a chunk."""
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times) / CHUNKS * 1e6


class Chunks(httpx.AsyncByteStream):
    def __init__(self, chunks: Sequence[bytes]) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def by_lines(chunks: Sequence[bytes]) -> None:
    async for line in httpx.Response(200, stream=Chunks(chunks)).aiter_lines():
        if line.startswith("data: "):
            json.loads(line[6:])
        elif line.startswith("{"):
            json.loads(line)


def measure(name: str, loop: asyncio.AbstractEventLoop) -> str:
    wire = codec(name)
    opening, chunks = sample(name, wire)
    payloads = [payload(chunk) for chunk in chunks]

    def decode() -> None:
        decoder = wire.stream_decoder()
        decoder.feed(opening)
        for chunk in chunks:
            decoder.feed(chunk)

    decoder = wire.stream_decoder()
    events = [event for chunk in (opening, *chunks) for event in decoder.feed(chunk)]
    assert sum(isinstance(event, TextDelta) for event in events) >= CHUNKS, f"{name} was not decoded"
    ours = best(decode)
    bare = best(lambda: [json.loads(text) for text in payloads])
    row = f"{name:20} {ours:9.2f} {bare:11.2f} {ours / bare:7.2f}"
    if name != "bedrock_converse":  # whose frames are no lines
        lines = best(lambda: loop.run_until_complete(by_lines(chunks)))
        row += f" {lines:13.2f} {ours / lines:7.2f}"
    return row


def rows(quick: bool) -> list[Row]:
    """The wires of the harness's table; ``quick`` changes nothing, it takes a few seconds."""
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        return [Row(f"a chunk decoded, {name}", _told(measure(name, loop).split())) for name in NAMES]


def _told(cells: list[str]) -> str:
    lines = f", {cells[5]} x lines + json.loads" if len(cells) > 5 else ""
    return f"{cells[1]} us, {cells[3]} x json.loads{lines}"
