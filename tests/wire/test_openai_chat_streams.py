"""Chat Completions streams in the accents of compatible vendors, and broken in every way they break."""

from __future__ import annotations

import json
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import (
    BlockEnd,
    Continued,
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
from resilient_llm.wire import Codec, codec
from resilient_llm.wire.openai_chat import CODEC, Dialect, codec_for
from tests.wire.roundtrip import assembled, events_of

DONE = b"data: [DONE]\n\n"
WIRE = "openai_chat"


def frame(value: Any, event: str | None = None) -> bytes:
    return (f"event: {event}\n" if event else "").encode() + b"data: " + json.dumps(value).encode() + b"\n\n"


def chunk(delta: Any = None, finish: Any = None, index: Any = 0, **more: Any) -> bytes:
    choice: dict[str, Any] = {"index": index, "delta": delta if delta is not None else {}, "finish_reason": finish}
    return frame({"id": "c", "model": "m", "created": 7, "choices": [choice | more.pop("choice", {})], **more})


def tool(index: Any = None, call_id: Any = None, name: Any = None, arguments: Any = None, **more: Any) -> bytes:
    call = {"function": {"name": name, "arguments": arguments}, **more}
    if index is not None:
        call["index"] = index
    if call_id is not None:
        call["id"] = call_id
    return chunk({"tool_calls": [call]})


def read(*frames: bytes) -> list[StreamEvent]:
    events = events_of(CODEC, frames)
    assert events[:1] == [StreamStart("c", "m", 7)]
    return events[1:]


def calls(*frames: bytes) -> list[tuple[str, str, str]]:
    response = assembled(events_of(CODEC, [*frames, chunk(finish="tool_calls"), DONE]))
    return [(call.id, call.name, call.arguments) for call in response.tool_calls]


def test_a_stream_is_its_pieces() -> None:
    assert read(
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning_content": "Hm."}),
        chunk({"content": "Yes"}),
        chunk({"content": ".", "role": "assistant"}),
        chunk({"content": "", "annotations": [{"type": "url_citation"}]}),
        chunk({"refusal": "No"}),
        tool(0, "t", "f", ""),
        tool(0, None, None, "{}"),
        chunk(finish="tool_calls", service_tier="default"),
        frame({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}}),
        DONE,
    ) == [
        ThoughtDelta("Hm.", 0, 0, None, WIRE),
        BlockEnd(0),
        TextDelta("Yes", 1),
        TextDelta(".", 1),
        TextDelta("", 1, 0, ({"type": "url_citation"},)),
        BlockEnd(1),
        RefusalDelta("No", 2),
        BlockEnd(2),
        ToolCallStart("t", "f", 3),
        ToolCallDelta("{}", 3),
        BlockEnd(3),
        Finish("tool_calls", "tool_calls", 0, Extra(WIRE, {"service_tier": "default"})),
        UsageUpdate(Usage(3, 2, total_tokens=5)),
        StreamEnd(),
    ]


