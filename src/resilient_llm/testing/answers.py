"""The bytes of answers, per wire format: whole, streamed, and the ways in which a stream speaks of trouble.

OpenAI chat is written by hand: an oracle, independent of the codec under test, so that a codec which misreads its own
output is found out.  The other wires are written by their codecs (``codec_writer``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.model import Usage
from resilient_llm.testing.script import Reply

CREATED = 1_700_000_000
"""A fixed time of creation, so that the same script gives the same bytes."""

_ARGUMENT_PIECE = 8


@dataclass(frozen=True, slots=True)
class Ask:
    """What of a request decides the shape of its answer."""

    wire: str
    stream: bool = False
    model: str = "loopback-1"
    include_usage: bool = False


@dataclass(frozen=True, slots=True)
class Frames:
    """A streamed answer in three parts; every entry of ``tokens`` is one token."""

    opening: tuple[bytes, ...]
    tokens: tuple[bytes, ...]
    closing: tuple[bytes, ...]


class Writer(Protocol):
    """One wire format, as a server writes it."""

    @property
    def content_type(self) -> str: ...
    @property
    def stream_type(self) -> str: ...
    @property
    def keep_alive(self) -> bytes: ...
    @property
    def malformed(self) -> bytes: ...
    @property
    def terminator(self) -> bytes: ...

    def whole(self, reply: Reply, ask: Ask) -> bytes: ...
    def frames(self, reply: Reply, ask: Ask) -> Frames: ...
    def error(self, fault: Fault) -> bytes: ...
    def stream_error(self, fault: Fault) -> bytes: ...


def as_json(value: object) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def usage_of(reply: Reply) -> Usage | None:
    """The usage to report, counted where the reply leaves it to us."""
    if not isinstance(reply.usage, str):
        return reply.usage
    output = len(reply.words) + sum(1 + len(pieces_of(call.arguments)) for call in reply.tool_calls)
    return Usage(input_tokens=10, output_tokens=output, total_tokens=10 + output)


def pieces_of(text: str) -> list[str]:
    """Reasoning and tool arguments, as they are split into tokens."""
    return [text[start : start + _ARGUMENT_PIECE] for start in range(0, len(text), _ARGUMENT_PIECE)]


class OpenAIChat:
    """``/chat/completions``."""

    content_type = "application/json"
    stream_type = "text/event-stream; charset=utf-8"
    keep_alive = b": keep-alive\n\n"
    malformed = b'data: {"id":"chatcmpl-loopback","object":"chat.completion.chunk","choices":[{"index":0,"del\n\n'
    terminator = b"data: [DONE]\n\n"

    def whole(self, reply: Reply, ask: Ask) -> bytes:
        message: dict[str, object] = {"role": "assistant", "content": reply.full_text or None, "refusal": None}
        if reply.thought:
            message["reasoning_content"] = reply.thought
        if reply.tool_calls:
            message["tool_calls"] = [_openai_call(call.id, call.name, call.arguments) for call in reply.tool_calls]
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _openai_finish(reply)}
        answer = self._envelope("chat.completion", reply, ask, [choice])
        return as_json(answer | _openai_usage(usage_of(reply)))

    def frames(self, reply: Reply, ask: Ask) -> Frames:
        opening = [self._chunk(reply, ask, {"role": "assistant", "content": ""})] * reply.role_deltas
        deltas: list[Mapping[str, object]] = []
        deltas += [{"reasoning_content": piece} for piece in pieces_of(reply.thought)]
        deltas += [{"content": piece} for piece in reply.words]
        for index, call in enumerate(reply.tool_calls):
            deltas.append({"tool_calls": [{"index": index, **_openai_call(call.id, call.name, "")}]})
            deltas += [
                {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}
                for piece in pieces_of(call.arguments)
            ]
        return Frames(
            tuple(opening),
            tuple(self._chunk(reply, ask, delta) for delta in deltas),
            tuple(self._closing(reply, ask)),
        )

    def error(self, fault: Fault) -> bytes:
        kind, code = _OPENAI_ERRORS.get(fault.kind, ("invalid_request_error", None))
        error = {"message": fault.message, "type": kind, "param": None, "code": fault.code or code}
        return as_json({"error": error})

    def stream_error(self, fault: Fault) -> bytes:
        return b"data: " + self.error(fault) + b"\n\n"

    def _closing(self, reply: Reply, ask: Ask) -> Iterable[bytes]:
        if reply.finish_reason is not None:
            yield self._chunk(reply, ask, {}, _openai_finish(reply))
        usage = usage_of(reply)
        if ask.include_usage and usage is not None:
            answer = self._envelope("chat.completion.chunk", reply, ask, [])
            yield b"data: " + as_json(answer | _openai_usage(usage)) + b"\n\n"
        if reply.terminal:
            yield self.terminator

    def _chunk(self, reply: Reply, ask: Ask, delta: Mapping[str, object], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + as_json(self._envelope("chat.completion.chunk", reply, ask, [choice])) + b"\n\n"

    def _envelope(self, kind: str, reply: Reply, ask: Ask, choices: Sequence[object]) -> dict[str, object]:
        return {
            "id": "chatcmpl-loopback",
            "object": kind,
            "created": CREATED,
            "model": reply.model or ask.model,
            "choices": choices,
        }


_OPENAI_ERRORS: Mapping[FaultKind, tuple[str, str | None]] = {
    FaultKind.RATE_LIMITED: ("requests", "rate_limit_exceeded"),
    FaultKind.QUOTA_EXHAUSTED: ("insufficient_quota", "insufficient_quota"),
    FaultKind.OVERLOADED: ("service_unavailable_error", "server_is_overloaded"),
    FaultKind.SERVER_ERROR: ("server_error", None),
    FaultKind.TIMEOUT: ("server_error", None),
    FaultKind.CONNECTION: ("server_error", None),
    FaultKind.AUTH: ("invalid_request_error", "invalid_api_key"),
    FaultKind.NOT_FOUND_MODEL: ("invalid_request_error", "model_not_found"),
    FaultKind.CONTEXT_LENGTH: ("invalid_request_error", "context_length_exceeded"),
    FaultKind.CONTENT_FILTER: ("invalid_request_error", "content_filter"),
}
"""Type and code of OpenAI's error object."""


