"""Ollama's embeddings, ``/api/embed`` (documentation of 2026-10)."""

from __future__ import annotations

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.ollama.parts import WIRE
from resilient_llm.wire.protocol import JsonEmbedCodec


def _encode_request(request: EmbedRequest, own: f.Fields) -> tuple[str, f.Fields]:
    body = f.put({"model": request.model, "input": list(request.inputs)}, dimensions=request.dimensions)
    f.merge(body, own)
    return "/api/embed", body


def _decode_response(raw: f.Fields) -> EmbedResponse:
    fields = dict(raw)
    vectors = tuple(f.vector(item) for item in f.list_of(fields.pop("embeddings", None), "embeddings"))
    count = f.take_count(fields, "prompt_eval_count")
    return EmbedResponse(vectors, f.take_text(fields, "model") or "", Usage(count) if count else None, raw)


CODEC = JsonEmbedCodec(WIRE, _encode_request, _decode_response)
