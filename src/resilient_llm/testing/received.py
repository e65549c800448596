"""A request as the server received it, and what the server must know of it to answer."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from typing import cast, final
from urllib.parse import unquote

from typing_extensions import override

from resilient_llm.model import JsonObject
from resilient_llm.testing.answers import Ask

_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\]*)"')
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_NO_STREAM = re.compile(rb'"stream"\s*:\s*false')
_MODEL_IN_PATH = re.compile(r"/models?/([^/:]+)")
_ALLOWED_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")

DEFAULT_MODEL = "loopback-1"

_WIRES: tuple[tuple[str, str], ...] = (
    ("/chat/completions", "openai_chat"),
    ("/v1/messages", "anthropic_messages"),
    (":rawPredict", "anthropic_messages"),
    (":streamRawPredict", "anthropic_messages"),
    (":generateContent", "gemini"),
    (":streamGenerateContent", "gemini"),
    ("/responses", "openai_responses"),
    ("/api/chat", "ollama"),
    ("/v2/chat", "cohere_v2"),
    ("/converse", "bedrock_converse"),
    ("/converse-stream", "bedrock_converse"),
    ("/embeddings", "embeddings"),
    ("/models", "models"),
)
"""Path endings and what is spoken there; the first that fits."""

NOT_CHAT = frozenset({"", "embeddings", "models"})


@final
class ReceivedRequest:
    """One request the server received.  Times are ``time.monotonic()``."""

    __slots__ = (
        "_head",
        "answered_at",
        "body",
        "bytes_sent",
        "connection",
        "hung_up_at",
        "method",
        "path",
        "received_at",
        "wire",
    )

    def __init__(self, method: str, path: str, head: bytes, body: bytes, connection: int) -> None:
        self.method: str = method
        self.path: str = path
        """With the query string."""
        self.body: bytes = body
        self.connection: int = connection
        """The number of the connection it came on, from 1: equal numbers mean a reused connection."""
        self.wire: str = wire_of(path)
        """What the path stands for: the name of a wire format, ``"embeddings"``, ``"models"``, or ``""``."""
        self.received_at: float = time.monotonic()
        self.answered_at: float | None = None
        """When the server had written all it wanted to; ``None`` while it has not."""
        self.hung_up_at: float | None = None
        """When the client closed the connection before that; ``None`` if it did not."""
        self.bytes_sent: int = 0
        """Of the answer, head included, as handed to the socket."""
        self._head = head

    @property
    def headers(self) -> dict[str, str]:
        """By lower-cased name; repeated headers are joined with a comma."""
        headers: dict[str, str] = {}
        for line in self._head.decode("latin-1").split("\r\n"):
            name, _, value = line.partition(":")
            name = name.lower()
            headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        return headers

    @property
    def json(self) -> JsonObject:
        """The body as a JSON object.  Raises ``ValueError`` if it is none."""
        value: object = json.loads(self.body)
        if not isinstance(value, dict):
            raise ValueError(f"the body is not a JSON object: {self.body[:80]!r}")
        return cast(JsonObject, value)

    @property
    def stream(self) -> bool:
        """Whether it asks for a streamed answer."""
        return ask_of(self).stream

    @override
    def __repr__(self) -> str:
        # Neither headers nor body: a failing test must not print a key.
        return f"<ReceivedRequest {self.method} {self.path.partition('?')[0]} ({len(self.body)} bytes)>"


def wire_of(path: str) -> str:
    """What is spoken at a path; ``""`` if nothing is."""
    bare = path.partition("?")[0]
    for suffix, wire in _WIRES:
        if bare.endswith(suffix):
            return wire
    return ""


def object_of(body: bytes) -> dict[str, object]:
    """The JSON object in a body; an empty one if there is none."""
    try:
        value: object = json.loads(body)
    except ValueError:
        return {}
    return cast("dict[str, object]", value) if isinstance(value, dict) else {}


def ask_of(request: ReceivedRequest) -> Ask:
    """What decides the shape of the answer."""
    # Whole answers need no JSON parser: a benchmark measures the client, not the server.
    found = _MODEL.search(request.body)
    model = found.group(1).decode("utf-8", "replace") if found else DEFAULT_MODEL
    by_path = _STREAM_BY_WIRE.get(request.wire)
    if by_path is not None:
        in_path = _MODEL_IN_PATH.search(request.path)
        return Ask(request.wire, by_path(request), unquote(in_path.group(1)) if in_path else model)
    if not _STREAM.search(request.body):
        return Ask(request.wire, False, model)
    body = object_of(request.body)
    options = body.get("stream_options")
    include = isinstance(options, dict) and cast("dict[str, object]", options).get("include_usage") is True
    return Ask(request.wire, body.get("stream") is True, model, include)


_STREAM_BY_WIRE: Mapping[str, Callable[[ReceivedRequest], bool]] = {
    "gemini": lambda request: ":streamGenerateContent" in request.path,
    "bedrock_converse": lambda request: request.path.endswith("/converse-stream"),
    # Ollama streams unless told not to.
    "ollama": lambda request: (
        not _NO_STREAM.search(request.body) or object_of(request.body).get("stream", True) is not False
    ),
}
"""Wires whose switch is not ``"stream": true`` in the body."""


def key_of(request: ReceivedRequest) -> str:
    """Whose rate limit it counts against."""
    headers = request.headers
    return next((headers[name] for name in _KEY_HEADERS if name in headers), "")


def cost_of(request: ReceivedRequest) -> int:
    """Its tokens, for a rate limit: a quarter of the bytes and what it allows the model to write."""
    body = object_of(request.body)
    allowed = (body.get(name) for name in _ALLOWED_TOKENS)
    return len(request.body) // 4 + next((value for value in allowed if isinstance(value, int) and value > 0), 0)