def _openai_call(call_id: str, name: str, arguments: str) -> dict[str, object]:
    return {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _openai_finish(reply: Reply) -> str | None:
    # Whoever scripts tool calls means them, so that the default need not be changed along with them.
    return "tool_calls" if reply.tool_calls and reply.finish_reason == "stop" else reply.finish_reason


def _openai_usage(usage: Usage | None) -> dict[str, object]:
    if usage is None:
        return {}
    return {
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.total_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        }
    }


# --- what is not chat --------------------------------------------------------------------------------------


def models() -> bytes:
    """The answer to ``GET /models``."""
    entry = {"id": "loopback-1", "object": "model", "created": CREATED, "owned_by": "loopback"}
    return as_json({"object": "list", "data": [entry]})


def embeddings(body: Mapping[str, object], model: str) -> bytes:
    """Vectors that depend on nothing but the text, as the OpenAI wire has them (floats or base64)."""
    given = body.get("input", "")
    inputs: list[object] = list(given) if isinstance(given, list) else [given]  # pyright: ignore[reportUnknownArgumentType]
    wanted = body.get("dimensions")
    size = wanted if isinstance(wanted, int) and wanted > 0 else 8
    vectors = [vector_of(str(text), size) for text in inputs]
    packed = body.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": _base64(vector) if packed else vector}
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    return as_json({"object": "list", "data": data, "model": model, "usage": usage})


def vector_of(text: str, size: int) -> list[float]:
    """A vector that depends on nothing but the text."""
    digest = hashlib.shake_128(text.encode()).digest(size)
    return [byte / 128 - 1 for byte in digest]


def _base64(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


_REQUEST_IDS: Mapping[str, str] = {"anthropic_messages": "request-id", "bedrock_converse": "x-amzn-requestid"}


def request_id(wire: str) -> str:
    """The header in which a vendor names the request."""
    return _REQUEST_IDS.get(wire, "x-request-id")
