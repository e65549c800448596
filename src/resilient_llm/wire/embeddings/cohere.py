"""Cohere's embeddings, ``/v2/embed`` (API reference of 2026-10)."""

from __future__ import annotations

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.cohere.parts import WIRE
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import JsonEmbedCodec


def _decode_request(whole: f.Fields, _path: str) -> EmbedRequest:
    fields = dict(whole)
    if fields.get("texts") is None:
        raise f.Malformed("there are no texts to embed")
    texts, model = f.take_texts(fields, "texts"), f.take_text(fields, "model") or ""
    return EmbedRequest(texts, model, f.take_int(fields, "output_dimension"), f.request_extras(WIRE, fields))


def _encode_request(request: EmbedRequest, own: f.Fields) -> tuple[str, f.Fields]:
    """``input_type``, which the vendor demands, is ``search_document`` unless given."""
    body: f.Fields = {"model": request.model, "texts": list(request.inputs), "input_type": "search_document"}
    f.put(body, output_dimension=request.dimensions)
    f.merge(body, own)
    body["embedding_types"] = ["float"]
    return "/v2/embed", body


def _decode_response(raw: f.Fields) -> EmbedResponse:
    fields = dict(raw)
    found = f.take_object(fields, "embeddings") or {}
    vectors = tuple(f.vector(item) for item in f.list_of(found.get("float"), "embeddings.float"))
    meta = f.take_object(fields, "meta") or {}
    count = f.take_count(f.take_object(meta, "tokens") or f.take_object(meta, "billed_units") or {}, "input_tokens")
    return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)


def _encode_response(response: EmbedResponse, _request: EmbedRequest | None) -> f.Fields:
    units = {"input_tokens": response.usage.input_tokens} if response.usage else {}
    return {
        "id": "",
        "embeddings": {"float": [list(each) for each in response.vectors]},
        "texts": [],
        "meta": {"api_version": {"version": "2"}, "billed_units": units},
        "response_type": "embeddings_by_type",
    }


CODEC = JsonEmbedCodec(WIRE, _encode_request, _decode_response, _decode_request, _encode_response)
