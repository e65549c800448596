"""What the loopback server shall do, as values: one behaviour per request.

::

    Answer (common: delay, headers, drip, wrong_length)
    ├── Reply     an answer of the model, well-formed or with one ``fault`` inside: Cut, Stall, Malformed, InBandError
    └── Status    any status with any body: errors, HTML pages, empty answers, garbage
    Hang          take the request and never answer
    Close         take the request and close the connection without an answer
    Reset         take the request and reset the connection (TCP RST)
    Raw           these very bytes, HTTP or not
    EndlessHeaders  a header section that never ends

All durations are seconds.  The same behaviour serves every wire format the server speaks, streamed or whole.  A value
of the wrong kind raises ``ConfigurationError`` (a ``ValueError``) when it is built.
"""

from __future__ import annotations

import re
import struct
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Literal, TypeAlias, cast

from typing_extensions import override

from resilient_llm.errors import ConfigurationError, FaultKind
from resilient_llm.model import FinishReason, ToolCall, Usage

__all__ = [
    "Answer",
    "Behaviour",
    "Close",
    "Cut",
    "Drip",
    "EndlessHeaders",
    "Hang",
    "InBandError",
    "Malformed",
    "RateLimit",
    "Raw",
    "Reply",
    "Reset",
    "Stall",
    "Status",
    "StreamFault",
    "gzip_bomb",
]

_PIECES = re.compile(r"\S+\s*|\s+")


def number(name: str, value: object) -> float:
    """A value that is a number.  Raises ``ConfigurationError`` for any other."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ConfigurationError(f"{name} must be a number, not {value!r}")
    return value


def _not_negative(**values: object) -> None:
    for name, value in values.items():
        if value is not None and not number(name, value) >= 0:
            raise ConfigurationError(f"{name} must be 0 or more, not {value!r}")


def _whole(name: str, value: object, least: int = 0) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigurationError(f"{name} must be a whole number of {least} or more, not {value!r}")


def _is(name: str, value: object, kinds: type | UnionType, right: str) -> None:
    """Refuse at once what would fail later, where it looks like the fault of a provider."""
    if not isinstance(value, kinds):
        hint = f"; {value.__name__} is a class, say {value.__name__}(...)" if isinstance(value, type) else ""
        raise ConfigurationError(f"{name} must be {right}, not {value!r}{hint}")


def _all_are(name: str, values: object, kind: type, right: str) -> None:
    good = isinstance(values, tuple) and all(isinstance(one, kind) for one in cast("tuple[object, ...]", values))
    if not good:
        raise ConfigurationError(f"{name} must be {right}, not {values!r}")


def _one_of(name: str, value: object, *known: str) -> None:
    if value not in known:
        *others, last = map(repr, known)
        raise ConfigurationError(f"{name} must be {', '.join(others)} or {last}, not {value!r}")


# --- what can go wrong inside an answer --------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Cut:
    """The answer ends after ``after`` tokens, without terminal evidence.

    ``how``: ``"end"`` finishes the HTTP body properly (a proxy that lost its upstream; naive clients see success),
    ``"close"`` closes the connection inside the body, ``"reset"`` sends a TCP RST.  A whole answer is cut in half
    (before its body if ``after`` is 0).
    """

    after: int = 0
    how: Literal["end", "close", "reset"] = "close"

    def __post_init__(self) -> None:
        _whole("after", self.after)
        _one_of("how", self.how, "end", "close", "reset")


@dataclass(frozen=True, slots=True)
class Stall:
    """After ``after`` tokens nothing more comes, the connection stays open (keep-alives, if the reply sends any,
    go on).  ``after=0``: headers only.  A whole answer stalls in the middle of its body."""

    after: int = 0

    def __post_init__(self) -> None:
        _whole("after", self.after)


@dataclass(frozen=True, slots=True)
class Malformed:
    """After ``after`` tokens one frame that cannot be decoded, then the answer goes on as if nothing happened.

    ``data`` are the bytes to send; ``None`` means half a frame of JSON (or, for binary framing, a wrong checksum).
    A whole answer is JSON cut in half, with a matching content-length, or ``data``.
    """

    after: int = 0
    data: bytes | None = None

    def __post_init__(self) -> None:
        _whole("after", self.after)
        _is("data", self.data, bytes | None, "bytes or None")


@dataclass(frozen=True, slots=True)
class InBandError:
    """After ``after`` tokens an error in the wire's own shape inside the 200 stream; ``after=0``: before content.

    ``terminator`` sends the wire's end marker after it, as some servers do.  A whole answer is a 200 whose JSON is
    an error object.
    """

    after: int = 0
    kind: FaultKind = FaultKind.OVERLOADED
    message: str = "The engine is currently overloaded, please try again later"
    terminator: bool = False

    def __post_init__(self) -> None:
        _whole("after", self.after)
        _is("kind", self.kind, FaultKind, "a FaultKind such as FaultKind.OVERLOADED")
        _is("message", self.message, str, "text")


StreamFault: TypeAlias = Cut | Stall | Malformed | InBandError


@dataclass(frozen=True, slots=True)
class Drip:
    """The body leaves ``size`` bytes at a time with ``interval`` seconds between: valid, but slow."""

    size: int = 1
    interval: float = 0.001

    def __post_init__(self) -> None:
        _not_negative(interval=self.interval)
        _whole("size", self.size, least=1)


# --- behaviours --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What :class:`Reply` and :class:`Status` have in common.

    ``delay`` passes before the headers.  ``headers`` replace or, with ``None`` as the value, remove those the server
    would send: a wrong ``content-type``, a ``content-encoding`` the body is not in.  ``wrong_length`` is added to the
    content-length: too large, and the connection closes before the body is complete; too small, and surplus bytes
    follow.  It applies to whole answers only, as streams have no length.
    """

    delay: float = 0.0
    headers: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    drip: Drip | None = None
    wrong_length: int = 0

    def __post_init__(self) -> None:
        self._check_answer()

    def _check_answer(self) -> None:
        _not_negative(delay=self.delay)
        _is("headers", self.headers, Mapping, "a mapping of names to values")
        for name, value in self.headers.items():
            _is("a header's name", name, str, "text")
            _is(f"the header {name}", value, str | None, "text, or None to leave it out")
        _is("drip", self.drip, Drip | None, "a Drip or None")
        _is("wrong_length", self.wrong_length, int, "a whole number of bytes")