COUNTED = frame({"id": "c", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
"""The token counts of the whole answer."""


# --- what ends a stream --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "end"),
    [
        ([chunk({"content": "a"}), chunk(finish="stop")], StreamEnd()),
        ([chunk({"content": "a"}), DONE], StreamBroken("[DONE] without finish_reason or token counts")),
        ([chunk({"content": "a"}), COUNTED, DONE], StreamEnd()),
        ([chunk({"content": "a"}), COUNTED], StreamBroken("the stream ended without finish_reason")),
        ([chunk({"content": "a"}), chunk(finish="stop"), chunk(finish="stop"), DONE], StreamEnd()),
        ([chunk({"content": "a"})], StreamBroken("the stream ended without finish_reason")),
        (
            [chunk(finish="stop"), chunk({"content": "b"}, index=1)],
            StreamBroken("the stream ended without finish_reason"),
        ),
        ([chunk(finish="stop"), chunk(finish="length", index=1)], StreamEnd()),
    ],
)
def test_a_finish_for_every_choice_completes_a_stream(frames: list[bytes], end: StreamEvent) -> None:
    events = read(*frames)
    assert events[-1] == end
    finishes = [event.choice for event in events if isinstance(event, Finish)]
    assert len(finishes) == len(set(finishes))


@pytest.mark.parametrize(
    "frames", [[], [b": ping\n\n"], [frame({"type": "ping"})], [DONE], [frame({"choices": None}), DONE]]
)
def test_a_stream_without_an_answer_is_broken(frames: list[bytes]) -> None:
    assert isinstance(events_of(CODEC, frames)[-1], StreamBroken)


def test_a_terminator_without_a_finish_still_has_one() -> None:
    assert read(chunk({"content": "a"}), COUNTED, DONE)[-2:] == [Finish("stop"), StreamEnd()]
    assert read(tool(0, "t", "f", "{}"), COUNTED, DONE)[-2:] == [Finish("tool_calls"), StreamEnd()]


@pytest.mark.parametrize(
    "error",
    [
        frame({"error": {"message": "busy"}}),
        frame({"error": "busy"}),
        frame({"object": "error", "message": "busy"}),
        frame({"type": "error", "code": 1}),
        frame({"detail": "busy"}),
        frame({"message": "busy", "code": 1}),
        frame({"anything": 1}, "error"),
        chunk({"content": ""}, "length", error={"code": 400, "message": "Token limit reached"}),
        chunk({"content": ""}, "error", choice={"error": {"code": 502}}),
        chunk(choice={"error": {"code": 502}}, usage={"prompt_tokens": 1}),
    ],
)
@pytest.mark.parametrize("before", [[], [chunk({"content": "a"})], [chunk({"content": "a"}), chunk(finish="stop")]])
def test_an_error_frame_ends_a_stream_whatever_its_shape(error: bytes, before: list[bytes]) -> None:
    events = events_of(CODEC, [*before, error, chunk({"content": "b"}, "stop"), DONE])
    assert isinstance(events[-1], StreamError)
    assert sum(isinstance(event, StreamError | StreamEnd | StreamBroken) for event in events) == 1
    assert json.dumps(events[-1].payload) in error.decode()


def test_a_finish_that_is_an_error_without_more_is_a_finish() -> None:
    assert read(chunk({"content": "a"}), chunk(finish="error"))[-2:] == [
        Finish("error", "error", 0),
        StreamEnd(),
    ]


def test_undecodable_frames_break_the_stream() -> None:
    assert isinstance(read(chunk({"content": "a"}), b'data: {"choices": [\n\n', DONE)[-1], StreamBroken)


def test_a_whole_answer_in_place_of_a_stream_is_played_back() -> None:
    body = json.dumps(
        {"id": "c", "model": "m", "created": 7, "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
    )
    assert read(body.encode()) == [TextDelta("a"), BlockEnd(), Finish("stop", "stop"), StreamEnd()]
    assert events_of(CODEC, [b'{"error": {"code": 1}}']) == [StreamError({"error": {"code": 1}})]


# --- accents -------------------------------------------------------------------------------------------------


def test_azure_opens_with_a_chunk_about_the_prompt() -> None:
    opening = frame({"id": "", "model": "", "created": 0, "choices": [], "prompt_filter_results": []})
    assert events_of(CODEC, [opening, chunk({"content": "a"}, "stop"), DONE])[:2] == [
        KeepAlive(),
        StreamStart("c", "m", 7),
    ]


def test_usage_is_found_wherever_it_is() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    found = UsageUpdate(Usage(3, 2, total_tokens=5))
    assert read(chunk(finish="stop", usage=usage))[-2] == found
    assert read(chunk(finish="stop", x_groq={"id": "r", "usage": usage}))[-2] == found
    assert isinstance(read(chunk(finish="stop", x_groq={"id": "r"}))[-2], Finish)


def test_mistral_sends_content_in_a_list() -> None:
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    reference = {"type": "reference", "reference_ids": [1]}
    assert read(
        chunk({"content": [thinking]}),
        chunk({"content": [{"type": "text", "text": "Yes"}, reference]}),
        chunk(finish="stop"),
        DONE,
    ) == [
        ThoughtDelta("Hm.", 0, 0, None, WIRE),
        BlockEnd(0),
        TextDelta("Yes", 1),
        BlockEnd(1),
        PartAdded(Opaque(WIRE, reference), 2),
        BlockEnd(2),
        Finish("stop", "stop"),
        StreamEnd(),
    ]


def test_openrouter_sends_details_of_reasoning_that_go_back_to_it() -> None:
    codec = codec_for(Dialect(vendor="openrouter", reasoning_field="reasoning"))
    first, second = {"type": "reasoning.text", "text": "Hm."}, {"type": "reasoning.encrypted", "data": "x"}
    frames = [
        chunk({"reasoning": "Hm.", "reasoning_details": [first]}),
        chunk({"reasoning_details": [second]}),
        chunk({"content": "Yes"}, "stop"),
    ]
    response = assembled(events_of(codec, frames))
    assert response.reasoning == "Hm."
    message = json.loads(codec.encode_response(response))["choices"][0]["message"]
    assert (message["reasoning"], message["reasoning_details"]) == ("Hm.", [first, second])


def test_a_message_in_place_of_a_delta_is_read_once() -> None:
    message = {"role": "assistant", "content": "a"}
    last = frame({"id": "c", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]})
    assert [event for event in read(chunk({"content": "a"}), last) if isinstance(event, TextDelta)] == [TextDelta("a")]
    alone = frame({"id": "c", "model": "m", "created": 7.5, "choices": [{"message": message, "finish_reason": "stop"}]})
    assert read(alone)[0] == TextDelta("a")


def test_logprobs_are_collected() -> None:
    first, second = {"token": "a"}, {"token": "b"}
    events = read(
        chunk({"content": "a"}, choice={"logprobs": {"content": [first], "refusal": None}}),
        chunk({"content": "b"}, "stop", choice={"logprobs": {"content": [second]}}),
    )
    extra = Extra(WIRE, {"@choice": {"logprobs": {"content": [first, second]}}})
    assert Finish("stop", "stop", 0, extra) in events


# --- tool calls ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "expected"),
    [
        ([tool(1, "a", "f", ""), tool(1, None, None, "{}")], [("a", "f", "{}")]),
        ([tool(None, "a", "f", "{}")], [("a", "f", "{}")]),
        ([tool(None, "a", "f", "{}"), tool(None, "b", "f", "{}")], [("a", "f", "{}"), ("b", "f", "{}")]),
        ([tool(None, "a", "f", "{"), tool(None, "a", "f", "}")], [("a", "f", "{}")]),
        ([tool(None, "a", "f", "{"), tool(None, None, None, "}")], [("a", "f", "{}")]),
        ([tool(None, None, "f", "{}"), tool(None, None, "g", "{}")], [("call_0", "f", "{}"), ("call_1", "g", "{}")]),
        ([tool(0, "a", "f", "{}"), tool(0, "b", "g", "{}")], [("a", "f", "{}"), ("b", "g", "{}")]),
        ([tool(0, "a", "f", "{"), tool(0, "a", "f", "}")], [("a", "f", "{}")]),
        ([tool(0, "a", "f", "{"), tool(0, "", "", "}")], [("a", "f", "{}")]),
        ([tool(0, "a", "f", None), tool(0, None, None, None)], [("a", "f", "")]),
        ([tool(0, 17, "f", "{}")], [("17", "f", "{}")]),
        ([tool(0, "a", "f", {"x": 1})], [("a", "f", '{"x":1}')]),
        ([tool(0, "a", None, "{"), tool(0, None, "f", "}")], [("a", "f", "{}")]),
        ([tool(0, None, None, "{"), tool(0, "a", "f", "}")], [("a", "f", "{}")]),
        ([tool(0, "a", None, "{}")], [("a", "", "{}")]),
        (
            [tool(0, "a", "f", "1"), tool(1, "b", "g", "2"), tool(0, None, None, "3")],
            [("a", "f", "13"), ("b", "g", "2")],
        ),
        ([tool(3, "a", "f", "1"), tool(9, "b", "g", "2")], [("a", "f", "1"), ("b", "g", "2")]),
        (
            [chunk({"function_call": {"name": "f", "arguments": "{"}}), chunk({"function_call": {"arguments": "}"}})],
            [("call_0", "f", "{}")],
        ),
    ],
)
def test_tool_calls_are_put_together_however_they_are_numbered(frames: list[bytes], expected: Any) -> None:
    assert calls(*frames) == expected


