"""Events put together are the answer; an answer taken apart is its events."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.model import (
    BlockEnd,
    ChatResponse,
    Choice,
    Extra,
    Finish,
    KeepAlive,
    Media,
    Opaque,
    PartAdded,
    Refusal,
    RefusalDelta,
    Restarted,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire.kit.accumulate import Accumulator, replay


def put_together(*events: StreamEvent) -> ChatResponse:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response()


def test_pieces_of_a_block_are_joined_in_order() -> None:
    extra = Extra("w", {"a": 1})
    response = put_together(
        StreamStart("id", "m", 7),
        ThoughtDelta("Hm", 0, origin="w"),
        ThoughtDelta("m.", 0, origin="w"),
        ThoughtDelta("", 0, 0, "sig", "w"),
        BlockEnd(0),
        TextDelta("Yes", 1),
        TextDelta(".", 1, annotations=({"url": "u"},)),
        ToolCallStart("t", "f", 2, extra=extra),
        ToolCallDelta('{"a":', 2),
        ToolCallDelta("1}", 2),
        RefusalDelta("No", 3),
        RefusalDelta(" more", 3),
        PartAdded(Media("image", url="u"), 4),
        KeepAlive(),
        UsageUpdate(Usage(1, 1)),
        UsageUpdate(Usage(1, 2)),
        Finish("tool_calls", "tool_use", extra=extra),
        StreamEnd(),
    )
    assert response == ChatResponse(
        (
            Thought("Hmm.", "sig", origin="w"),
            Text("Yes.", ({"url": "u"},)),
            ToolCall("t", "f", '{"a":1}', extra),
            Refusal("No more"),
            Media("image", url="u"),
        ),
        "tool_calls",
        "tool_use",
        Usage(1, 2),
        "id",
        "m",
        7,
        extra=extra,
    )


def test_blocks_of_calls_that_alternate_are_kept_apart() -> None:
    response = put_together(
        ToolCallStart("a", "f", 0),
        ToolCallStart("b", "g", 1),
        ToolCallDelta("1", 0),
        ToolCallDelta("2", 1),
        ToolCallDelta("3", 0),
        ToolCallDelta("nobody's", 7),
    )
    assert [call.arguments for call in response.tool_calls] == ["13", "2"]


def test_a_block_that_changes_its_kind_is_another_part() -> None:
    response = put_together(TextDelta("a"), ThoughtDelta("b"), RefusalDelta("c"), TextDelta("d"))
    assert response.parts == (Text("a"), Thought("b"), Refusal("c"), Text("d"))


def test_every_choice_is_an_answer_of_its_own() -> None:
    response = put_together(
        TextDelta("a"), TextDelta("b", choice=2), Finish("stop"), Finish("length", "max", 2), StreamEnd()
    )
    assert (response.text, response.finish_reason) == ("a", "stop")
    assert response.alternatives == (Choice((Text("b"),), "length", "max"),)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([TextDelta("a"), StreamEnd()], "stop"),
        ([ToolCallStart("a", "f"), StreamEnd()], "tool_calls"),
        ([TextDelta("a")], "error"),
        ([TextDelta("a"), StreamBroken("cut")], "error"),
        ([TextDelta("a"), StreamError({})], "error"),
        ([], "error"),
    ],
)
def test_an_answer_that_does_not_say_why_it_ended_is_judged_by_its_end(events: list[StreamEvent], reason: str) -> None:
    assert put_together(*events).finish_reason == reason


def test_a_restart_voids_what_came_before() -> None:
    response = put_together(
        StreamStart("a", "m"),
        TextDelta("old"),
        UsageUpdate(Usage(1)),
        Finish("stop"),
        StreamEnd(),
        Restarted("p", "broke"),
        StreamStart("b", "n"),
        TextDelta("new"),
    )
    assert (response.id, response.text, response.usage, response.finish_reason) == ("b", "new", None, "error")


def test_the_partial_answer_can_be_had_at_any_time() -> None:
    accumulator = Accumulator()
    assert accumulator.response() == ChatResponse((), "error")
    accumulator.add(TextDelta("a"))
    assert accumulator.response().text == "a"
    accumulator.add(TextDelta("b"))
    assert accumulator.response().text == "ab"


WORDS = st.text(max_size=8)
EXTRAS = st.none() | st.builds(Extra, st.just("w"), st.just({"a": 1}))
PARTS: st.SearchStrategy[Any] = st.one_of(
    st.builds(Text, WORDS, st.just(()) | st.just(({"url": "u"},))),
    st.builds(ToolCall, WORDS, WORDS, WORDS, EXTRAS),
    st.builds(Thought, WORDS, st.none() | WORDS, st.booleans(), WORDS, EXTRAS),
    st.builds(Refusal, WORDS),
    st.builds(Opaque, WORDS, st.just({"a": 1})),
    st.builds(Media, st.just("image"), url=WORDS),
)
SAID = st.lists(PARTS, max_size=5).map(tuple)
REASONS: Any = st.sampled_from(["stop", "length", "tool_calls", "content_filter", "error", "other"])
CHOICES = st.builds(Choice, SAID, REASONS, st.none() | WORDS, EXTRAS)


ANSWERS = st.builds(
    ChatResponse,
    SAID,
    REASONS,
    st.none() | WORDS,
    st.none() | st.builds(Usage, st.integers()),
    st.just("id"),
    st.just("m"),
    st.just(7),
    st.lists(CHOICES, max_size=2).map(tuple),
    EXTRAS,
)


@given(ANSWERS)
def test_an_answer_played_back_and_put_together_is_the_same(response: ChatResponse) -> None:
    assert put_together(*replay(response)) == response


def test_what_is_added_to_a_fork_is_not_in_the_other() -> None:
    first = Accumulator()
    for event in (StreamStart("id", "m"), TextDelta("Hel", 0), ToolCallStart("t", "f", 1), UsageUpdate(Usage(1, 2))):
        first.add(event)
    second = first.fork(without=frozenset({(0, 1)}))
    assert (first.calls(), second.calls(), second.next_block(), second.last_text(frozenset())) == ([(0, 1)], [], 1, 0)
    second.renamed("n")
    for event in (TextDelta("lo", 0), Finish("stop")):
        second.add(event)
    assert (first.response().text, second.response().text) == ("Hel", "Hello")
    assert (first.response().model, second.response().model, second.usage) == ("m", "n", Usage(1, 2))
    assert (first.finished, second.finished) == (False, True)
