"""Embeddings in OpenAI's shape, which most vendors share (API reference of 2026-10).

A vector is a list of numbers, or base64 of little-endian 32-bit floats if the caller asked for that (the vendor's own
SDK always does)::

    {"model": "text-embedding-3-small", "input": ["Hello"]}

    {"object": "list", "data": [{"index": 0, "embedding": [0.1, 0.2]}],
     "usage": {"prompt_tokens": 1, "total_tokens": 1}}
"""

from __future__ import annotations

import sys
from array import array

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import JsonEmbedCodec

WIRE = "openai_embed"


def _decode_request(whole: f.Fields, _path: str) -> EmbedRequest:
    """Inputs that are token ids instead of text are refused."""
    fields = dict(whole)
    inputs, model = f.take_texts(fields, "input"), f.take_text(fields, "model") or ""
    if not inputs:
        raise f.Malformed("input must be a text or a list with at least one text")
    dimensions = f.take_int(fields, "dimensions")
    return EmbedRequest(inputs, model, dimensions, f.request_extras(WIRE, fields))


def _encode_request(request: EmbedRequest, own: f.Fields) -> tuple[str, f.Fields]:
    body: f.Fields = {"model": request.model, "input": list(request.inputs)}
    return "/embeddings", f.put(body, dimensions=request.dimensions) | own


def _decode_response(fields: f.Fields) -> EmbedResponse:
    data = f.as_objects(fields.get("data"))
    if fields.get("error") or not data:
        raise f.Malformed("the answer holds no embeddings")
    data.sort(key=lambda item: f.count_of(item.get("index")))
    vectors = tuple(_decode_vector(item.get("embedding")) for item in data)
    counts = f.as_object(fields.get("usage"))
    total = f.count_of(counts.get("total_tokens"))
    usage = Usage(f.count_of(counts.get("prompt_tokens")), total_tokens=total) if counts else None
    return EmbedResponse(vectors, f.as_text(fields.get("model")), usage, fields)


def _decode_vector(value: object) -> tuple[float, ...]:
    if not isinstance(value, str):
        return f.vector(value)
    raw = f.decode_base64(value)
    floats = array("f")
    if len(raw) % floats.itemsize:
        raise f.Malformed("a vector is no sequence of 32-bit floats")
    floats.frombytes(raw)
    return tuple(_little_endian(floats))


def _little_endian(floats: array[float]) -> array[float]:
    """To or from the order of bytes on the wire."""
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def _encode_response(response: EmbedResponse, request: EmbedRequest | None) -> f.Fields:
    encoded = any(extra.fields.get("encoding_format") == "base64" for extra in (request.extra if request else ()))
    vectors: list[object] = [list(values) for values in response.vectors]
    if encoded:
        vectors = [f.encode_base64(_little_endian(array("f", values)).tobytes()) for values in response.vectors]
    data = [{"object": "embedding", "index": index, "embedding": vector} for index, vector in enumerate(vectors)]
    usage = response.usage or Usage()
    counts = {"prompt_tokens": usage.input_tokens, "total_tokens": usage.total_tokens or usage.input_tokens}
    # OpenAI's have no id, and Mistral's SDK refuses an answer without one.
    return {"id": "", "object": "list", "data": data, "model": response.model, "usage": counts}


CODEC = JsonEmbedCodec(WIRE, _encode_request, _decode_response, _decode_request, _encode_response)