@dataclass(frozen=True, slots=True)
class Reply(Answer):
    """An answer of the model.

    A *token* is one entry of ``pieces``, which defaults to the words of ``text``; reasoning and tool arguments are
    split likewise.  ``first_token`` is the wait between headers and first token, ``interval`` between tokens,
    ``keep_alive`` the seconds between keep-alive comments during these waits (``None``: no comments).  A whole answer
    takes the sum of all waits before its headers.

    ``finish_reason=None`` and ``terminal=False`` leave out the respective evidence that the answer is complete.
    ``role_deltas`` is the number of frames without content at the start of an OpenAI stream.  ``usage`` is
    ``"counted"`` (10 input tokens, one output token per piece), a value of yours, or ``None`` for none at all.
    ``model=None`` echoes the model of the request.
    """

    text: str = "Hello from the loopback server."
    tool_calls: tuple[ToolCall, ...] = field(default=(), kw_only=True)
    thought: str = field(default="", kw_only=True)
    pieces: tuple[str, ...] | None = field(default=None, kw_only=True)
    finish_reason: FinishReason | None = field(default="stop", kw_only=True)
    usage: Usage | Literal["counted"] | None = field(default="counted", kw_only=True)
    model: str | None = field(default=None, kw_only=True)
    first_token: float = field(default=0.0, kw_only=True)
    interval: float = field(default=0.0, kw_only=True)
    keep_alive: float | None = field(default=None, kw_only=True)
    role_deltas: int = field(default=1, kw_only=True)
    terminal: bool = field(default=True, kw_only=True)
    fault: StreamFault | None = field(default=None, kw_only=True)

    @override
    def __post_init__(self) -> None:
        self._check_answer()
        _is("text", self.text, str, "text")
        _is("thought", self.thought, str, "text")
        _all_are("tool_calls", self.tool_calls, ToolCall, "a tuple of ToolCall")
        if self.pieces is not None:
            _all_are("pieces", self.pieces, str, "a tuple of texts")
        _is("finish_reason", self.finish_reason, str | None, "text or None")
        _is("model", self.model, str | None, "text or None")
        if self.usage != "counted":
            _is("usage", self.usage, Usage | None, "'counted', a Usage or None")
        _not_negative(first_token=self.first_token, interval=self.interval)
        _whole("role_deltas", self.role_deltas)
        _is("terminal", self.terminal, bool, "true or false")
        _is("fault", self.fault, StreamFault | None, "Cut(...), Stall(...), Malformed(...), InBandError(...) or None")
        if self.keep_alive is not None and not number("keep_alive", self.keep_alive) > 0:
            raise ConfigurationError(f"keep_alive must be positive or None, not {self.keep_alive!r}")

    @property
    def words(self) -> tuple[str, ...]:
        """The pieces in which the text is streamed."""
        return self.pieces if self.pieces is not None else tuple(_PIECES.findall(self.text))

    @property
    def full_text(self) -> str:
        """The text as a whole: ``pieces`` joined if given, else ``text``."""
        return self.text if self.pieces is None else "".join(self.pieces)


