"""The body of a request that goes on in its caller's own words: bytes are kept where nothing but the model changes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.model import ChatRequest, Extra
from resilient_llm.wire import codec
from resilient_llm.wire.kit import fields as f

NAMES = st.sampled_from(["model", "messages", "stream", "metadata", "mod\u00e9l", 'a"b'])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.sampled_from(["model", '"model"', "m-1", "\u00e9", "\\", ""]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=5,
)
BODIES = st.dictionaries(NAMES, VALUES, min_size=1, max_size=4)
STYLES = st.sampled_from([{"separators": (",", ":")}, {"indent": 1}, {"ensure_ascii": False}])


def whole(text: bytes) -> f.Whole:
    return f.Whole(f.parse_object(text, "the body", as_written=True), text)


def sent(body: f.Fields, source: f.Whole) -> bytes:
    return f.dump_forwarded(body, ChatRequest((), source=Extra("a_wire", source)))


class TestDumpForwarded:
    @given(BODIES, BODIES, STYLES)
    def test_whatever_changes_is_what_is_sent(
        self, source: dict[str, object], changes: dict[str, object], style: dict[str, object]
    ) -> None:
        text = json.dumps(source, **style).encode()  # type: ignore[arg-type]
        body = {**source, **changes}
        assert json.loads(sent(body, whole(text))) == body

    def test_only_the_model_is_another_one(self) -> None:
        text = b'{ "messages": [1,  2], "model" : "gpt",\n"x": 1.50 }'
        source = whole(text)
        assert sent({**source, "model": "cl\u00e9"}, source) == text.replace(b' : "gpt"', ':"cl\u00e9"'.encode())

    def test_what_is_added_follows(self) -> None:
        source = whole(b'{"model":"gpt","x": 1.50}')
        assert sent({**source, "stream": True}, source) == b'{"model":"gpt","x": 1.50,"stream":true}'

    @pytest.mark.parametrize(
        "text",
        [
            b'{"model":"one","model":"two"}',
            b'{"mod\\u0065l":"one","m":{"model":"one"}}',
            b'{"model":"one","m":{"model":"one"}}',
            '{"model":"one"}'.encode("utf-16-le"),
            b'\xef\xbb\xbf{"model":"one"}',
        ],
    )
    def test_who_is_asked_for_is_never_left_to_the_caller(self, text: bytes) -> None:
        source = whole(text)
        text = sent({**source, "model": "mine"}, source)
        assert text.count(b'"mine"') == 1
        assert b'"two"' not in text
        assert json.loads(text)["model"] == "mine"

    def test_a_model_that_stays_must_be_named_once(self) -> None:
        source = whole(b'{"model":"one","model":"two"}')
        assert sent({"model": "two"}, source) == b'{"model":"two"}'


def test_a_request_keeps_its_bytes() -> None:
    text = b'{"messages":[{"role":"user","content":"hi"}],"temperature":0.10,"model":"gpt","new_field":1e2}'
    request = codec("openai_chat").decode_request(text)
    assert codec("openai_chat").encode_request(request).body == text
