"""Server-sent events: the WHATWG's rules, vectors after the Web Platform Tests and after what vendors really send."""

from __future__ import annotations

import base64
import gzip
import hashlib
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.framing import sse
from tests.material import material

CHUNK_SIZES = (1, 2, 3, 7, 4093)

VECTORS: list[tuple[bytes, list[str]]] = [
    # a byte-order mark counts once and only at the very beginning
    (b"\xef\xbb\xbfdata:1\n\n\xef\xbb\xbfdata:2\n\ndata:3\n\n", ["1", "3"]),
    (b"\xef\xbb\xbf\xef\xbb\xbfdata:1\n\ndata:2\n\ndata:3\n\n", ["2", "3"]),
    # comments, long ones too, with every line end
    (
        b"data:1\r:\0\n:\r\ndata:2\n:" + b"x" * 2048 + b"\rdata:3\n:data:fail\r:" + b"x" * 2048 + b"\ndata:4\n\n",
        ["1\n2\n3\n4"],
    ),
    # the last event needs its blank line
    (b"retry:1000\ndata:test1\n\nid:test\ndata:test2", ["test1"]),
    # data without a value is an empty line, and an event
    (b"data:\n\ndata\ndata\n\ndata:test\n\n", ["", "\n", "test"]),
    # field names are exact, one leading space goes
    (
        b"data:\0\ndata:  2\rData:1\ndata\0:2\ndata:1\r\0data:4\n"
        b"da-ta:3\rdata_5\ndata:3\rdata:\r\n data:32\ndata:4\n\n",
        ["\0\n 2\n1\n3\n\n4"],
    ),
    (b"data:test\n data\ndata\nfoobar:xxx\njustsometext\n:thisisacommentyay\ndata:test\n\n", ["test\n\ntest"]),
    (b"data:\ttest\rdata: \ndata:test\n\n", ["\ttest\n\ntest"]),
    (b"data:test\r\ndata\ndata:test\r\n\r", ["test\n\ntest"]),
    (b"event: only\n\n", []),
    (b"data:\0\n\n", ["\0"]),
    (b"event: \ndata:data\n\n", ["data"]),
    (b"retry\ndata:test\n\n", ["test"]),
    (b"data:ok\xe2\x80\xa6\n\n", ["ok…"]),
    # a block without data is no event
    (b"id: 1\n\ndata:x\n\n", ["x"]),
    (b"retry: 10\n\ndata:x\n\n", ["x"]),
    (b"event: ping\n\ndata:x\n\n", ["x"]),
    (b"id: 1\ndata:a\n\n: keepalive\n\n\ndata:b\n\n", ["a", "b"]),
    # characters that str.splitlines() would take for line ends
    ("data:a\u2028b\u2029c\u0085d\n\n".encode(), ["a\u2028b\u2029c\u0085d"]),
    (b": OPENROUTER PROCESSING\n\n: OPENROUTER PROCESSING\n\ndata: {}\n\n", ["{}"]),
    (b"data:{}\n\ndata:[DONE]\n\n", ["{}", "[DONE]"]),
    (b"data: A\r\ndata: B\r\ndata: C\r\n\r\n", ["A\nB\nC"]),
    (b"data: A\r\rdata: B\r\r", ["A", "B"]),
    (b"data:" + b"x" * (2 << 20) + b"\n\n", ["x" * (2 << 20)]),
    (b"data:a\xffb\n\n", ["a\ufffdb"]),
    # what the short way through could get wrong
    (b"data: a\n\ndata: b\n\n", ["a", "b"]),
    (b"data: a\n\n\ndata: b\n\n\n\n", ["a", "b"]),
    (b"data: a\nid: 7\n\nevent: x\ndata: b\ndata: c\n\n", ["a", "b\nc"]),
    (b"data: a\n\ndata: b\n\ndata: c", ["a", "b"]),
    (b"event: x\n\n\ndata: a\n\n", ["a"]),
    (b"\n\ndata: a\n\n", ["a"]),
    (b"data: \n\n", [""]),
    (b"data: a\r\n\r\ndata: b\r\n\r\n", ["a", "b"]),
]


def decoded(raw: bytes, size: int = 0) -> list[sse.Event]:
    decoder = sse.Decoder()
    return [
        event
        for i in range(0, len(raw), size or len(raw) or 1)
        for event in decoder.feed(raw[i : i + (size or len(raw))])
    ]


