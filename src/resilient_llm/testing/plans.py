"""Turns a behaviour into a plan: bytes to write, seconds to wait, and how it ends.  Pure; the server plays it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from http import HTTPStatus
from itertools import chain, repeat
from typing import TypeAlias

from resilient_llm.errors import Fault, FaultKind
from resilient_llm.testing.answers import Ask, OpenAIChat, Writer, as_json
from resilient_llm.testing.codec_writer import codec_writer
from resilient_llm.testing.received import NOT_CHAT
from resilient_llm.testing.script import (
    Answer,
    Behaviour,
    Close,
    EndlessHeaders,
    Hang,
    Raw,
    Reply,
    Reset,
    Status,
    StreamFault,
)
from resilient_llm.testing.strike import Ending, Struck, body_bytes, ending_of, stream_bytes

Step: TypeAlias = bytes | float | Ending
Plan: TypeAlias = tuple[Step, ...] | Iterator[Step]
"""A plan without an ending keeps the connection alive.  A tuple may be played again; an iterator may be endless."""

_LAST_CHUNK = b"0\r\n\r\n"
_REASONS = {status.value: status.phrase for status in HTTPStatus}


_OPENAI_CHAT = OpenAIChat()
_OPENAI_LIKE = NOT_CHAT | {"openai_chat"}
"""Where errors look like OpenAI's, as most servers imitate it."""


def writer(wire: str) -> Writer:
    """Who writes the answers of a wire."""
    return _OPENAI_CHAT if wire in _OPENAI_LIKE else codec_writer(wire)


def plan(behaviour: Behaviour, ask: Ask, extra: Mapping[str, str | None]) -> Plan:
    """What to do on the connection.  ``extra`` are headers to add, of rate limits for example."""
    if isinstance(behaviour, Reply):
        return _streamed(behaviour, ask, extra) if ask.stream else _whole(behaviour, ask, extra)
    if isinstance(behaviour, Status):
        return _status(behaviour, ask, extra)
    if isinstance(behaviour, Hang):
        return (Ending.HANG,)
    if isinstance(behaviour, Close):
        return (*_wait(behaviour.delay), Ending.CLOSE)
    if isinstance(behaviour, Reset):
        return (*_wait(behaviour.delay), Ending.RESET)
    if isinstance(behaviour, Raw):
        ending = () if behaviour.then == "keep" else (Ending(behaviour.then),)
        return _joined(chain(_spaced(behaviour.chunks, behaviour.interval), ending))
    return _endless_headers(behaviour)


def whole(answer: Answer, status: int, body: bytes, headers: Mapping[str, str | None]) -> Plan:
    """A body in one piece, with the delays and blemishes of ``answer``."""
    merged = {**headers, "content-length": str(len(body) + answer.wrong_length), **_lower(answer.headers)}
    ending = (Ending.CLOSE,) if answer.wrong_length > 0 else ()
    return _joined(chain(_wait(answer.delay), _body(answer, _head(status, merged), [body]), ending))


def _whole(reply: Reply, ask: Ask, extra: Mapping[str, str | None]) -> Plan:
    wire = writer(ask.wire)
    body = wire.whole(reply, ask)
    part = body if reply.fault is None else body_bytes(reply.fault, wire, body)
    ending = () if reply.fault is None else _abrupt(ending_of(reply.fault))
    headers = {
        "content-type": wire.content_type,
        **extra,
        "content-length": str(len(body if ending else part) + reply.wrong_length),
        **_lower(reply.headers),
    }
    if reply.wrong_length > 0:
        ending = (Ending.CLOSE,)
    generation = reply.first_token + reply.interval * max(0, len(reply.words) - 1)
    return _joined(chain(_wait(reply.delay + generation), _body(reply, _head(200, headers), [part]), ending))


def _abrupt(ending: Ending | None) -> tuple[Ending, ...]:
    """An ending that the connection does not survive."""
    return () if ending is None or ending is Ending.END else (ending,)


def _status(status: Status, ask: Ask, extra: Mapping[str, str | None]) -> Plan:
    headers: dict[str, str | None] = {"content-type": _content_type(status.body), **extra}
    if status.retry_after is not None:
        headers["retry-after"] = f"{status.retry_after:g}"
    return whole(status, status.status, status_body(status, ask), headers)


def status_body(status: Status, ask: Ask) -> bytes:
    """The body of an error answer."""
    body = status.body
    if body is None:
        return writer(ask.wire).error(_fault(status))
    if isinstance(body, str):
        return body.encode()
    return body if isinstance(body, bytes) else as_json(body)


def _fault(status: Status) -> Fault:
    kind = _KINDS.get(status.status, FaultKind.BAD_REQUEST if status.status < 500 else FaultKind.SERVER_ERROR)
    return Fault(kind, status.retry_after, status=status.status, code=status.code, message=status.message)


