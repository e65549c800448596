"""Mishaps as HTTP, for a transport: answers in the place of a provider's, and true ones altered.  Pure.

Both are steps: seconds to wait, the head, bytes of the body; they raise what ``httpx`` would.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, final

import h11
import httpx

from resilient_llm.errors import InvalidAnswer
from resilient_llm.testing.answers import Ask
from resilient_llm.testing.faults import SlowTokens
from resilient_llm.testing.in_process import words_of
from resilient_llm.testing.plans import plan, writer
from resilient_llm.testing.script import Behaviour, StreamFault
from resilient_llm.testing.strike import Ending, Struck, body_bytes, ending_of, stream_bytes
from resilient_llm.wire import codec


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers."""

    status: int
    headers: list[tuple[bytes, bytes]]


Step: TypeAlias = float | Head | bytes


# --- in the place of a provider's --------------------------------------------------------------------------


def played(behaviour: Behaviour, ask: Ask) -> Iterator[Step]:
    """Waits, the head, and the body.  Raises what httpx would."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="POST", target="/", headers=[("host", "loopback")]))
    connection.send(h11.EndOfMessage())
    for step in plan(behaviour, ask, {}):
        if isinstance(step, Ending):
            yield from _ended(connection, step)
            return
        if isinstance(step, bytes):
            connection.receive_data(step)
            yield from _received(connection)
            if connection.their_state is h11.DONE:
                return
        else:
            yield float(step)
    yield math.inf  # the server would wait for the next request, and the client for the rest of this answer


def _ended(connection: h11.Connection, ending: Ending) -> Iterator[Step]:
    if ending is not Ending.CLOSE:
        yield from _left(ending)
    if connection.their_state is h11.SEND_RESPONSE:
        raise httpx.RemoteProtocolError("the server disconnected without sending a response")
    connection.receive_data(b"")
    yield from _received(connection)
    if connection.their_state is not h11.DONE:
        raise httpx.RemoteProtocolError("the server disconnected without sending a complete answer")


def _received(connection: h11.Connection) -> Iterator[Step]:
    while True:
        try:
            event = connection.next_event()
        except h11.RemoteProtocolError as error:
            raise httpx.RemoteProtocolError(str(error)) from error
        if isinstance(event, h11.Response):
            yield Head(event.status_code, list(event.headers.raw_items()))
        elif isinstance(event, h11.Data):
            yield bytes(event.data)
        else:
            return


def _left(ending: Ending | None) -> Iterator[float]:
    if ending is Ending.HANG:
        yield math.inf
    elif ending is Ending.RESET:
        raise httpx.ReadError("[Errno 104] Connection reset by peer")
    elif ending is Ending.CLOSE:
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")


# --- altered -----------------------------------------------------------------------------------------------


@final
class AlteredBody:
    """Cuts the bytes of a true answer into pieces and lets the mishap strike between them."""

    def __init__(self, mishap: StreamFault | SlowTokens, ask: Ask) -> None:
        self._mishap = mishap
        self._wire = ask.wire
        self._decoder = codec(ask.wire).stream_decoder() if ask.stream else None
        self._whole = bytearray()
        self._pieces = Struck[bytes](mishap, partial(_trouble, ask.wire))

    @property
    def over(self) -> bool:
        """Whether nothing of the true answer is wanted any more."""
        return self._pieces.over

    def feed(self, data: bytes) -> Iterator[float | bytes]:
        """What becomes of these bytes."""
        if self._decoder is None:
            self._whole += data
            return
        start = 0
        for end in range(1, len(data) + 1):
            events = self._decoder.feed(data[end - 1 : end])
            if events:
                yield from self._pieces.said(events, (data[start:end],))
                start = end
        yield from self._pieces.piece((data[start:],))

    def finish(self) -> Iterator[float | bytes]:
        """The true answer is over."""
        mishap = self._mishap
        if self._decoder is not None:
            yield from self._pieces.end()
        elif isinstance(mishap, SlowTokens):
            yield mishap.interval * _words(bytes(self._whole), self._wire)
            yield bytes(self._whole)
        else:
            yield body_bytes(mishap, writer(self._wire), bytes(self._whole))
            yield from _left(ending_of(mishap))


def _trouble(wire: str, fault: StreamFault) -> Iterator[float | bytes]:
    yield stream_bytes(fault, writer(wire))
    yield from _left(ending_of(fault))


def _words(body: bytes, wire: str) -> int:
    try:
        return words_of(codec(wire).decode_response(body))
    except InvalidAnswer:
        return 1


def altered(chunks: Iterator[bytes], body: AlteredBody) -> Iterator[Step]:
    """What becomes of a body."""
    for chunk in chunks:
        yield from body.feed(chunk)
        if body.over:
            return
    yield from body.finish()
