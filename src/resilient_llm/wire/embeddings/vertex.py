"""Embeddings on Vertex AI, ``predict`` (API reference of 2026-10)::

    {"instances": [{"content": "Hello", "task_type": "RETRIEVAL_DOCUMENT"}],
     "parameters": {"outputDimensionality": 256}}

    {"predictions": [{"embeddings": {"values": [0.1, 0.2], "statistics": {"token_count": 1, "truncated": false}}}]}

What is to stand beside each text (``task_type``, ``title``) is given as ``{"instances": {"task_type": ...}}`` in an
:class:`~resilient_llm.model.Extra` of this wire.
"""

from __future__ import annotations

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.gemini.request import path_of
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import JsonEmbedCodec

WIRE = "vertex_predict"


def _encode_request(request: EmbedRequest, own: f.Fields) -> tuple[str, f.Fields]:
    beside = f.as_object(own.pop("instances", None))
    parameters = f.put(dict(f.as_object(own.pop("parameters", None))), outputDimensionality=request.dimensions)
    body: f.Fields = {"instances": [{**beside, "content": text} for text in request.inputs]}
    f.put(body, parameters=parameters or None)
    return path_of(request.model, "predict"), {**body, **own}


def _decode_response(raw: f.Fields) -> EmbedResponse:
    items = f.list_of(raw.get("predictions"), "predictions")
    found = [f.as_object(f.object_of(item, "a prediction").get("embeddings")) for item in items]
    vectors = tuple(f.vector(one.get("values")) for one in found)
    count = sum(f.count_of(f.as_object(one.get("statistics")).get("token_count")) for one in found)
    return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)


CODEC = JsonEmbedCodec(WIRE, _encode_request, _decode_response)