_KINDS: Mapping[int, FaultKind] = {
    401: FaultKind.AUTH,
    402: FaultKind.QUOTA_EXHAUSTED,
    403: FaultKind.PERMISSION,
    404: FaultKind.NOT_FOUND_MODEL,
    408: FaultKind.TIMEOUT,
    413: FaultKind.PAYLOAD_TOO_LARGE,
    429: FaultKind.RATE_LIMITED,
    503: FaultKind.OVERLOADED,
    504: FaultKind.TIMEOUT,
    529: FaultKind.OVERLOADED,
}
"""What a vendor means by a status, for the error object."""


def _content_type(body: object) -> str | None:
    if not isinstance(body, str):
        return "application/json"
    if not body:
        return None
    return "text/html; charset=utf-8" if body.lstrip().startswith("<") else "text/plain; charset=utf-8"


# --- streams -----------------------------------------------------------------------------------------------


def _streamed(reply: Reply, ask: Ask, extra: Mapping[str, str | None]) -> Plan:
    wire = writer(ask.wire)
    headers = {
        "content-type": wire.stream_type,
        "cache-control": "no-cache",
        **extra,
        "transfer-encoding": "chunked",
        **_lower(reply.headers),
    }
    steps = chain(_wait(reply.delay), _body(reply, _head(200, headers), _stream_steps(reply, ask, wire)))
    silent = reply.fault is not None and ending_of(reply.fault) is Ending.HANG
    endless = silent and reply.keep_alive is not None
    return steps if endless else _joined(steps)


def _stream_steps(reply: Reply, ask: Ask, wire: Writer) -> Iterator[Step]:
    frames = wire.frames(reply, ask)
    answer = Struck[Step](reply.fault, partial(_trouble, wire, reply.keep_alive))
    yield from map(_chunk, frames.opening)
    for index, token in enumerate(frames.tokens):
        pause = _pause(reply, wire, reply.interval if index else reply.first_token)
        yield from answer.piece(chain(pause, (_chunk(token),)), token=True)
        if answer.over:
            return
    yield from answer.piece((*map(_chunk, frames.closing), _LAST_CHUNK), last=True)


def _trouble(wire: Writer, keep_alive: float | None, fault: StreamFault) -> Iterator[Step]:
    ending = ending_of(fault)
    yield _chunk(stream_bytes(fault, wire))
    if ending is Ending.HANG and keep_alive is not None:
        yield from chain.from_iterable(repeat((keep_alive, _chunk(wire.keep_alive))))
    yield from (_LAST_CHUNK,) if ending is Ending.END else _abrupt(ending)


def _pause(reply: Reply, wire: Writer, seconds: float) -> Iterator[Step]:
    if reply.keep_alive is not None:
        while seconds > reply.keep_alive:
            yield reply.keep_alive
            yield _chunk(wire.keep_alive)
            seconds -= reply.keep_alive
    yield from _wait(seconds)


def _chunk(data: bytes) -> bytes:
    # An empty chunk would end the body.
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


# --- small parts -------------------------------------------------------------------------------------------


def _endless_headers(behaviour: EndlessHeaders) -> Iterator[Step]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    line = b"x-loopback-filler: " + b"x" * 1000 + b"\r\n"
    while True:
        yield behaviour.interval
        yield line


def _body(answer: Answer, head: bytes, steps: Iterable[Step]) -> Iterator[Step]:
    return chain((head,), steps if answer.drip is None else _dripped(answer.drip.size, answer.drip.interval, steps))


def _dripped(size: int, interval: float, steps: Iterable[Step]) -> Iterator[Step]:
    for step in steps:
        if isinstance(step, bytes):
            for start in range(0, len(step), size):
                yield interval
                yield step[start : start + size]
        else:
            yield step


def _joined(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Neighbouring bytes become one write: what needs no waiting costs one system call."""
    result: list[Step] = []
    pending: list[bytes] = []
    for step in steps:
        if isinstance(step, bytes):
            pending.append(step)
            continue
        if pending:
            result.append(b"".join(pending))
            pending.clear()
        result.append(step)
    if pending:
        result.append(b"".join(pending))
    return tuple(result)


def _spaced(chunks: Iterable[bytes], interval: float) -> Iterator[Step]:
    for index, data in enumerate(chunks):
        if index:
            yield from _wait(interval)
        yield data


def _wait(seconds: float) -> tuple[Step, ...]:
    return (seconds,) if seconds > 0 else ()


def _lower(headers: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name.lower(): value for name, value in headers.items()}


def _head(status: int, headers: Mapping[str, str | None]) -> bytes:
    lines = [f"HTTP/1.1 {status} {_REASONS.get(status, 'Unknown')}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")