def test_what_a_vendor_adds_to_a_call_goes_back_to_it() -> None:
    response = assembled(read(tool(0, "a", "f", "{}", extra_content={"google": {"thought_signature": "s"}}), DONE))
    (call,) = json.loads(CODEC.encode_response(response))["choices"][0]["message"]["tool_calls"]
    assert call["extra_content"] == {"google": {"thought_signature": "s"}}


# --- encoding ------------------------------------------------------------------------------------------------


def written(*events: StreamEvent, codec: Codec = CODEC) -> list[Any]:
    encoder = codec.stream_encoder()
    raw = b"".join(encoder.feed(event) for event in events)
    return [json.loads(f[6:]) if f.startswith(b"data: {") else f.decode() for f in raw.split(b"\n\n") if f]


def deltas(*events: StreamEvent, codec: Codec = CODEC) -> list[Any]:
    return [choice["delta"] for item in written(*events, codec=codec) for choice in item["choices"]]


ROLE = {"role": "assistant", "content": ""}


def test_each_choice_has_a_role_and_a_finish_of_its_own() -> None:
    chunks = written(TextDelta("a"), TextDelta("b", choice=1), Finish("length", choice=1), StreamEnd())
    *choices, done = [c["choices"][0] if isinstance(c, dict) else c for c in chunks]
    assert done == "data: [DONE]"
    assert [(c["index"], c["delta"], c["finish_reason"]) for c in choices] == [
        (0, ROLE, None),
        (0, {"content": "a"}, None),
        (1, ROLE, None),
        (1, {"content": "b"}, None),
        (1, {}, "length"),
        (0, {}, "stop"),
    ]


