"""Messages are values: they go to JSON and back, and into OpenAI's shape; and what callers write is understood."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import (
    Extra,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Refusal,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from resilient_llm.options import chat_request
from resilient_llm.wire import WIRES, codec
from resilient_llm.wire.openai_chat import decode_message

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
objects = st.dictionaries(st.text(max_size=5), values, max_size=2)
extras = st.none() | st.builds(Extra, st.sampled_from(sorted(WIRES)), objects)
texts = st.builds(Text, st.text(), st.lists(objects, max_size=2).map(tuple), extras)
media = st.builds(
    Media,
    st.sampled_from(["image", "audio", "video", "document"]),
    st.none() | st.text(),
    st.none() | st.binary(),
    st.none() | st.text(),
    st.none() | st.text(),
    st.none() | st.text(),
    extras,
)
results = st.builds(
    ToolResult,
    st.text(),
    st.lists(texts | media | st.builds(Json, values), max_size=2).map(tuple),
    st.none() | st.text(),
    st.booleans(),
    extras,
)
parts: st.SearchStrategy[Part] = (
    texts
    | media
    | results
    | st.builds(ToolCall, st.text(), st.text(), st.text(), extras)
    | st.builds(Thought, st.text(), st.none() | st.text(), st.booleans(), st.text(), extras)
    | st.builds(Refusal, st.text())
    | st.builds(Opaque, st.sampled_from(sorted(WIRES)), objects)
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "developer", "user", "assistant", "tool"]),
    st.lists(parts, max_size=3).map(tuple),
    st.none() | st.text(),
    extras,
)


@given(messages)
def test_a_message_comes_back_from_json_as_it_was(message: Message) -> None:
    assert Message.from_dict(json.loads(json.dumps(message.to_dict()))) == message


def test_what_is_as_usual_is_not_written_down() -> None:
    assert Message("user", (Text("hi"),)).to_dict() == {"role": "user", "parts": [{"type": "text", "text": "hi"}]}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        [],
        {"role": "king", "parts": []},
        {"role": "user"},
        {"role": "user", "parts": "hi"},
        {"role": "user", "parts": ["hi"]},
        {"role": "user", "parts": [{"type": "song"}]},
        {"role": "user", "parts": [{"type": "text"}]},
        {"role": "user", "parts": [{"type": "text", "text": 5}]},
        {"role": "user", "parts": [{"type": "text", "text": "a", "colour": "red"}]},
        {"role": "user", "parts": [{"type": "text", "text": "a", "extra": 3}]},
        {"role": "user", "parts": [{"type": "media", "kind": "image", "data": "!"}]},
        {"role": "user", "parts": [{"type": "opaque", "wire": "x", "data": 3}]},
        {"role": "user", "parts": [{"type": "thought", "redacted": "yes"}]},
        {"role": "user", "parts": [], "mood": "good"},
    ],
    ids=str,
)
def test_what_is_no_message_is_refused(fields: Any) -> None:
    with pytest.raises(ValueError, match=r"must|has one of|cannot be|are|base64"):
        Message.from_dict(fields)


IMAGE = Media("image", "image/png", b"\x89PNG")

OPENAI: list[tuple[Message, dict[str, Any]]] = [
    (Message("user", (Text("hi"),)), {"role": "user", "content": "hi"}),
    (Message("system", (Text("be brief"),), name="boss"), {"role": "system", "content": "be brief", "name": "boss"}),
    (
        Message("user", (Text("look"), IMAGE, Media("image", url="https://h/a.png"))),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                {"type": "image_url", "image_url": {"url": "https://h/a.png"}},
            ],
        },
    ),
    (
        Message("assistant", (Thought("hm"), ToolCall("1", "f", '{"a":1}'))),
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}],
        },
    ),
    (
        Message("tool", (ToolResult("1", (Json({"a": 1}),)),)),
        {"role": "tool", "content": '{"a": 1}', "tool_call_id": "1"},
    ),
    (Message("assistant", (Refusal("no"),)), {"role": "assistant", "content": None, "refusal": "no"}),
    (
        Message("user", (Media("document", "application/pdf", b"x", name="a.pdf"),)),
        {
            "role": "user",
            "content": [
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,eA==", "filename": "a.pdf"}}
            ],
        },
    ),
    (
        Message("user", (Media("audio", "audio/wav", b"x"),)),
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "eA==", "format": "wav"}}]},
    ),
    (Message("user", (Opaque("openai_chat", {"role": "function", "x": 1}),)), {"role": "function", "x": 1}),
    (
        Message("user", (Text("hi"), Opaque("gemini", {"a": 1})), extra=Extra("openai_chat", {"weight": 0})),
        {"role": "user", "content": "hi", "weight": 0},
    ),
]


@pytest.mark.parametrize(("message", "shape"), OPENAI, ids=range(len(OPENAI)))
def test_a_message_in_openais_shape(message: Message, shape: dict[str, Any]) -> None:
    assert message.to_openai() == shape
    assert json.loads(json.dumps(shape)) == shape
    assert decode_message(shape).to_openai() == shape, "the shape itself is read and written without loss"


def test_several_tool_results_are_several_messages() -> None:
    with pytest.raises(ValueError, match="several messages"):
        Message("tool", (ToolResult("1"), ToolResult("2"))).to_openai()


# --- what callers write ---


def only(*written: Any) -> tuple[Message, ...]:
    return chat_request(list(written), {}, stream=False).messages


def test_pairs_of_a_role_and_a_text_are_messages() -> None:
    assert only(("system", "be brief"), ("user", "hi")) == (
        Message("system", (Text("be brief"),)),
        Message("user", (Text("hi"),)),
    )
    for wrong in (("king", "hi"), ("user",), ("user", "a", "b"), ("user", 5), ("user", None)):
        with pytest.raises(InvalidRequest, match=r"messages\[0\]"):
            only(wrong)


def parts_of(content: list[Any]) -> tuple[Part, ...]:
    return only({"role": "user", "content": content})[0].parts


def test_an_image_url_may_be_a_string() -> None:
    assert parts_of([{"type": "image_url", "image_url": "https://h/a.png"}]) == (Media("image", url="https://h/a.png"),)


@pytest.mark.parametrize(
    "wire", ["openai_chat", "anthropic_messages", "gemini", "openai_responses", "bedrock_converse"]
)
def test_an_image_in_anthropics_shape_reaches_every_vendor(wire: str) -> None:
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw=="}
    written = [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image", "source": source}]}]
    request = chat_request(written, {}, stream=False)
    assert request.messages[0].parts == (Text("look"), IMAGE)
    body = codec(wire).encode_request(request).body.decode()
    assert "iVBORw==" in body
    if wire == "openai_chat":
        assert json.loads(body)["messages"][0]["content"][1] == {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,iVBORw=="},
        }


def test_urls_and_documents_in_anthropics_shape() -> None:
    url = {"type": "url", "url": "https://h/a"}
    assert parts_of([{"type": "image", "source": url}]) == (Media("image", url="https://h/a"),)
    assert parts_of([{"type": "document", "source": url}]) == (Media("document", url="https://h/a"),)
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "eA=="}
    found = parts_of([{"type": "document", "source": pdf, "title": "a.pdf"}])
    assert found == (Media("document", "application/pdf", b"x", name="a.pdf"),)


def test_what_stands_beside_an_image_in_anthropics_shape_is_for_that_wire_alone() -> None:
    source = {"type": "url", "url": "https://h/a"}
    part = {"type": "image", "source": source, "cache_control": {"type": "ephemeral"}}
    request = chat_request([{"role": "user", "content": [part]}], {}, stream=False)
    assert "cache_control" in codec("anthropic_messages").encode_request(request).body.decode()
    sent = codec("openai_chat").encode_request(request)
    assert "cache_control" not in sent.body.decode()
    assert "cache_control" in str(sent.degradations), "left out, and said so"


LOCAL = ["/home/me/a.png", "./a.png", "a.png", "C:\\a.png", "file:///a.png", "FILE:a.png", "~/a.png", "iVBORw0KGgo="]


@pytest.mark.parametrize("url", LOCAL)
def test_a_local_path_as_a_url_is_refused(url: str) -> None:
    written: list[Any] = [
        {"role": "user", "content": [{"type": "image_url", "image_url": url}]},
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]},
        {"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": url}}]},
        Message("user", (Media("image", url=url),)),
    ]
    for one in written:
        with pytest.raises(InvalidRequest, match=r"messages\[0\] has media at"):
            only(one)


@pytest.mark.parametrize("url", ["https://h/a", "data:image/png;base64,eA==", "gs://bucket/a", "s3://bucket/a"])
def test_other_urls_are_the_vendors_to_judge(url: str) -> None:
    assert only(Message("user", (Media("image", url=url),)))


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image", "source": {"type": "file", "file_id": "f"}},
        {"type": "image", "source": {}},
        {"type": "image", "source": "a.png"},
        {"type": "image", "source": {"type": "base64", "data": "eA=="}},
        {"type": "tool_use", "id": "1", "name": "f", "input": {}},
        {"type": "tool_result", "tool_use_id": "1"},
    ],
    ids=str,
)
def test_what_is_anthropics_and_cannot_be_read_is_refused(part: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\[0\]"):
        parts_of([part])
