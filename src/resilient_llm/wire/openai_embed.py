"""Embeddings in OpenAI's shape, which most vendors share.

A vector is a list of numbers, or base64 of little-endian 32-bit floats if the caller asked for that (the vendor's own
SDK always does).
"""

from __future__ import annotations

import base64
import sys
from array import array
from collections.abc import Sequence
from typing import Literal

from resilient_llm.errors import InvalidAnswer, InvalidRequest
from resilient_llm.model import EmbedRequest, EmbedResponse, Extra, Usage
from resilient_llm.wire._openai_json import (
    answer_object,
    as_object,
    as_objects,
    as_text,
    get_int,
    get_text,
    get_texts,
    request_object,
    rest,
)
from resilient_llm.wire.fields import Fields, Malformed, count_of, decode_base64, dump, vector
from resilient_llm.wire.notes import Notes, extras_for

WIRE = "openai_embed"

Encoding = Literal["float", "base64"]


def decode_request(body: bytes) -> EmbedRequest:
    """A caller's request.  Raises ``InvalidRequest``, also for inputs that are token ids instead of text."""
    fields = request_object(body)
    given = fields.get("input")
    inputs = (given,) if isinstance(given, str) else get_texts(fields, "input")
    if not inputs:
        raise InvalidRequest("input must be a text or a list with at least one text")
    extra = rest(fields, ("input", "model", "dimensions"))
    extras = (Extra(WIRE, extra),) if extra else ()
    return EmbedRequest(inputs, get_text(fields, "model") or "", get_int(fields, "dimensions"), extras)


def encoding_of(request: EmbedRequest) -> Encoding:
    """How the caller of a decoded request wants the vectors."""
    return "base64" if any(extra.fields.get("encoding_format") == "base64" for extra in request.extra) else "float"


def encode_request(request: EmbedRequest) -> bytes:
    """The body for a vendor.  Raises ``UnsupportedFeature`` for another wire's fields that must not be left out."""
    body: Fields = {"model": request.model, "input": list(request.inputs)}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    return dump(body | extras_for(WIRE, request.extra, Notes(WIRE)))


def decode_response(body: bytes) -> EmbedResponse:
    """The vectors, in the order of the inputs.  Raises ``InvalidAnswer``."""
    fields = answer_object(body)
    data = as_objects(fields.get("data"))
    if fields.get("error") or not data:
        raise InvalidAnswer("the answer holds no embeddings", fields)
    data.sort(key=lambda item: count_of(item.get("index")))
    try:
        vectors = tuple(_decode_vector(item.get("embedding")) for item in data)
    except Malformed as error:
        raise InvalidAnswer(f"the answer holds no embeddings: {error}", fields) from error
    return EmbedResponse(vectors, as_text(fields.get("model")), _decode_usage(as_object(fields.get("usage"))), fields)


def _decode_usage(usage: Fields) -> Usage | None:
    if not usage:
        return None
    return Usage(count_of(usage.get("prompt_tokens")), total_tokens=count_of(usage.get("total_tokens")))


def _decode_vector(value: object) -> tuple[float, ...]:
    if not isinstance(value, str):
        return vector(value)
    raw = decode_base64(value)
    floats = array("f")
    if len(raw) % floats.itemsize:
        raise Malformed("a vector is no sequence of 32-bit floats")
    floats.frombytes(raw)
    return tuple(_little_endian(floats))


def _little_endian(floats: array[float]) -> array[float]:
    """To or from the order of bytes on the wire."""
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def encode_response(response: EmbedResponse, encoding: Encoding = "float") -> bytes:
    """The answer as a client expects it that asked for this encoding."""
    data = [
        {"object": "embedding", "index": index, "embedding": _encode_vector(values, encoding)}
        for index, values in enumerate(response.vectors)
    ]
    usage = response.usage or Usage()
    counts = {
        "prompt_tokens": usage.input_tokens,
        "total_tokens": usage.total_tokens or usage.input_tokens,
    }
    return dump({"object": "list", "data": data, "model": response.model, "usage": counts})


def _encode_vector(values: Sequence[float], encoding: Encoding) -> object:
    if encoding == "float":
        return list(values)
    return base64.b64encode(_little_endian(array("f", values)).tobytes()).decode()
