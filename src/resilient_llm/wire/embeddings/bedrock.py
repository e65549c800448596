"""Embeddings of Amazon Titan, at Bedrock (API reference of 2026-10)."""

from __future__ import annotations

from urllib.parse import quote

from resilient_llm.errors import UnsupportedFeature
from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.bedrock.parts import WIRE
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import JsonEmbedCodec


def _encode_request(request: EmbedRequest, own: f.Fields) -> tuple[str, f.Fields]:
    """Titan takes one text at a time."""
    if len(request.inputs) != 1:
        raise UnsupportedFeature(Feature.SEVERAL_INPUTS, request.model)
    body: f.Fields = f.put({"inputText": request.inputs[0]}, dimensions=request.dimensions)
    f.merge(body, own)
    return f"/model/{quote(request.model, safe='', errors='replace')}/invoke", body


def _decode_response(raw: f.Fields) -> EmbedResponse:
    numbers = f.vector(raw.get("embedding"))
    if not numbers:
        raise f.Malformed("the embedding is empty")
    return EmbedResponse((numbers,), usage=Usage(f.count_of(raw.get("inputTextTokenCount"))), raw=raw)


CODEC = JsonEmbedCodec(WIRE, _encode_request, _decode_response)