def test_usage_and_finish_are_sent_once() -> None:
    extra = Extra(WIRE, {"service_tier": "default", "@choice": {"logprobs": None}})
    finish, usage, done = written(
        TextDelta("a"),
        Finish("stop", "end_turn", extra=extra),
        Finish("length"),
        UsageUpdate(Usage(1, 1)),
        UsageUpdate(Usage(3, 2, 1, 1, 1, 9)),
        StreamEnd(),
    )[2:]
    assert (finish["service_tier"], finish["choices"]) == (
        "default",
        [{"index": 0, "delta": {}, "finish_reason": "stop", "logprobs": None}],
    )
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 9,
        "prompt_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 1},
        "completion_tokens_details": {"reasoning_tokens": 1},
    }
    assert done == "data: [DONE]"


def test_choices_that_are_none_say_nothing() -> None:
    assert (
        read(frame({"id": "c", "model": "m", "created": 7, "choices": [1, None]}), chunk(finish="stop"))[-1]
        == StreamEnd()
    )


def test_an_empty_answer_is_still_an_answer() -> None:
    *choices, done = written(StreamStart("c", "m", 7), StreamEnd())
    assert [c["choices"][0]["finish_reason"] for c in choices] == [None, "stop"]
    assert done == "data: [DONE]"


def test_the_first_stream_keeps_its_name() -> None:
    chunks = written(StreamStart("c", "m", 7), TextDelta("a"), StreamStart("d", "n", 8), TextDelta("b"))
    assert {(c["id"], c["model"], c["created"]) for c in chunks} == {("c", "m", 7)}


@pytest.mark.parametrize(
    ("part", "delta"),
    [
        (Text("a", ({"type": "x"},)), {"content": "a", "annotations": [{"type": "x"}]}),
        (Refusal("no"), {"refusal": "no"}),
        (Thought("Hm."), {"reasoning_content": "Hm."}),
        (Thought(extra=Extra(WIRE, {"reasoning_details": [1]})), {"reasoning_details": [1]}),
        (Opaque(WIRE, {"type": "reference"}), {"content": [{"type": "reference"}]}),
        (Opaque(WIRE, {"type": "custom", "id": "a"}), {"tool_calls": [{"index": 0, "type": "custom", "id": "a"}]}),
    ],
)
def test_parts_that_arrive_whole_are_sent_whole(part: Any, delta: Any) -> None:
    assert deltas(PartAdded(part)) == [ROLE, delta]


@pytest.mark.parametrize(
    "event",
    [
        TextDelta(""),
        ThoughtDelta("", signature="s"),
        RefusalDelta(""),
        ToolCallDelta("{}", 5),
        BlockEnd(),
        UsageUpdate(Usage()),
        PartAdded(Media("image", url="u")),
        PartAdded(Opaque("gemini", {})),
        PartAdded(Thought("", "sig", redacted=True)),
    ],
)
def test_what_the_wire_has_no_word_for_sends_nothing(event: StreamEvent) -> None:
    assert written(event) == []


