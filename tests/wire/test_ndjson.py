"""Lines and objects in a byte stream come out the same however the bytes are cut."""

from __future__ import annotations

import itertools
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.framing import ndjson

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.lists(st.dictionaries(st.text(max_size=5), VALUES, max_size=4), max_size=5)


def in_pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(raw) + 1) for cut in cuts), len(raw)]
    return [raw[start:end] for start, end in itertools.pairwise(edges)]


CUTS = st.lists(st.integers(min_value=0, max_value=10_000), max_size=12)


@settings(deadline=None, max_examples=60)
@given(OBJECTS, CUTS, st.sampled_from([b"\n", b"\r\n", b"\n\n", b" \r\n\r\n"]), st.booleans())
def test_lines_do_not_depend_on_the_cuts(objects: list[object], cuts: list[int], end: bytes, ended: bool) -> None:
    lines = [json.dumps(each, ensure_ascii=False).encode() for each in objects]
    raw = end.join(lines) + (end if ended else b"")
    decoder = ndjson.Decoder()
    got = [line for piece in in_pieces(raw, cuts) for line in decoder.feed(piece)] + decoder.close()
    assert got == lines
    assert decoder.close() == []


@settings(deadline=None, max_examples=60)
@given(OBJECTS, CUTS, st.sampled_from([None, 2]), st.sampled_from(["[]", ",", "\r\n"]))
def test_objects_do_not_depend_on_the_cuts(
    objects: list[object], cuts: list[int], indent: int | None, how: str
) -> None:
    texts = [json.dumps(each, indent=indent) for each in objects]
    raw = ("[" + ",\r\n".join(texts) + "]\n" if how == "[]" else how.join(texts)).encode()
    decoder = ndjson.ObjectDecoder()
    got = [json.loads(text) for piece in in_pieces(raw, cuts) for text in decoder.feed(piece)]
    assert got == objects


def test_only_a_line_feed_ends_a_line() -> None:
    text = '{"a":"\u2028\u2029\x85"}'.encode()
    assert ndjson.Decoder().feed(text + b"\n") == [text]


def test_an_encoded_line_is_one_line() -> None:
    assert ndjson.Decoder().feed(ndjson.encode(b"{}")) == [b"{}"]


@pytest.mark.parametrize("decoder", [ndjson.Decoder(9), ndjson.ObjectDecoder(9)])
def test_what_never_ends_is_refused(decoder: ndjson.Decoder | ndjson.ObjectDecoder) -> None:
    assert decoder.feed(b'{"a":') == []
    with pytest.raises(InvalidAnswer, match="longer than 9 bytes"):
        decoder.feed(b"111111")


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(InvalidAnswer):
        ndjson.ObjectDecoder().feed(b"[1]")


def test_an_object_that_was_cut_short_can_still_be_completed() -> None:
    decoder = ndjson.ObjectDecoder()
    assert decoder.feed(b'[{"a":"\\') == []
    assert decoder.feed(b'""}') == [b'{"a":"\\""}']
