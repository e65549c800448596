"""Real bytes, damaged: what fuzzers find is near what vendors really send."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache

from resilient_llm.errors import Fault, FaultKind, UnsupportedFeature
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Media,
    Message,
    Reasoning,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Usage,
)
from resilient_llm.wire import codec
from resilient_llm.wire.kit.accumulate import replay
from tests.material import SHARED, corpus

WIRES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock_converse", "cohere_v2", "ollama")
FILES = {"ollama": "ollama_chat*"}
_SMALL = 6000
"""Bytes: long records only make fuzzing slow."""

CALL = ToolCall("call_1", "weather", '{"city":"Oslo"}')
REQUEST = ChatRequest(
    messages=(
        Message("system", (Text("Be brief."),)),
        Message("user", (Text("What is this?"), Media("image", "image/png", data=b"\x89PNG"))),
        Message("assistant", (Text("Let me look."), CALL)),
        Message("tool", (ToolResult("call_1", (Text("rain"),), name="weather"),)),
    ),
    model="m",
    tools=(Tool("weather", "the weather", {"type": "object", "properties": {"city": {"type": "string"}}}),),
    tool_choice=ToolChoice("auto"),
    reasoning=Reasoning(effort="low"),
    max_tokens=10,
    temperature=0.5,
    stop=("x",),
)
RESPONSE = ChatResponse(
    (Thought("hm"), Text("It rains in Oslo, \u00e6\u00f8\u00e5 \U0001f327."), CALL),
    "tool_calls",
    usage=Usage(10, 5, total_tokens=15),
    id="r1",
    model="m",
    created=1,
)


@cache
def requests(wire: str) -> tuple[tuple[bytes, str], ...]:
    """Bodies and paths."""
    try:
        encoded = codec(wire).encode_request(REQUEST)
    except UnsupportedFeature:
        encoded = codec(wire).encode_request(replace(REQUEST, stop=()))
    found = [(encoded.body, encoded.path)]
    for record in _records(wire):
        if record.get("request"):
            found.append((json.dumps(record["request"]).encode(), str(record.get("url_path") or "")))
    return tuple(one for one in found if len(one[0]) <= _SMALL)


@cache
def responses(wire: str) -> tuple[bytes, ...]:
    """Whole answers, errors among them."""
    found = [codec(wire).encode_response(RESPONSE), codec(wire).encode_error(Fault(FaultKind.OVERLOADED), "busy")]
    found += [json.dumps(record["body"]).encode() for record in _records(wire) if record.get("body")]
    return tuple(one for one in found if len(one) <= _SMALL)


@cache
def streams(wire: str) -> tuple[bytes, ...]:
    """Streamed answers, one that reports an error among them."""
    encoder = codec(wire).stream_encoder()
    whole = b"".join(encoder.feed(event) for event in replay(RESPONSE))
    found = [whole, whole[: len(whole) // 2] + codec(wire).encode_stream_error(Fault(FaultKind.OVERLOADED), "busy")]
    for record in _records(wire):
        if record.get("body_text"):
            found.append(str(record["body_text"]).encode())
        elif record.get("body_b64"):
            found.append(base64.b64decode(str(record["body_b64"])))
    return tuple(one for one in found if len(one) <= _SMALL)


def _records(wire: str) -> list[dict[str, object]]:
    """Recorded exchanges, where they lie beside the checkout."""
    return list(corpus(FILES.get(wire, wire + "*"))) if (SHARED / "corpus").exists() else []


# --- damage ------------------------------------------------------------------------------------------------

ODD: tuple[object, ...] = (
    *(None, True, False, 0, -1, 2**63, 10**30, 1e308, 1.5, "", "\x00", "\ud800", "null", "[DONE]", [], {}, [[]]),
    *({"": ""}, "x" * 300, [None], {"type": None}, {"text": {}}, {"content": []}),
)


def damaged(data: bytes, draw: random.Random) -> bytes:
    """A few random changes to bytes, to their JSON, or to both."""
    for _ in range(draw.randint(1, 3)):
        data = draw.choice(_DAMAGES)(data, draw)[: 4 * _SMALL]
    return data


def _flip(data: bytes, draw: random.Random) -> bytes:
    if not data:
        return data
    at = draw.randrange(len(data))
    return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]


def _delete(data: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(data))
    return data[:at] + data[at + draw.randint(0, 40) :]


def _repeat(data: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(data))
    piece = data[at : at + draw.randint(0, 200)]
    return data[:at] + piece * draw.randint(1, 3) + data[at:]


def _insert(data: bytes, draw: random.Random) -> bytes:
    at = draw.randint(0, len(data))
    odd = draw.choice(
        (b"\n\n", b"\r", b"data: [DONE]\n\n", b"data: {}\n\n", b"\xff\xfe", b"\x00", b"{", b"]", b":\n", b"[" * 600)
    )
    return data[:at] + odd + data[at:]


def _truncate(data: bytes, draw: random.Random) -> bytes:
    return data[: draw.randint(0, len(data))]


def _odd_value(data: bytes, draw: random.Random) -> bytes:
    """Another type in one place of the JSON, of the body or of one line of a stream."""
    lines = data.split(b"\n")
    candidates = [number for number, line in enumerate(lines) if b"{" in line]
    if not candidates:
        return data
    number = draw.choice(candidates)
    head, brace, rest = lines[number].partition(b"{")
    try:
        value = json.loads(brace + rest)
    except (ValueError, RecursionError):
        return data
    _change(value, draw)
    lines[number] = head + json.dumps(value).encode()
    return b"\n".join(lines)


def _change(value: object, draw: random.Random) -> None:
    while isinstance(value, dict | list) and value:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = draw.choice(keys)
        inner = value[key]  # type: ignore[call-overload, index]
        if not isinstance(inner, dict | list) or not inner or draw.random() < 0.25:
            if draw.random() < 0.3:
                del value[key]  # type: ignore[arg-type]
            else:
                value[key] = draw.choice(ODD)  # type: ignore[call-overload, index]
            return
        value = inner


_DAMAGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    *(_flip, _delete, _repeat, _insert, _truncate),
    *(_odd_value,) * 5,
)