def test_a_whole_call_is_begun_and_filled() -> None:
    start = {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    assert deltas(PartAdded(ToolCall("a", "f", "{}"), 4), ToolCallDelta("x", 4)) == [
        ROLE,
        {"tool_calls": [start]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": "x"}}]},
    ]


def test_mistral_callers_get_reasoning_too() -> None:
    assert deltas(ThoughtDelta("Hm."), codec=codec_for(Dialect(reasoning_field="content")))[1] == {
        "reasoning_content": "Hm."
    }


def test_markers_are_harmless() -> None:
    assert written(KeepAlive()) == [": keep-alive"]
    (marker,) = written(Restarted("p", "broke"))
    assert (marker["choices"], marker["resilient_llm"]) == ([], {"restarted": {"provider": "p", "reason": "broke"}})


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (StreamError({"error": {"message": "busy", "code": "x"}}), "busy"),
        (StreamError({"error": "busy"}), "busy"),
        (StreamError({"detail": "busy"}), "busy"),
        (StreamError("busy"), "busy"),
        (StreamBroken("cut"), "cut"),
    ],
)
def test_errors_are_sent_on(event: StreamEvent, message: str) -> None:
    (sent,) = written(event)
    assert sent["error"]["message"] == message


# --- anything at all -----------------------------------------------------------------------------------------

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["index", "id", "text", "type", "name", "arguments", "function"]), inner, max_size=4
        )
    ),
    max_leaves=8,
)
DELTAS = st.dictionaries(
    st.sampled_from(
        ["content", "role", "reasoning", "refusal", "tool_calls", "function_call", "annotations", "reasoning_details"]
    ),
    JSON,
    max_size=4,
)
CHOICES = st.fixed_dictionaries(
    {},
    optional={
        "index": JSON,
        "delta": DELTAS | JSON,
        "message": DELTAS | JSON,
        "finish_reason": JSON,
        "logprobs": JSON,
        "error": JSON,
    },
)
CHUNKS = st.fixed_dictionaries(
    {},
    optional={
        "id": JSON,
        "model": JSON,
        "created": JSON,
        "choices": st.lists(CHOICES, max_size=3) | JSON,
        "usage": JSON,
        "x_groq": JSON,
        "error": JSON,
    },
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CHUNKS, max_size=5), st.booleans())
def test_any_stream_has_exactly_one_end(chunks: list[Any], done: bool) -> None:
    events = events_of(CODEC, [*map(frame, chunks), DONE * done])
    ends = [event for event in events if isinstance(event, StreamEnd | StreamError | StreamBroken)]
    assert ends == events[-1:]
    encoder = CODEC.stream_encoder()
    assert b"".join(encoder.feed(event) for event in events).endswith(b"\n\n")
    assembled(events)


@settings(max_examples=60, deadline=None)
@given(CHUNKS | JSON)
def test_any_body_is_an_answer_or_none(body: Any) -> None:
    try:
        response = CODEC.decode_response(json.dumps(body).encode())
    except InvalidAnswer:
        return
    CODEC.decode_response(CODEC.encode_response(response))


TEXTS = ("a", "", "é", "\\n", '\\"', "\\u00e9", "\\ud83d\\ude00", "\\/", "\x7f", "\t", '"', "\\x", "}", "]}]}", "\\\\")
TAILS = ("", ',"logprobs":null', ',"finish_reason":null', ',"finish_reason":"stop"', ',"logprobs":{"content":[]}')
ENDS = ("", ',"usage":null', ',"obfuscation":"xyz"', ',"usage":{"prompt_tokens":1}', ',"error":{"message":"no"}')
HEADS = ("", '"id":"i","created":1,"model":"m",', '"id":"i","choices":[],', '"error":"e",')
DELTAS = ('{"content":"%s"}', '{"content":"%s","refusal":null}', '{"content":"%s","tool_calls":[{"index":0}]}')


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("head", HEADS)
def test_a_frame_known_at_sight_means_what_parsing_it_says(text: str, head: str) -> None:
    for tail, end, delta, index in product(TAILS, ENDS, DELTAS, (0, 1)):
        choice = f'{{"index":{index},"delta":{delta % text}{tail}}}'
        frame = f'data: {{{head}"choices":[{choice}]{end}}}\n\n'.encode()
        first = b'data: {"id":"i","choices":[{"index":0,"delta":{"content":"before"}}]}\n\n'
        at_sight, parsed = codec("openai_chat").stream_decoder(), codec("openai_chat").stream_decoder()
        at_sight.feed(first)
        parsed.feed(first)
        whole = at_sight.feed(frame)
        assert whole == [*parsed.feed(frame[:9]), *parsed.feed(frame[9:])], frame
        assert at_sight.close() == parsed.close()