@pytest.mark.parametrize(("raw", "data"), VECTORS)
def test_events_follow_the_standard_however_they_arrive(raw: bytes, data: list[str]) -> None:
    whole = decoded(raw)
    assert [text for _, text in whole] == data
    for size in CHUNK_SIZES if len(raw) < 100_000 else (4093, 65_536):
        assert decoded(raw, size) == whole


def shown(text: str) -> object:
    if len(text) <= 4096:
        return text
    return {"sha256": hashlib.sha256(text.encode()).hexdigest(), "chars": len(text)}


def test_the_shared_vectors_are_met() -> None:
    vectors = json.loads(material("corpus", "sse_vectors.json").read_text())["vectors"]
    for vector in vectors:
        packed = vector.get("input_gz_b64")
        raw = gzip.decompress(base64.b64decode(packed)) if packed else base64.b64decode(vector["input_b64"])
        for size in (len(raw), *CHUNK_SIZES) if len(raw) < 100_000 else (len(raw), 4093):
            decoder = sse.Decoder()
            found = [
                [event, shown(data), decoder.last_event_id]
                for i in range(0, len(raw), size)
                for event, data in decoder.feed(raw[i : i + size])
            ]
            assert found == vector["expected"], (vector["id"], size)


def test_events_have_the_name_the_wire_gave_them() -> None:
    assert decoded(b"event: a\ndata: 1\n\nevent: b\ndata: 2\n\n") == [("a", "1"), ("b", "2")]
    assert decoded(b"event: a\ndata: 1\n\ndata: 2\n\nevent: b\nid: 3\ndata: 3\n\n") == [
        ("a", "1"),
        ("message", "2"),
        ("b", "3"),
    ]


def test_an_id_with_a_null_byte_is_ignored() -> None:
    decoder = sse.Decoder()
    decoder.feed(b"id: 1\ndata: a\n\nid: \0\ndata: b\n\n")
    assert decoder.last_event_id == "1"


LINES = st.sampled_from(
    [b"data: x", b"data: y", b"data:", b"event: e", b": c", b"id: 4", b"\xff", b"", b"", b"data: \xe2\x82\xac"]
)
ENDS = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])


@given(st.lists(st.tuples(LINES, ENDS), max_size=30), st.lists(st.integers(0, 200), max_size=8), st.booleans())
def test_any_cut_gives_the_same_events(lines: list[tuple[bytes, bytes]], cuts: list[int], mark: bool) -> None:
    raw = b"\xef\xbb\xbf" * mark + b"".join(line + end for line, end in lines)
    edges = [0, *sorted(min(cut, len(raw)) for cut in cuts), len(raw)]
    decoder = sse.Decoder()
    pieces = [raw[a:b] for a, b in itertools.pairwise(edges)]
    assert [event for piece in pieces for event in decoder.feed(piece)] == decoded(raw, 1)


@pytest.mark.parametrize(
    "raw", [b"data: 0123456789\n\n", b"data: 01\ndata: 23\n\n", b": 0123456789abcdef\n\n", b"0123456789abcdef"]
)
@pytest.mark.parametrize("size", [1, 5, 100])
def test_an_event_over_the_limit_is_no_answer(raw: bytes, size: int) -> None:
    decoder = sse.Decoder(max_event=15)
    pieces = [raw[i : i + size] for i in range(0, len(raw), size)]
    with pytest.raises(InvalidAnswer, match="longer than 15 bytes"):
        list(map(decoder.feed, pieces))


def test_many_events_may_be_longer_than_the_limit_together() -> None:
    frame = b"data: 012\n\n: 0123456789\n"
    assert len(sse.Decoder(max_event=12).feed(frame * 100)) == 100


def test_a_line_in_very_many_pieces_costs_no_more_than_its_length() -> None:
    decoder = sse.Decoder()
    decoder.feed(b"data: ")
    for _ in range(100_000):
        assert decoder.feed(b"x") == []
    assert decoder.feed(b"\n\n") == [("message", "x" * 100_000)]


def test_frames_are_written_as_strict_readers_want_them() -> None:
    assert sse.encode(b"{}") == b"data: {}\n\n"
    assert sse.encode(b"{}", "error") == b"event: error\ndata: {}\n\n"