@dataclass(frozen=True, slots=True)
class Status(Answer):
    """Any status with any body.

    ``body``: ``None`` is an error object in the wire's own shape, made of ``message`` and ``code``; a mapping is sent
    as JSON; text that begins with ``<`` as HTML, other text as plain text; bytes as they are, labelled JSON; ``""`` is
    an empty body.  ``retry_after`` seconds become a ``retry-after`` header.
    """

    status: int
    body: Mapping[str, object] | str | bytes | None = None
    message: str = field(default="The loopback server was told to fail", kw_only=True)
    code: str | None = field(default=None, kw_only=True)
    retry_after: float | None = field(default=None, kw_only=True)

    @override
    def __post_init__(self) -> None:
        self._check_answer()
        _not_negative(retry_after=self.retry_after)
        _is("status", self.status, int, "a number between 200 and 599")
        if not 200 <= self.status <= 599:
            raise ConfigurationError(f"status must be between 200 and 599, not {self.status!r}")
        _is("body", self.body, Mapping | str | bytes | None, "None, a mapping, text or bytes")
        _is("message", self.message, str, "text")
        _is("code", self.code, str | None, "text or None")


@dataclass(frozen=True, slots=True)
class Hang:
    """Take the request and never answer.  The connection stays open until the client gives up."""


@dataclass(frozen=True, slots=True)
class Close:
    """Take the request and, after ``delay``, close the connection without an answer."""

    delay: float = 0.0

    def __post_init__(self) -> None:
        _not_negative(delay=self.delay)


@dataclass(frozen=True, slots=True)
class Reset:
    """Take the request and, after ``delay``, reset the connection (TCP RST)."""

    delay: float = 0.0

    def __post_init__(self) -> None:
        _not_negative(delay=self.delay)


@dataclass(frozen=True, slots=True)
class Raw:
    """These very bytes with ``interval`` seconds between them, HTTP or not; then ``then``."""

    chunks: tuple[bytes, ...]
    interval: float = 0.0
    then: Literal["close", "reset", "hang", "keep"] = "close"

    def __post_init__(self) -> None:
        _all_are("chunks", self.chunks, bytes, "a tuple of bytes, as in Raw((b'SSH-2.0',))")
        _not_negative(interval=self.interval)
        _one_of("then", self.then, "close", "reset", "hang", "keep")


@dataclass(frozen=True, slots=True)
class EndlessHeaders:
    """A status line and then header after header, ``interval`` seconds apart, until the client gives up."""

    interval: float = 0.0

    def __post_init__(self) -> None:
        _not_negative(interval=self.interval)


Behaviour: TypeAlias = Reply | Status | Hang | Close | Reset | Raw | EndlessHeaders
"""What happens to one request."""


def gzip_bomb(size: int = 64 << 20) -> Status:
    """A 200 whose gzip body of a few kilobytes unpacks to ``size`` bytes (rounded up to MiB)."""
    block = bytes(1 << 20)
    count = -(-size // len(block))
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    # A fully flushed block refers to nothing before it and can be repeated without compressing it again.
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = 0
    for _ in range(count):
        checksum = zlib.crc32(block, checksum)
    trailer = struct.pack("<LL", checksum, (count * len(block)) & 0xFFFFFFFF)
    body = b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + packed * count + b"\x03\0" + trailer
    return Status(200, body, headers={"content-encoding": "gzip"})


# --- rate limits -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimit:
    """A limit the server really enforces, per API key: at most this much in any ``per`` seconds.

    ``requests`` and ``tokens`` are the limits, ``None`` meaning none.  A request costs a quarter of its body's bytes
    plus the output tokens it allows itself (``max_tokens`` and its relatives, if given); a refused one costs nothing.

    ``dialect`` names the headers: ``"openai"`` (``x-ratelimit-*``, resets as ``6m0s``), ``"anthropic"``
    (``anthropic-ratelimit-*``, resets as RFC 3339 time) or ``"plain"`` (``retry-after`` on 429 alone).  Resets tell
    when the limit is full again, ``retry-after`` when the refused request would pass.  ``clock`` is in seconds.
    """

    requests: int | None = None
    tokens: int | None = None
    per: float = 60.0
    dialect: Literal["openai", "anthropic", "plain"] = "openai"
    clock: Callable[[], float] = time.monotonic

    def __post_init__(self) -> None:
        _not_negative(requests=self.requests, tokens=self.tokens)
        if not number("per", self.per) > 0:
            raise ConfigurationError(f"per must be positive, not {self.per!r}")
        _one_of("dialect", self.dialect, "openai", "anthropic", "plain")