ODD_TEXTS = st.text(
    st.sampled_from([*'ab "\\/{}[]:,', "\u00e9", "\u2028", "\n", "\x00", "\x7f", "\U0001f600"]), min_size=1, max_size=8
)


@given(st.lists(st.tuples(ODD_TEXTS, st.booleans()), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_a_frame_known_at_sight_says_what_it_says_when_parsed(texts: list[tuple[str, bool]]) -> None:
    """Frames as vendors write them, which differ in their text alone, beside the same with a space in front that makes
    them unusual."""

    def events(before: str) -> list[StreamEvent]:
        decoder = codec(WIRE).stream_decoder()
        contents = [json.dumps(text, ensure_ascii=plain) for text, plain in texts]
        whole = [f'{{"id":"c","choices":[{{"index":0,"delta":{{"content":{content}}}}}]}}' for content in contents]
        return [event for one in whole for event in decoder.feed(f"data: {before}{one}\n\n".encode())]

    assert events("") == events(" ")


def test_a_frame_that_only_begins_and_ends_like_the_last_is_parsed() -> None:
    decoder = codec(WIRE).stream_decoder()
    plain = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
    found = [event for text in (b"a", b"b", b"c", b"d") for event in decoder.feed(plain % text)]
    found += decoder.feed(plain % b"e" + plain % b"f")
    found += decoder.feed(plain % b'","refusal":"no')
    assert [one.text for one in found if isinstance(one, TextDelta)] == [*"abcdef"]
    assert [one.text for one in found if isinstance(one, RefusalDelta)] == ["no"]


# --- a last event without its blank line -------------------------------------------------------------------


LAST_EVENTS = {
    "openai_chat": (chunk({"content": "hi"}), chunk(finish="stop")),
    "openai_responses": (
        frame(
            {"type": "response.output_text.delta", "item_id": "i", "output_index": 0, "content_index": 0, "delta": "hi"}
        ),
        frame({"type": "response.completed", "response": {"id": "r", "status": "completed", "output": []}}),
    ),
    "anthropic_messages": (
        frame({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
        + frame({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}})
        + frame({"type": "message_delta", "delta": {"stop_reason": "end_turn"}}),
        frame({"type": "message_stop"}),
    ),
    "gemini": (
        b"",
        frame({"candidates": [{"index": 0, "content": {"parts": [{"text": "hi"}]}, "finishReason": "STOP"}]}),
    ),
    "cohere_v2": (
        frame({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "hi"}}}}),
        frame({"type": "message-end", "delta": {"finish_reason": "COMPLETE"}}),
    ),
}


@pytest.mark.parametrize("wire", LAST_EVENTS)
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r"])
def test_a_last_event_that_ends_the_answer_needs_no_blank_line(wire: str, end: bytes) -> None:
    before, last = LAST_EVENTS[wire]
    decoder = codec(wire).stream_decoder()
    found = [*decoder.feed(before + last[:-2] + end), *decoder.close()]
    assert type(found[-1]) is StreamEnd
    assert "".join(one.text for one in found if isinstance(one, TextDelta)) == "hi"
    assert decoder.close() == []


@pytest.mark.parametrize("wire", LAST_EVENTS)
def test_a_last_event_that_was_cut_off_is_none(wire: str) -> None:
    before, last = LAST_EVENTS[wire]
    for cut in range(len(last) - 2):
        decoder = codec(wire).stream_decoder()
        found = [*decoder.feed(before + last[:cut]), *decoder.close()]
        assert type(found[-1]) is StreamBroken, last[:cut]


def test_text_in_a_last_event_without_blank_line_is_no_answer() -> None:
    decoder = codec(WIRE).stream_decoder()
    found = [*decoder.feed(chunk({"content": "one"}) + chunk({"content": "two"})[:-2]), *decoder.close()]
    assert [one.text for one in found if isinstance(one, TextDelta)] == ["one"]
    assert type(found[-1]) is StreamBroken


def test_who_goes_on_with_a_stream_is_said_in_a_comment() -> None:
    said = CODEC.stream_encoder().feed(Continued("second", "reset"))
    assert said == b': resilient_llm continued {"provider":"second","reason":"reset"}\n\n'
    assert CODEC.stream_decoder().feed(said) == []
