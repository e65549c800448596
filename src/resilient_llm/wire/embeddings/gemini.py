"""Gemini's embeddings, ``embedContent`` and ``batchEmbedContents`` (API reference of 2026-10)."""

from __future__ import annotations

from typing import cast

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.gemini.parts import WIRE, camel
from resilient_llm.wire.gemini.request import path_of, read_path
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import JsonEmbedCodec

_BATCH = "@batch"
"""Key in a request's Extra: the caller sent a batch and expects one."""


def _decode_request(whole: f.Fields, path: str) -> EmbedRequest:
    """A batch whose items differ in more than their text is refused."""
    batch = "requests" in whole
    items = f.list_of(whole["requests"], "requests") if batch else [whole]
    each = [_decode_item(f.object_of(item, "a request"), path, batch) for item in items]
    first = each[0] if each else EmbedRequest((), read_path(path)[0])
    if any((one.model, one.dimensions, one.extra) != (first.model, first.dimensions, first.extra) for one in each):
        raise f.Malformed("the requests of a batch differ in more than their text")
    return EmbedRequest(tuple(one.inputs[0] for one in each), first.model, first.dimensions, first.extra)


def _decode_item(item: f.Fields, path: str, batch: bool) -> EmbedRequest:
    fields = camel(item)
    model = (f.take_text(fields, "model") or "").removeprefix("models/") or read_path(path)[0]
    parts = [f.object_of(part, "a part") for part in f.take_list(f.take_object(fields, "content") or {}, "parts")]
    texts = [f.take_text(part, "text") for part in parts]
    if not texts or None in texts:
        raise f.Malformed("only text can be embedded")
    dimensions = f.take_int(fields, "outputDimensionality")
    extra = f.request_extras(WIRE, f.put(fields, **{_BATCH: batch or None}))
    return EmbedRequest(("".join(cast("list[str]", texts)),), model, dimensions, extra)


def _encode_request(request: EmbedRequest, own: f.Fields) -> tuple[str, f.Fields]:
    more: f.Fields = f.put({"model": f"models/{request.model}"}, outputDimensionality=request.dimensions)
    f.merge(more, own)
    more.pop(_BATCH, None)
    requests = [{"content": {"parts": [{"text": text}]}, **more} for text in request.inputs]
    return path_of(request.model, "batchEmbedContents"), {"requests": requests}


def _decode_response(raw: f.Fields) -> EmbedResponse:
    fields = camel(dict(raw))
    one = fields.get("embedding")
    items = f.list_of(fields.get("embeddings"), "embeddings") if one is None else [one]
    vectors = tuple(f.vector(f.object_of(item, "an embedding").get("values")) for item in items)
    count = f.take_count(camel(f.take_object(fields, "usageMetadata") or {}), "promptTokenCount")
    return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)


def _encode_response(response: EmbedResponse, request: EmbedRequest | None) -> f.Fields:
    """A batch, unless the caller's request was a single one."""
    vectors = [{"values": list(each)} for each in response.vectors]
    single = request is not None and not any(_BATCH in extra.fields for extra in request.extra)
    body: f.Fields = {"embedding": vectors[0]} if single and vectors else {"embeddings": vectors}
    counts = {"promptTokenCount": response.usage.input_tokens} if response.usage else None
    return f.put(body, usageMetadata=counts)


CODEC = JsonEmbedCodec(WIRE, _encode_request, _decode_response, _decode_request, _encode_response)
