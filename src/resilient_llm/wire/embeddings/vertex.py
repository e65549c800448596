"""Embeddings on Vertex AI, ``predict`` (API reference of 2026-10)::

    {"instances": [{"content": "Hello", "task_type": "RETRIEVAL_DOCUMENT"}],
     "parameters": {"outputDimensionality": 256}}

    {"predictions": [{"embeddings": {"values": [0.1, 0.2], "statistics": {"token_count": 1, "truncated": false}}}]}

What is to stand beside each text (``task_type``, ``title``) is given as ``{"instances": {"task_type": ...}}`` in an
:class:`~resilient_llm.model.Extra` of this wire.
"""

from __future__ import annotations

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.gemini.request import path_of, read_path
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.json_codec import JsonEmbedCodec
from resilient_llm.wire.kit.notes import Notes, extras_for
from resilient_llm.wire.protocol import JSON_HEADERS, HttpRequest

WIRE = "vertex_predict"


def _decode_request(whole: f.Fields, path: str) -> EmbedRequest:
    """Instances that differ in more than their text are refused."""
    fields = dict(whole)
    items = [dict(f.object_of(item, "an instance")) for item in f.take_list(fields, "instances")]
    texts = [f.take_text(item, "content") for item in items]
    if not texts or any(text is None for text in texts):
        raise f.Malformed("each instance must have a text as content")
    if any(item != items[0] for item in items):
        raise f.Malformed("the instances differ in more than their text")
    parameters = dict(f.take_object(fields, "parameters") or {})
    dimensions = f.take_int(parameters, "outputDimensionality")
    f.put(fields, instances=items[0] or None, parameters=parameters or None)
    return EmbedRequest(
        tuple(text or "" for text in texts), read_path(path)[0], dimensions, f.request_extras(WIRE, fields)
    )


def _encode_request(request: EmbedRequest) -> HttpRequest:
    notes = Notes(WIRE)
    extra = dict(extras_for(WIRE, request.extra, notes))
    beside = f.as_object(extra.pop("instances", None))
    parameters = f.put(dict(f.as_object(extra.pop("parameters", None))), outputDimensionality=request.dimensions)
    body: f.Fields = {"instances": [{**beside, "content": text} for text in request.inputs]}
    f.put(body, parameters=parameters or None)
    path = path_of(request.model, "predict")
    return HttpRequest(path, f.dump_request({**body, **extra}), JSON_HEADERS, notes.all())


def _decode_response(raw: f.Fields) -> EmbedResponse:
    items = f.list_of(raw.get("predictions"), "predictions")
    found = [f.as_object(f.object_of(item, "a prediction").get("embeddings")) for item in items]
    vectors = tuple(f.vector(one.get("values")) for one in found)
    count = sum(f.count_of(f.as_object(one.get("statistics")).get("token_count")) for one in found)
    return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)


def _encode_response(response: EmbedResponse, _request: EmbedRequest | None) -> f.Fields:
    """The count of all tokens stands at the first text: the neutral answer does not tell them apart."""
    counts = [response.usage.input_tokens if response.usage else 0, *[0] * len(response.vectors)]
    return {
        "predictions": [
            {"embeddings": {"values": list(each), "statistics": {"token_count": count, "truncated": False}}}
            for each, count in zip(response.vectors, counts, strict=False)
        ]
    }


CODEC = JsonEmbedCodec(
    name=WIRE,
    read_request=_decode_request,
    write_request=_encode_request,
    read_answer=_decode_response,
    write_answer=_encode_response,
)
