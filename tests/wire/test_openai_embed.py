"""Embeddings in OpenAI's shape."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from resilient_llm.errors import ConfigurationError, InvalidAnswer, InvalidRequest
from resilient_llm.model import EmbedRequest, EmbedResponse, Extra, Usage
from resilient_llm.wire import EMBED_WIRES, embed_codec
from resilient_llm.wire.embeddings.openai import CODEC
from tests.material import corpus

RECORDS: list[Any] = [
    r for r in corpus("embeddings") if r["provider"] in {"openai", "azure", "mistral"} and r["status"] == 200
]


AS_TEXT = EmbedRequest(("a",), extra=(Extra("openai_embed", {"encoding_format": "base64"}),))

TOKEN_IDS = {"envoy-d2289fa1e5d7"}
"""Requests whose inputs are token ids, which mean something to one vendor's tokenizer only."""


@pytest.mark.parametrize("record", [r for r in RECORDS if r["request"]], ids=lambda r: r["id"])
def test_recorded_requests_survive_the_round_trip(record: Any) -> None:
    body = dict(record["request"])
    if record["id"] in TOKEN_IDS:
        with pytest.raises(InvalidRequest):
            CODEC.decode_request(json.dumps(body).encode())
        return
    again = json.loads(CODEC.encode_request(CODEC.decode_request(json.dumps(body).encode())).body)
    body["input"] = [body["input"]] if isinstance(body["input"], str) else body["input"]
    assert again == body


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: r["id"])
def test_recorded_vectors_survive_the_round_trip(record: Any) -> None:
    response = CODEC.decode_response(json.dumps(record["body"]).encode())
    texts = isinstance(record["body"]["data"][0]["embedding"], str)
    again = json.loads(CODEC.encode_response(response, AS_TEXT if texts else None))
    assert [item["embedding"] for item in again["data"]] == [item["embedding"] for item in record["body"]["data"]]
    assert again["usage"]["prompt_tokens"] == record["body"]["usage"]["prompt_tokens"]
    assert again["model"] == record["body"]["model"]


def test_vectors_come_in_the_order_of_the_inputs() -> None:
    data = [{"index": 1, "embedding": [1.0]}, {"index": 0, "embedding": [0.5, 0]}]
    assert CODEC.decode_response(json.dumps({"data": data}).encode()) == EmbedResponse(
        ((0.5, 0), (1.0,)), raw={"data": data}
    )


def test_an_answer_without_usage_still_has_counts() -> None:
    assert json.loads(CODEC.encode_response(EmbedResponse(((1.0,),), "m")))["usage"] == {
        "prompt_tokens": 0,
        "total_tokens": 0,
    }


def test_both_byte_orders_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    body = CODEC.encode_response(EmbedResponse(((1.5, -2.0),), "m", Usage(3)), AS_TEXT)
    assert json.loads(body)["data"][0]["embedding"] == "AADAPwAAAMA="
    swapped = json.dumps({"data": [{"embedding": "P8AAAMAAAAA="}]}).encode()
    monkeypatch.setattr(sys, "byteorder", "big" if sys.byteorder == "little" else "little")
    assert CODEC.decode_response(swapped).vectors == ((1.5, -2.0),)


def test_the_encoding_is_what_the_caller_asked_for() -> None:
    asked = CODEC.decode_request(b'{"input": ["a", "b"], "model": "m", "dimensions": 3, "encoding_format": "base64"}')
    assert asked == EmbedRequest(("a", "b"), "m", 3, (Extra("openai_embed", {"encoding_format": "base64"}),))
    answer = EmbedResponse(((1.5, -2.0),), "m")
    assert json.loads(CODEC.encode_response(answer, asked))["data"][0]["embedding"] == "AADAPwAAAMA="
    assert json.loads(CODEC.encode_response(answer, EmbedRequest(("a",))))["data"][0]["embedding"] == [1.5, -2.0]


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"input": []}', b'{"input": [[1, 2]]}', b'{"input": 1}', b'{"model": "m"}']
)
def test_requests_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CODEC.decode_request(body)


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"{}", b'{"data": []}', b'{"error": {"code": 1}, "data": [{"embedding": [1]}]}']
    + [json.dumps({"data": [{"embedding": value}]}).encode() for value in (None, "a", "AAAA", ["x"], [True], {})],
)
def test_answers_that_are_none_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidAnswer):
        CODEC.decode_response(body)


@pytest.mark.parametrize("wire", ["openai_embed", "gemini", "cohere_v2"])
def test_wires_of_sdks_carry_a_text_and_its_vector_both_ways(wire: str) -> None:
    there = embed_codec(wire).encode_request(EmbedRequest(("a text",), "a-model", 3))
    asked = embed_codec(wire).decode_request(there.body, there.path)
    assert (asked.inputs, asked.dimensions) == (("a text",), 3)
    back = embed_codec(wire).encode_response(EmbedResponse(((0.5, 1.0, 0.25),), "a-model", Usage(4)), asked)
    assert embed_codec(wire).decode_response(back).vectors == ((0.5, 1.0, 0.25),)


VECTOR = [0.5, 1.0, 0.25]
WRITTEN: dict[str, tuple[object, object]] = {
    "vertex_predict": (
        {"instances": [{"content": "a text"}], "parameters": {"outputDimensionality": 3}},
        {"predictions": [{"embeddings": {"values": VECTOR, "statistics": {"token_count": 4}}}]},
    ),
    "bedrock_converse": (
        {"inputText": "a text", "dimensions": 3},
        {"embedding": VECTOR, "inputTextTokenCount": 4},
    ),
    "ollama": (
        {"model": "a-model", "input": ["a text"], "dimensions": 3},
        {"model": "a-model", "embeddings": [VECTOR], "prompt_eval_count": 4},
    ),
}
"""What is sent, and what comes back."""


@pytest.mark.parametrize("wire", sorted(EMBED_WIRES - {"openai_embed", "gemini", "cohere_v2"}))
def test_the_other_wires_write_requests_and_read_vectors(wire: str) -> None:
    asked, answer = WRITTEN[wire]
    sent = embed_codec(wire).encode_request(EmbedRequest(("a text",), "a-model", 3))
    assert json.loads(sent.body) == asked
    found = embed_codec(wire).decode_response(json.dumps(answer).encode())
    assert (found.vectors, found.usage) == ((tuple(VECTOR),), Usage(4))
    with pytest.raises(InvalidRequest, match="written here and not read"):
        embed_codec(wire).decode_request(sent.body, sent.path)
    with pytest.raises(ConfigurationError, match="read here and not written"):
        embed_codec(wire).encode_response(EmbedResponse(()))


@pytest.mark.parametrize("wire", sorted(EMBED_WIRES - {"openai_embed"}))
def test_what_another_wire_asks_for_is_left_out_and_said_on_each(wire: str) -> None:
    asked = EmbedRequest(("a text",), "a-model", extra=(Extra("openai_embed", {"encoding_format": "base64"}),))
    lost = embed_codec(wire).encode_request(asked).degradations
    assert [each.feature for each in lost] == ["openai_embed.encoding_format"]
