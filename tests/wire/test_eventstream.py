"""AWS event stream: what is framed comes out again, and a frame that cannot be believed is never half believed."""

from __future__ import annotations

import base64
import contextlib
import json
import struct
import zlib
from collections.abc import Iterator
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
    encode,
    event,
    exception,
)
from tests.wire.roundtrip import CHUNK_SIZES, stream_bytes, streams

HEADERS = st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=6)
MESSAGES = st.builds(EventMessage, HEADERS, st.binary(max_size=200))


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
        list(Decoder().feed(bytes(raw)))


@given(st.binary(max_size=300))
def test_garbage_is_an_invalid_answer_or_unfinished(data: bytes) -> None:
    with contextlib.suppress(InvalidAnswer):
        assert not list(Decoder().feed(data))


@given(st.binary(max_size=60))
def test_garbage_in_headers_is_an_invalid_answer_at_worst(data: bytes) -> None:
    with contextlib.suppress(InvalidAnswer):
        list(Decoder().feed(framed(data)))


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (0, b""),
        (1, b""),
        (2, b"\xff"),
        (3, b"\x01\x00"),
        (4, b"\xff\xff\xff\xfe"),
        (5, b"\x00\x00\x00\x01\x00\x00\x00\x00"),
        (6, b"\x00\x02ab"),
        (8, b"\x00\x00\x00\x00\x00\x00\x03\xe8"),
        (9, bytes(range(16))),
    ],
)
def test_headers_of_every_type_are_passed_over_and_text_is_read(kind: int, value: bytes) -> None:
    text = header(b":event-type", 7, b"\x00\x03\xe2\x82\xac")
    [message] = Decoder().feed(framed(header(b"h", kind, value) + text))
    assert message == EventMessage({":event-type": "€"})
    assert message.header("h") == message.header("absent") == ""


def test_an_empty_message_is_sixteen_known_bytes() -> None:
    raw = bytes.fromhex("000000100000000005c248eb7d98c8ff")
    assert encode(EventMessage()) == raw
    assert list(Decoder().feed(raw)) == [EventMessage()]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (framed(b"", head=8), "shorter than its headers"),
        (framed(b"", total=15), "shorter than its headers"),
        (framed(b"", total=MAX_PAYLOAD + 17), "payload .* longer"),
        (framed(b"", head=MAX_HEADERS + 1, total=2**31), "headers .* longer"),
        (framed(header(b"h", 0, b"") * 2), "b'h' .* stands there twice"),
        (framed(header(b"h", 10, b"")), "unknown type 10"),
        (framed(b"\x05h"), "cannot be read"),
        (framed(b"\x01h"), "cannot be read"),
        (framed(header(b"h", 4, b"\0")), "cannot be read"),
        (framed(header(b"h", 7, b"\0\x09ab")), "cannot be read"),
        (framed(header(b"h", 7, b"\0\x01\xff")), "cannot be read"),
        (framed(header(b"h", 9, b"short")), "cannot be read"),
        (bytes(12), "prelude .* checksum"),
        (framed(b"", b"{}")[:-1] + b"\0", "message .* checksum"),
    ],
)
def test_a_frame_that_contradicts_itself_is_refused(raw: bytes, reason: str) -> None:
    with pytest.raises(InvalidAnswer, match=reason):
        list(Decoder().feed(raw))


def test_wrong_lengths_are_noticed_before_the_frame_is_there() -> None:
    with pytest.raises(InvalidAnswer, match="longer"):
        list(Decoder().feed(framed(b"", total=2**32 - 1)[:12]))


def test_messages_before_a_broken_frame_count() -> None:
    messages = Decoder().feed(event("messageStart", b"{}") + bytes(12))
    assert next(messages).header(":event-type") == "messageStart"
    with pytest.raises(InvalidAnswer):
        next(messages)


@pytest.mark.parametrize(
    "message",
    [
        EventMessage({"x" * 256: "y"}),
        EventMessage({"x": "y" * 65536}),
        EventMessage({}, bytes(MAX_PAYLOAD + 1)),
        EventMessage({str(i): "y" * 65535 for i in range(3)}),
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
        messages = list(Decoder().feed(raw))
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
