"""Frames that are passed on as they came: whole ones only, and only once what they mean may be handed over."""

from __future__ import annotations

import random

import pytest

from resilient_llm.drive.reading import Reading
from resilient_llm.policy import Stream, Timeouts
from resilient_llm.wire import codec
from tests.drive.test_every_cut import recordings

WIRES = ("openai_chat", "openai_responses", "anthropic_messages", "gemini", "cohere_v2")


def reading(wire: str) -> Reading:
    return Reading(codec(wire).stream_decoder(), None, Stream(), Timeouts(), 0.0, forwards=True)


def kept(one: Reading) -> bytes:
    assert one.forwarded is not None
    found, one.forwarded = one.forwarded, b""
    return found


@pytest.mark.parametrize("wire", WIRES)
def test_whatever_the_pieces_the_frames_are_the_same(wire: str) -> None:
    dice = random.Random(wire)
    for data in recordings(wire, 6):
        normal = data.replace(b"\r\n", b"\n")
        for carriage in (normal, normal.replace(b"\n", b"\r\n")):
            one, at, found = reading(wire), 0, b""
            while at < len(carriage) and not one.ended:
                size = dice.randrange(1, 400)
                one.feed(carriage[at : at + size], 0.0)
                at += size
                piece = kept(one)
                assert piece == b"" or piece.endswith(b"\n\n")
                found += piece
            if not one.ended:
                one.eof(0.0)
            assert one.fault is None
            assert normal.startswith(found.rstrip(b"\n"))
            assert len(found) >= len(normal.rstrip(b"\n")) or normal[len(found) :].strip() in (b"", b"data: [DONE]")


CALL = b'data: {"choices":[{"index":0,"delta":{"tool_calls":[{"index":0,%s}]}}]}\n\n'


def test_half_a_tool_call_is_kept_back() -> None:
    one = reading("openai_chat")
    text = b'data: {"choices":[{"index":0,"delta":{"content":"Let me see."}}]}\n\n'
    one.feed(text, 0.0)
    assert kept(one) == text
    half = CALL % b'"id":"a","function":{"name":"f","arguments":"{"}'
    rest = CALL % b'"function":{"arguments":"}"}'
    end = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"tool_calls"}]}\n\n'
    one.feed(half, 0.0)
    one.feed(rest, 0.0)
    assert kept(one) == b""
    one.feed(end, 0.0)
    assert kept(one) == half + rest + end


def test_an_error_is_not_passed_on() -> None:
    one = reading("openai_chat")
    text = b'data: {"choices":[{"index":0,"delta":{"content":"one"}}]}\n\n'
    one.feed(text + b'data: {"error":{"message":"secret of the vendor"}}\n\n', 0.0)
    assert one.fault is not None
    assert kept(one) == b""


def test_what_is_no_stream_is_not_passed_on() -> None:
    one = reading("openai_chat")
    one.feed(b'{"choices":[{"index":0,"message":{"content":"whole"},"finish_reason":"stop"}]}', 0.0)
    one.eof(0.0)
    assert one.ended
    assert one.forwarded is None


@pytest.mark.parametrize("last", [b"data: [DONE]", b"data: [DONE]\n", b"data: [DONE]\r\n"])
def test_a_last_event_is_passed_on_with_the_blank_line_it_lacks(last: bytes) -> None:
    one = reading("openai_chat")
    text = b'data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}\n\n'
    one.feed(text + last, 0.0)
    one.eof(0.0)
    assert one.ended
    assert kept(one) == text + b"data: [DONE]\n\n"


def test_a_last_event_that_was_cut_off_is_not_passed_on() -> None:
    one = reading("openai_chat")
    text = b'data: {"choices":[{"index":0,"delta":{"content":"one"},"finish_reason":"stop"}]}\n\n'
    one.feed(text + b'data: {"choices":[],"usage":{"a":{}', 0.0)
    one.eof(0.0)
    assert one.ended
    assert kept(one) == text
