"""AWS event stream: what is framed comes out again, and a frame that cannot be believed is never half believed."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import uuid
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.framing.eventstream import (
    MAX_HEADERS,
    MAX_PAYLOAD,
    Decoder,
    EventMessage,
    Value,
    encode,
    event,
    exception,
)
from tests.wire.roundtrip import CHUNK_SIZES, stream_bytes, streams

MOMENTS = st.integers(-(10**13), 10**13).map(lambda millis: datetime.fromtimestamp(millis // 1000, UTC))
VALUES: st.SearchStrategy[Value] = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.binary(max_size=40), st.text(max_size=20), MOMENTS, st.uuids()
)
MESSAGES = st.builds(EventMessage, st.dictionaries(st.text(max_size=20), VALUES, max_size=6), st.binary(max_size=200))


def framed(headers: bytes, payload: bytes = b"", head: int | None = None, total: int | None = None) -> bytes:
    """A frame with right checksums around headers and lengths that may be wrong."""
    prelude = struct.pack(
        ">II",
        len(headers) + len(payload) + 16 if total is None else total,
        len(headers) if head is None else head,
    )
    body = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return body + struct.pack(">I", zlib.crc32(body))


def header(name: bytes, kind: int, value: bytes) -> bytes:
    return bytes([len(name)]) + name + bytes([kind]) + value


@given(st.lists(MESSAGES, max_size=4), st.integers(1, 50))
def test_messages_come_out_as_they_went_in_however_they_are_cut(messages: list[EventMessage], size: int) -> None:
    raw = b"".join(map(encode, messages))
    decoder = Decoder()
    found = [message for i in range(0, len(raw), size) for message in decoder.feed(raw[i : i + size])]
    assert found == messages
    assert decoder.pending == 0


@given(MESSAGES, st.data())
def test_one_flipped_bit_is_never_believed(message: EventMessage, data: st.DataObject) -> None:
    raw = bytearray(encode(message))
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidAnswer):
        Decoder().feed(bytes(raw))


@given(st.binary(max_size=300))
def test_garbage_is_an_invalid_answer_or_unfinished(data: bytes) -> None:
    with contextlib.suppress(InvalidAnswer):
        assert Decoder().feed(data) == []


@given(st.binary(max_size=60))
def test_garbage_in_headers_is_an_invalid_answer_at_worst(data: bytes) -> None:
    with contextlib.suppress(InvalidAnswer):
        Decoder().feed(framed(data))


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (0, b"", True),
        (1, b"", False),
        (2, b"\xff", -1),
        (3, b"\x01\x00", 256),
        (4, b"\xff\xff\xff\xfe", -2),
        (5, b"\x00\x00\x00\x01\x00\x00\x00\x00", 2**32),
        (6, b"\x00\x02ab", b"ab"),
        (7, b"\x00\x03\xe2\x82\xac", "€"),
        (8, b"\x00\x00\x00\x00\x00\x00\x03\xe8", datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)),
        (9, bytes(range(16)), uuid.UUID(bytes=bytes(range(16)))),
    ],
)
def test_every_header_type_is_read(kind: int, value: bytes, expected: Value) -> None:
    [message] = Decoder().feed(framed(header(b"h", kind, value)))
    assert message == EventMessage({"h": expected})
    assert type(message.headers["h"]) is type(expected)


def test_an_empty_message_is_sixteen_known_bytes() -> None:
    raw = bytes.fromhex("000000100000000005c248eb7d98c8ff")
    assert encode(EventMessage()) == raw
    assert Decoder().feed(raw) == [EventMessage()]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (framed(b"", head=8), "shorter than its headers"),
        (framed(b"", total=15), "shorter than its headers"),
        (framed(b"", total=MAX_PAYLOAD + 17), "payload .* longer"),
        (framed(b"", head=MAX_HEADERS + 1, total=2**31), "headers .* longer"),
        (framed(header(b"h", 0, b"") * 2), "two headers 'h'"),
        (framed(header(b"h", 10, b"")), "unknown type 10"),
        (framed(b"\x05h"), "cannot be read"),
        (framed(b"\x01h"), "cannot be read"),
        (framed(header(b"h", 4, b"\0")), "cannot be read"),
        (framed(header(b"h", 7, b"\0\x09ab")), "cannot be read"),
        (framed(header(b"h", 7, b"\0\x01\xff")), "cannot be read"),
        (framed(header(b"h", 8, b"\x7f" + b"\xff" * 7)), "cannot be read"),
        (framed(header(b"h", 9, b"short")), "cannot be read"),
        (bytes(12), "prelude .* checksum"),
        (framed(b"", b"{}")[:-1] + b"\0", "message .* checksum"),
    ],
)
def test_a_frame_that_contradicts_itself_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidAnswer, match=reason):
        Decoder().feed(raw)


def test_wrong_lengths_are_noticed_before_the_frame_is_there() -> None:
    with pytest.raises(InvalidAnswer, match="longer"):
        Decoder().feed(framed(b"", total=2**32 - 1)[:12])


def test_messages_before_a_broken_frame_can_be_taken() -> None:
    decoder = Decoder()
    decoder.push(event("messageStart", b"{}") + bytes(12))
    assert decoder.take() is not None
    with pytest.raises(InvalidAnswer):
        decoder.take()


def test_a_header_of_another_type_is_no_text() -> None:
    message = EventMessage({":event-type": 7})
    assert message.header(":event-type") == message.header("absent") == ""


@pytest.mark.parametrize(
    "message",
    [
        EventMessage({"x" * 256: True}),
        EventMessage({"x": "y" * 65536}),
        EventMessage({"x": b"y" * 65536}),
        EventMessage({"x": 2**63}),
        EventMessage({}, bytes(MAX_PAYLOAD + 1)),
        EventMessage({str(i): bytes(65535) for i in range(3)}),
    ],
)
def test_what_the_format_cannot_hold_is_not_written(message: EventMessage) -> None:
    with pytest.raises(ValueError, match=r"cannot be written|longer than"):
        encode(message)


def test_events_and_exceptions_say_what_they_are() -> None:
    [first, second] = Decoder().feed(event("messageStart", b"{}") + exception("throttlingException", b"{}"))
    assert (first.header(":message-type"), first.header(":event-type")) == ("event", "messageStart")
    assert (second.header(":message-type"), second.header(":exception-type")) == ("exception", "throttlingException")


def recorded() -> Iterator[dict[str, Any]]:
    yield from streams("bedrock_converse_streams", "bedrock_invoke_streams")


def test_recorded_streams_are_read_in_any_cut_and_written_back_byte_for_byte() -> None:
    count = 0
    for record in recorded():
        raw = stream_bytes(record)
        messages = Decoder().feed(raw)
        assert b"".join(map(encode, messages)) == raw, record["id"]
        for size in CHUNK_SIZES:
            decoder = Decoder()
            assert [m for i in range(0, len(raw), size) for m in decoder.feed(raw[i : i + size])] == messages
        count += 1
    assert count >= 38


def test_recorded_invoke_streams_hold_the_vendors_own_json() -> None:
    for record in streams("bedrock_invoke_streams"):
        for message in Decoder().feed(stream_bytes(record)):
            assert message.header(":event-type") == "chunk"
            assert isinstance(json.loads(base64.b64decode(json.loads(message.payload)["bytes"])), dict)
