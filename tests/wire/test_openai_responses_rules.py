"""OpenAI Responses, rule by rule: items and turns, errors in both shapes, and events in every order."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from resilient_llm.errors import Fault, FaultKind, InvalidAnswer, InvalidRequest, UnsupportedFeature
from resilient_llm.model import (
    BlockEnd,
    ChatRequest,
    ChatResponse,
    Extra,
    Finish,
    Json,
    KeepAlive,
    Media,
    Message,
    Opaque,
    OutputFormat,
    PartAdded,
    Reasoning,
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
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
    ToolResult,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire.openai_responses import CODEC
from tests.wire.roundtrip import assembled, events_of

WIRE = "openai_responses"
HI = Message("user", (Text("Hi"),))
ASKED = [{"role": "user", "content": "Hi"}]


def body(request: ChatRequest) -> Any:
    return json.loads(CODEC.encode_request(request).body)


def sent(*messages: Message) -> Any:
    return body(ChatRequest(messages))["input"]


def lost(request: ChatRequest) -> set[str]:
    return {degradation.feature for degradation in CODEC.encode_request(request).degradations}


def decoded(**fields: Any) -> ChatRequest:
    return CODEC.decode_request(json.dumps({"input": ASKED, **fields}).encode())


def again(**fields: Any) -> Any:
    return body(replace(decoded(**fields), source=None))


# --- settings ------------------------------------------------------------------------------------------------

EVERYTHING = ChatRequest(
    (Message("system", (Text("Be kind."),)), HI),
    model="m",
    tools=(Tool("f", "does f", {"type": "object"}, True), Tool("g")),
    tool_choice=ToolChoice("auto", ("f", "g")),
    parallel_tool_calls=False,
    output=OutputFormat("json_schema", {"type": "object"}, "n", "d", True),
    reasoning=Reasoning("low"),
    max_tokens=9,
    temperature=0.5,
    top_p=0.9,
    logprobs=True,
    top_logprobs=3,
    stream=True,
    user="u",
    extra=(Extra(WIRE, {"reasoning": {"summary": "auto"}, "text": {"verbosity": "low"}, "include": ["x"]}),),
)


def test_every_setting_has_its_field() -> None:
    named = [{"type": "function", "name": name} for name in "fg"]
    assert body(EVERYTHING) == {
        "model": "m",
        "instructions": "Be kind.",
        "input": ASKED,
        "tools": [
            {
                "type": "function",
                "name": "f",
                "description": "does f",
                "parameters": {"type": "object"},
                "strict": True,
            },
            {"type": "function", "name": "g"},
        ],
        "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": named},
        "parallel_tool_calls": False,
        "text": {
            "format": {
                "type": "json_schema",
                "name": "n",
                "description": "d",
                "schema": {"type": "object"},
                "strict": True,
            },
            "verbosity": "low",
        },
        "reasoning": {"effort": "low", "summary": "auto"},
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "include": ["message.output_text.logprobs", "x"],
        "top_logprobs": 3,
        "stream": True,
        "user": "u",
    }
    request = CODEC.encode_request(EVERYTHING)
    assert (request.path, request.degradations) == ("/responses", ())
    assert replace(CODEC.decode_request(request.body), source=None) == EVERYTHING


@pytest.mark.parametrize(
    "fields",
    [
        {"tool_choice": "required"},
        {"tool_choice": {"type": "function", "name": "f"}},
        {"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp", "name": "x"}]}},
        {"tool_choice": {"type": "file_search"}},
        {"tool_choice": "some new word"},
        {"tools": [{"type": "function", "name": "f", "defer_loading": True}, {"type": "web_search"}]},
        {"text": {"format": {"type": "text"}}},
        {"text": {"format": {"type": "json_object"}}},
        {"text": {"format": {"type": "grammar", "x": 1}, "verbosity": "low"}},
        {"reasoning": {"summary": "auto"}},
        {"previous_response_id": "r", "store": True, "conversation": "c", "truncation": "auto"},
    ],
)
def test_settings_survive_even_if_only_this_wire_knows_them(fields: Any) -> None:
    assert again(**fields) == {"input": ASKED, **fields}


def test_what_the_wire_has_no_field_for_is_left_out_or_refused() -> None:
    soft = ChatRequest(
        (HI,), seed=1, top_k=2, frequency_penalty=0.1, presence_penalty=0.1, reasoning=Reasoning(budget=9)
    )
    assert lost(soft) == {"seed", "top_k", "frequency_penalty", "presence_penalty", "reasoning.budget"}
    assert body(soft) == {"input": ASKED, "reasoning": {"effort": "low"}}
    assert "reasoning" not in body(ChatRequest((HI,), reasoning=Reasoning()))
    for hard, feature in ((ChatRequest((HI,), stop=("a",)), "stop"), (ChatRequest((HI,), n=2), "n")):
        with pytest.raises(UnsupportedFeature) as caught:
            body(hard)
        assert caught.value.feature == feature
    with pytest.raises(UnsupportedFeature, match="logit_bias"):
        body(ChatRequest((HI,), extra=(Extra("openai_chat", {"logit_bias": {"1": 2}}),)))


def test_a_choice_of_tools() -> None:
    made = [
        body(ChatRequest((HI,), tool_choice=choice))["tool_choice"]
        for choice in (ToolChoice("none", ("f",)), ToolChoice("required", ("f",)), ToolChoice("required"))
    ]
    assert made == ["none", {"type": "function", "name": "f"}, "required"]


def test_a_format_without_a_name_gets_one() -> None:
    assert body(ChatRequest((HI,), output=OutputFormat("json_schema")))["text"]["format"] == {
        "type": "json_schema",
        "name": "answer",
        "schema": {},
    }
    assert body(ChatRequest((HI,), output=OutputFormat("json_object")))["text"]["format"] == {"type": "json_object"}
    assert decoded(text={"format": {"type": "json_schema"}}).output == OutputFormat("json_schema")


def test_a_body_of_this_wire_is_forwarded_but_for_foreign_reasoning() -> None:
    foreign = {"type": "reasoning", "id": "rs_foreign_0", "summary": []}
    own = {"type": "reasoning", "id": "rs_1", "summary": []}
    request = decoded(model="m", stream=True, new=1, input=[*ASKED, foreign, own])
    assert body(replace(request, model="n")) == {"model": "n", "stream": True, "new": 1, "input": [*ASKED, own]}
    assert body(replace(request, model="", stream=False))["stream"] is False
    assert body(decoded(input="Hi")) == {"input": "Hi"}
    assert sent(*request.messages) == [*ASKED, own]


@pytest.mark.parametrize(
    "wrong",
    [
        {"input": []},
        {"input": None},
        {"input": 1},
        {"input": ["Hi"]},
        {"instructions": 1},
        {"temperature": "hot"},
        {"tools": {}},
        {"tool_choice": 1},
        {"text": "x"},
        {"reasoning": 1},
        {"input": [{"type": "function_call_output", "call_id": "a", "output": [{"type": "x"}]}]},
    ],
)
def test_a_field_of_the_wrong_type_is_named(wrong: Any) -> None:
    with pytest.raises(InvalidRequest):
        decoded(**wrong)


def test_a_request_may_build_on_what_the_vendor_remembers() -> None:
    assert decoded(input=[], previous_response_id="r").messages == ()


# --- items and turns -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "items",
    [
        [{"role": "developer", "content": "x"}],
        [
            {
                "role": "user",
                "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
                "id": "m",
            }
        ],
        [{"role": "user", "content": [{"type": "input_image", "image_url": "https://x/y.png", "detail": "high"}]}],
        [{"role": "user", "content": [{"type": "input_image", "image_url": "data:image/png;base64,AAAA"}]}],
        [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}],
        [{"role": "user", "content": [{"type": "input_image"}]}],
        [{"role": "user", "content": [{"type": "input_file", "file_url": "https://x/y.pdf"}]}],
        [
            {
                "role": "user",
                "content": [{"type": "input_file", "file_data": "data:text/plain;base64,AAAA", "filename": "x"}],
            }
        ],
        [{"role": "user", "content": [{"type": "input_file", "file_data": "AAAA", "filename": "x"}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}}]}],
        [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "?", "format": "mp3"}}]}],
        [{"role": "user", "content": [{"type": "input_hologram"}]}],
        [{"role": "critic", "content": "x"}],
        [{"type": "item_reference", "id": "x"}, {"type": "web_search_call", "id": "w"}],
        [{"type": "computer_call_output", "call_id": "c", "output": {}}],
        [{"type": "function_call_output", "call_id": "a", "output": "x", "id": "o"}],
        [{"type": "function_call_output", "call_id": "a", "output": [{"type": "input_image", "image_url": "u"}]}],
        [{"type": "function_call", "call_id": "a", "name": "f", "arguments": "{", "id": "fc", "status": "incomplete"}],
        [
            {
                "type": "reasoning",
                "id": "rs",
                "summary": [{"type": "summary_text", "text": "Hm."}],
                "encrypted_content": "e",
            }
        ],
        [
            {"type": "reasoning", "id": "rs", "summary": []},
            {
                "type": "message",
                "role": "assistant",
                "id": "m1",
                "phase": "commentary",
                "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "x"}]}],
            },
            {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
            {
                "type": "message",
                "role": "assistant",
                "id": "m2",
                "content": [
                    {"type": "output_text", "text": "b", "annotations": [], "logprobs": [1]},
                    {"type": "refusal", "refusal": "No"},
                ],
            },
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "c", "annotations": []}],
            },
        ],
    ],
)
def test_items_survive_even_if_only_this_wire_knows_them(items: Any) -> None:
    assert again(input=items)["input"] == items


def test_consecutive_items_of_the_model_are_one_turn() -> None:
    items = [
        {"type": "reasoning", "id": "rs", "summary": [{"text": "Hm."}], "content": [{"text": "raw"}]},
        {"role": "assistant", "content": "a"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": {"x": 1}},
        {"type": "function_call_output", "call_id": "c", "output": "r"},
        {"role": "assistant", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    messages = decoded(input=items).messages
    assert [message.role for message in messages] == ["assistant", "tool", "assistant", "assistant"]
    thought, text, call = messages[0].parts
    assert isinstance(thought, Thought)
    assert (thought.text, thought.origin) == ("raw", WIRE)
    assert (text, call) == (Text("a"), ToolCall("c", "f", '{"x":1}'))
    assert messages[1].parts == (ToolResult("c", (Text("r"),)),)


def test_a_message_that_refuses_keeps_its_words_if_not_its_name() -> None:
    refusal = {"type": "refusal", "refusal": "No"}
    message = {"type": "message", "role": "assistant", "id": "m", "content": [refusal]}
    assert again(input=[message])["input"] == [{"type": "message", "role": "assistant", "content": [refusal]}]


def test_turns_become_items() -> None:
    image = Media("image", "image/png", b"\0\0\0")
    url = "data:image/png;base64,AAAA"
    assert sent(
        Message("user", (ToolResult("a", (Text("x"), image, Json({"k": 1}))), Text("And?", ({"type": "x"},)))),
        Message("tool", (ToolResult("b", is_error=True),)),
        Message("assistant", (Text("a"), ToolCall("c", "f", ""), Text("b"), Refusal("no"), Media("image", url="u"))),
        Message("tool", (Text("x"),)),
        Message("user", ()),
        Message("user", (Refusal("q"), Media("document", None, b"\0\0\0"), Opaque("gemini", {}), ToolCall("a", "f"))),
    ) == [
        {
            "type": "function_call_output",
            "call_id": "a",
            "output": [
                {"type": "input_text", "text": "x"},
                {"type": "input_image", "image_url": url},
                {"type": "input_text", "text": '{"k":1}'},
            ],
        },
        {"role": "user", "content": "And?"},
        {"type": "function_call_output", "call_id": "b", "output": ""},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a", "annotations": []}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "b", "annotations": []}, {"type": "refusal", "refusal": "no"}],
        },
        {"role": "user", "content": "x"},
        {"role": "user", "content": ""},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "q"},
                {"type": "input_file", "file_data": "data:application/pdf;base64,AAAA", "filename": "file"},
            ],
        },
    ]


def test_what_cannot_be_said_about_messages_is_noted() -> None:
    messages = (
        Message("user", (Text("a", ({"type": "x"},)), Opaque("gemini", {"type": "t"}), Thought("x")), "Ann"),
        Message("tool", (ToolResult("b", is_error=True),)),
        Message("assistant", (Thought("Hm.", "sig", origin="anthropic_messages"), Opaque("gemini", {"type": "t"}))),
        Message("assistant", (Media("image", url="u"),)),
    )
    assert lost(ChatRequest(messages)) == {
        "message.name",
        "annotations",
        "gemini.t",
        "reasoning",
        "tool_result.is_error",
        "media_of_assistant",
    }


@pytest.mark.parametrize(
    "media",
    [Media("video", url="u"), Media("audio", url="u"), Media("image"), Media("document")],
)
def test_media_without_a_place_are_refused(media: Media) -> None:
    with pytest.raises(UnsupportedFeature):
        sent(Message("user", (media,)))


def test_reasoning_that_was_streamed_goes_back_as_one_item() -> None:
    told = Thought("Hm.", origin=WIRE)
    named = Thought(
        "", "enc", origin=WIRE, extra=Extra(WIRE, {"id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]})
    )
    item = {
        "type": "reasoning",
        "id": "rs",
        "summary": [{"type": "summary_text", "text": "Hm."}],
        "encrypted_content": "enc",
    }
    assert sent(Message("assistant", (told, named))) == [item]
    assert sent(Message("assistant", (told,))) == []
    bare = Thought("", None, origin=WIRE, extra=Extra(WIRE, {"id": "rs"}))
    assert sent(Message("assistant", (told, bare))) == [
        {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]}
    ]


# --- answers -------------------------------------------------------------------------------------------------


def answer(**fields: Any) -> ChatResponse:
    return CODEC.decode_response(json.dumps({"status": "completed", "output": [], **fields}).encode())


CALL = {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"}


@pytest.mark.parametrize(
    ("fields", "reason", "raw"),
    [
        ({}, "stop", "completed"),
        ({"status": None}, "stop", None),
        ({"output": [CALL]}, "tool_calls", "completed"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "length",
            "max_output_tokens",
        ),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}},
            "content_filter",
            "content_filter",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "steered"}}, "other", "steered"),
        ({"status": "incomplete"}, "other", "incomplete"),
        ({"status": "queued"}, "other", "queued"),
        ({"status": "in_progress"}, "other", "in_progress"),
        ({"status": "cancelled"}, "error", "cancelled"),
    ],
)
def test_reasons_are_understood(fields: Any, reason: str, raw: str | None) -> None:
    response = answer(**fields)
    assert (response.finish_reason, response.raw_finish_reason) == (reason, raw)
    made = json.loads(CODEC.encode_response(response))
    if reason in {"length", "content_filter"} or raw in {"completed", "queued", "in_progress"}:
        assert (made["status"], made["incomplete_details"]) == (
            fields.get("status", "completed"),
            fields.get("incomplete_details"),
        )


@pytest.mark.parametrize(
    "payload",
    [
        {"error": {"code": "x"}, "output": []},
        {"status": "failed", "output": []},
        {"status": "completed"},
        {"output": "x"},
        {},
    ],
)
def test_a_success_around_an_error_is_no_answer(payload: Any) -> None:
    with pytest.raises(InvalidAnswer) as caught:
        CODEC.decode_response(json.dumps(payload).encode())
    assert caught.value.payload == payload


def test_tokens_are_counted() -> None:
    usage = {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }
    found = answer(usage=usage).usage
    assert found == Usage(5, 3, 2, 0, 1, 8, Extra(WIRE, usage))
    assert json.loads(CODEC.encode_response(ChatResponse((), usage=found)))["usage"] == usage
    assert json.loads(CODEC.encode_response(ChatResponse((), usage=Usage(5, 3, 2, 1, 1))))["usage"] == {
        **usage,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 1},
    }


def test_an_answer_of_another_wire_is_complete() -> None:
    parts = (
        Thought("Hm.", "sig", origin="anthropic_messages"),
        Text("a", ({"cited_text": "x"}, {"type": "url_citation"})),
        ToolCall("t", "f", ""),
        Opaque("gemini", {}),
    )
    made = json.loads(CODEC.encode_response(ChatResponse(parts, "tool_calls", id="i", model="m", created=7)))
    assert made["output"] == [
        {"type": "reasoning", "id": "rs_foreign_0", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "a", "annotations": [{"type": "url_citation"}]}],
        },
        {"type": "function_call", "id": "fc_2", "call_id": "t", "name": "f", "arguments": "{}", "status": "completed"},
    ]
    assert (made["id"], made["object"], made["created_at"], made["status"], made["tools"]) == (
        "i",
        "response",
        7,
        "completed",
        [],
    )
    failed = json.loads(CODEC.encode_response(ChatResponse((), "error", "SAFETY")))
    assert (failed["status"], failed["error"]["message"]) == ("failed", "SAFETY")


# --- streams -------------------------------------------------------------------------------------------------


def frame(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def created(**response: Any) -> bytes:
    return frame("response.created", response={"id": "r", "model": "m", "created_at": 7.0, **response})


def completed(status: str = "completed", **response: Any) -> bytes:
    return frame(f"response.{status}", response={"status": status, "output": [], **response})


def delta(kind: str, text: str, index: int = 0, **more: Any) -> bytes:
    return frame(f"response.{kind}.delta", output_index=index, delta=text, **more)


def item(step: str, index: int = 0, **fields: Any) -> bytes:
    return frame(f"response.output_item.{step}", output_index=index, item=fields)


def read(*frames: bytes) -> list[StreamEvent]:
    events = events_of(CODEC, [created(), *frames])
    assert events[:1] == [StreamStart("r", "m", 7)]
    return events[1:]


@pytest.mark.parametrize("index", [{}, [], "0", None])
def test_a_place_that_is_no_number_is_a_place_all_the_same(index: object) -> None:
    pieces = [frame("response.output_text.delta", output_index=index, delta=each) for each in ("Once", " more")]
    assert [each for each in read(*pieces, completed()) if isinstance(each, TextDelta)] == [
        TextDelta("Once", 0),
        TextDelta(" more", 0),
    ]


def test_a_stream_is_its_pieces() -> None:
    annotation = {"type": "url_citation"}
    assert read(
        frame("response.in_progress", response={}),
        item("added", type="reasoning", id="rs", summary=[]),
        frame("response.reasoning_summary_part.added", output_index=0),
        delta("reasoning_summary_text", "Hm."),
        frame("response.reasoning_summary_part.added", output_index=0),
        delta("reasoning_summary_text", "So."),
        item("done", type="reasoning", id="rs", summary=[], encrypted_content="e"),
        item("added", 1, type="message"),
        delta("output_text", "a", 1, content_index=0),
        frame("response.output_text.annotation.added", output_index=1, content_index=0, annotation=annotation),
        delta("refusal", "no", 1, content_index=1),
        item(
            "done",
            1,
            type="message",
            content=[{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}],
        ),
        item("added", 2, **CALL | {"arguments": ""}),
        delta("function_call_arguments", "{}", 2),
        item("done", 2, **CALL),
        item("done", 3, type="web_search_call", id="w"),
        frame("response.some.news", output_index=3),
        completed(usage={"input_tokens": 1}, temperature=1.0),
    ) == [
        ThoughtDelta("Hm.", 0, origin=WIRE),
        ThoughtDelta("\n\n", 0, origin=WIRE),
        ThoughtDelta("So.", 0, origin=WIRE),
        BlockEnd(0),
        PartAdded(Thought("", "e", False, WIRE, Extra(WIRE, {"id": "rs", "summary": []})), 1),
        BlockEnd(1),
        TextDelta("a", 2),
        TextDelta("", 2, annotations=(annotation,)),
        RefusalDelta("no", 3),
        BlockEnd(2),
        BlockEnd(3),
        ToolCallStart("a", "f", 4),
        ToolCallDelta("{}", 4),
        BlockEnd(4),
        PartAdded(Opaque(WIRE, {"type": "web_search_call", "id": "w"}), 5),
        BlockEnd(5),
        Finish("tool_calls", "completed", extra=Extra(WIRE, {"temperature": 1.0})),
        UsageUpdate(Usage(1, extra=Extra(WIRE, {"input_tokens": 1}))),
        StreamEnd(),
    ]


MESSAGE = {
    "type": "message",
    "content": [{"type": "output_text", "text": "a"}, {"type": "refusal", "refusal": "no"}, {"type": "x"}],
}


@pytest.mark.parametrize(
    "frames",
    [
        [item("done", **MESSAGE), item("done", 1, **CALL), completed()],
        [item("added", 1, **CALL), item("done", **MESSAGE), item("done", 1, **CALL), completed(output=[MESSAGE, CALL])],
        [completed(output=[MESSAGE, CALL])],
    ],
)
def test_what_did_not_come_in_pieces_is_taken_whole(frames: list[bytes]) -> None:
    response = assembled(read(*frames))
    assert {str(part) for part in response.parts} == {
        str(part) for part in (Text("a"), Refusal("no"), Opaque(WIRE, {"type": "x"}), ToolCall("a", "f", "{}"))
    }
    assert (response.finish_reason, response.raw_finish_reason) == ("tool_calls", "completed")


def test_reasoning_that_is_only_sent_whole_is_read_whole() -> None:
    reasoning = {"type": "reasoning", "id": "rs", "summary": [{"text": "Hm."}]}
    assert assembled(read(item("done", **reasoning), completed())).reasoning == "Hm."


def test_arguments_of_a_call_that_never_began_belong_to_nothing() -> None:
    assert read(delta("function_call_arguments", "{}"), completed())[0] == Finish("stop", "completed")
    assert assembled(read(item("done", type="function_call", id="x"), completed())).tool_calls[0].id == "x"


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([completed("incomplete")], StreamEnd),
        ([completed(), b"data: [DONE]\n\n"], StreamEnd),
        ([b"data: [DONE]\n\n", completed()], StreamEnd),
        ([b"data: [DONE]\n\n"], StreamBroken),
        ([b"data: nonsense\n\n"], StreamBroken),
        ([completed(output=None)], StreamBroken),
        ([completed("failed", error={"code": "x"})], StreamError),
        ([completed("cancelled")], StreamError),
        ([completed(error={"code": "x"})], StreamError),
        ([frame("error", code="x", message="m")], StreamError),
        ([frame("error", error={"code": "x"}), completed("failed")], StreamError),
        ([b'event: error\ndata: {"message": "m"}\n\n'], StreamError),
        ([b'data: {"error": {"code": "x"}}\n\n'], StreamError),
        ([b'event: error\ndata: {"type": "news"}\n\n'], StreamError),
    ],
)
@pytest.mark.parametrize("before", [[], [delta("output_text", "a", content_index=0)]])
def test_a_stream_ends_in_one_way(frames: list[bytes], kind: type, before: list[bytes]) -> None:
    events = read(*before, *frames)
    assert isinstance(events[-1], kind)
    assert sum(isinstance(event, StreamEnd | StreamError | StreamBroken) for event in events) == 1


def test_a_whole_answer_in_place_of_a_stream_is_played_back() -> None:
    whole = json.dumps({"id": "r", "status": "completed", "output": [MESSAGE]}).encode()
    assert assembled(events_of(CODEC, [whole])).text == "a"
    assert events_of(CODEC, [b'{"error": {"code": 1}}']) == [StreamError({"error": {"code": 1}})]


def written(*events: StreamEvent) -> list[Any]:
    encoder = CODEC.stream_encoder()
    raw = b"".join(encoder.feed(event) for event in events)
    return [json.loads(f.split(b"data: ")[1]) if b"data: " in f else f.decode() for f in raw.split(b"\n\n") if f]


def test_alternatives_and_loose_ends_send_nothing() -> None:
    nothing: list[StreamEvent] = [
        TextDelta("b", choice=1),
        ToolCallDelta("{}", 7),
        BlockEnd(3),
        ThoughtDelta("", signature="s"),
        PartAdded(Media("image", url="u")),
        PartAdded(Opaque("gemini", {})),
        PartAdded(Thought("", "sig", redacted=True, origin="x")),
        UsageUpdate(Usage()),
        Finish("stop"),
    ]
    assert written(*nothing) == []


def test_a_stream_without_a_start_has_one() -> None:
    kinds = [event["type"] for event in written(TextDelta("a"), StreamStart("late"), StreamEnd())]
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event["type"] for event in written(StreamEnd())][-1] == "response.completed"


NAMED = Extra(WIRE, {"id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}]})
ITEM = {"type": "reasoning", "id": "rs", "summary": [{"type": "summary_text", "text": "Hm."}], "encrypted_content": "e"}


@pytest.mark.parametrize(
    ("events", "output"),
    [
        ([ThoughtDelta("Hm."), BlockEnd(), PartAdded(Thought("", "e", origin=WIRE, extra=NAMED), 1)], [ITEM]),
        ([PartAdded(Thought("Hm.", "e", origin=WIRE, extra=NAMED))], [ITEM]),
        ([PartAdded(Opaque(WIRE, {"type": "x"}))], [{"type": "x"}]),
    ],
)
def test_items_of_this_wire_are_themselves_again(events: list[StreamEvent], output: Any) -> None:
    assert written(*events, StreamEnd())[-1]["response"]["output"] == output


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (
            Text("a", ({"type": "x"}, {"cited_text": "y"})),
            {"content": [{"type": "output_text", "text": "a", "annotations": [{"type": "x"}], "logprobs": []}]},
        ),
        (Refusal("no"), {"content": [{"type": "refusal", "refusal": "no"}]}),
        (ToolCall("t", "f", "{}"), {"call_id": "t", "name": "f", "arguments": "{}"}),
        (Thought("Hm.", origin="x"), {"summary": [{"type": "summary_text", "text": "Hm."}]}),
    ],
)
def test_parts_that_arrive_whole_are_sent_whole(part: Any, shown: Any) -> None:
    (sent_item,) = written(PartAdded(part), StreamEnd())[-1]["response"]["output"]
    assert {key: sent_item[key] for key in shown} == shown


def test_the_end_says_how_it_ended() -> None:
    def last(*events: StreamEvent) -> Any:
        return written(*events, StreamEnd())[-1]

    assert last(Finish("length"), Finish("stop"))["type"] == "response.incomplete"
    assert last(Finish("error", "x"))["response"]["error"]["message"] == "x"
    queued = last(Finish("other", "queued"))
    assert (queued["type"], queued["response"]["status"]) == ("response.completed", "queued")
    assert last(UsageUpdate(Usage(1, 2)))["response"]["usage"]["total_tokens"] == 3
    assert last(Finish("stop", extra=Extra(WIRE, {"temperature": 1})))["response"]["temperature"] == 1


@pytest.mark.parametrize(
    ("event", "message", "code"),
    [
        (StreamError({"type": "error", "message": "busy", "code": "x"}), "busy", "x"),
        (StreamError({"error": {"message": "busy", "code": "x"}}), "busy", "x"),
        (StreamError({"response": {"error": {"message": "busy", "code": "x"}}}), "busy", "x"),
        (StreamError("busy"), "busy", None),
        (StreamBroken("cut"), "cut", None),
    ],
)
def test_errors_are_sent_on_in_both_shapes(event: StreamEvent, message: str, code: str | None) -> None:
    (error,) = written(event)
    assert (error["type"], error["message"], error["code"]) == ("error", message, code)
    assert (error["error"]["message"], error["error"]["code"]) == (message, code)


def test_markers_are_harmless_and_void_what_was_said() -> None:
    assert written(KeepAlive()) == [": keep-alive"]
    events = written(TextDelta("a"), Restarted("p", "broke"), TextDelta("b"), StreamEnd())
    (marker,) = [event for event in events if event["type"] == "resilient_llm.restart"]
    assert (marker["provider"], marker["reason"]) == ("p", "broke")
    (message,) = events[-1]["response"]["output"]
    assert message["content"][0]["text"] == "b"


def test_the_codec_has_a_name_and_every_fault_a_frame() -> None:
    assert CODEC.name == WIRE
    for kind in FaultKind:
        assert CODEC.encode_stream_error(Fault(kind), "no").startswith(b"event: error\ndata: {")
        assert json.loads(CODEC.encode_error(Fault(kind), "no"))["error"]["message"] == "no"


# --- anything at all -----------------------------------------------------------------------------------------

KEYS = ["type", "text", "id", "name", "content", "summary", "annotations", "arguments", "image_url", "refusal"]
JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=8,
)
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "reasoning", "function_call_output", "x", "x_output"])},
    optional=dict.fromkeys(
        ("role", "content", "summary", "id", "call_id", "name", "arguments", "output", "status"), JSON
    ),
)
KINDS = ["output_item.added", "output_item.done", "output_text.delta", "refusal.delta", "function_call_arguments.delta"]
KINDS += ["reasoning_text.delta", "output_text.annotation.added", "completed", "incomplete", "created", "x"]
EVENTS = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS).map("response.{}".format)},
    optional={
        "item": ITEMS | JSON,
        "delta": JSON,
        "output_index": st.integers(0, 2),
        "content_index": st.integers(0, 1) | st.none(),
        "response": st.fixed_dictionaries(
            {}, optional={"output": st.lists(ITEMS) | JSON, "status": JSON, "usage": JSON}
        ),
        "annotation": JSON,
        "error": JSON,
    },
)


@settings(max_examples=80, deadline=None)
@given(st.lists(EVENTS, max_size=6))
def test_any_stream_has_exactly_one_end(events: list[Any]) -> None:
    found = events_of(CODEC, [b"data: " + json.dumps(event).encode() + b"\n\n" for event in events])
    ends = [event for event in found if isinstance(event, StreamEnd | StreamError | StreamBroken)]
    assert ends == found[-1:]
    encoder = CODEC.stream_encoder()
    assert b"".join(encoder.feed(event) for event in found).endswith(b"\n\n")
    assembled(found)


@settings(max_examples=80, deadline=None)
@given(st.lists(ITEMS | JSON, max_size=4))
@example([{"type": "message", "content": [{}, {"type": "message"}]}])
def test_any_items_are_a_request_and_an_answer_or_refused(items: list[Any]) -> None:
    try:
        request = CODEC.decode_request(json.dumps({"input": items}).encode())
        CODEC.encode_request(replace(request, source=None))
        CODEC.encode_request(request)
    except (InvalidRequest, UnsupportedFeature):
        pass
    try:
        response = CODEC.decode_response(json.dumps({"output": items}).encode())
    except InvalidAnswer:
        return
    CODEC.decode_response(CODEC.encode_response(response))


def test_a_stream_that_the_vendor_keeps_goes_on_over_another_connection() -> None:
    def framed(kind: str, number: int, **fields: Any) -> bytes:
        return b"data: " + json.dumps({"type": kind, "sequence_number": number, **fields}).encode() + b"\n\n"

    decoder: Any = CODEC.stream_decoder()
    assert decoder.rest is None
    kept = {"id": "r/1", "model": "m", "background": True}
    events = decoder.feed(framed("response.created", 0, response=kept))
    events += decoder.feed(framed("response.output_text.delta", 1, output_index=0, content_index=0, delta="Hel"))
    assert decoder.rest == "/responses/r%2F1?stream=true&starting_after=1"
    assert isinstance(decoder.close()[-1], StreamBroken)
    decoder.reopen()
    events += decoder.feed(framed("response.output_text.delta", 2, output_index=0, content_index=0, delta="lo"))
    done = {
        "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
    }
    events += decoder.feed(framed("response.completed", 3, response=done))
    assert isinstance(events[-1], StreamEnd)
    assert assembled(events).text == "Hello"


def test_a_tool_without_a_name_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="a tool has no name"):
        decoded(tools=[{"type": "function", "parameters": {}}])
