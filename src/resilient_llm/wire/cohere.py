"""Cohere's wire, ``/v2/chat`` and ``/v2/embed``.

Server-sent events with names, ``message-end`` last (``[DONE]`` follows, but not everywhere).  What the model says
before it calls tools, its ``tool_plan``, is a thought with an origin of its own, so that it goes back into its own
field.  Two token counts differ widely: ``tokens`` is what was processed, ``billed_units`` what is paid for.
"""

from __future__ import annotations

from typing import Final

from resilient_llm.model import EmbedRequest, EmbedResponse, Usage
from resilient_llm.wire._cohere_answer import decode_response, encode_response
from resilient_llm.wire._cohere_parts import NAME, PLAN
from resilient_llm.wire._cohere_request import PATH, decode_request, encode_request
from resilient_llm.wire._cohere_stream import StreamDecoder, StreamEncoder, error_frames
from resilient_llm.wire._json_codec import JsonCodec
from resilient_llm.wire.codec import JSON_HEADERS, HttpRequest
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    items_of,
    merge_own,
    put,
    reading_answer,
    reading_request,
    request_extras,
    take_count,
    take_fields,
    take_int,
    take_text,
    take_texts,
    vector,
)
from resilient_llm.wire.notes import Notes, extras_for

__all__ = [
    "CODEC",
    "EMBED_PATH",
    "NAME",
    "PATH",
    "PLAN",
    "decode_embed_request",
    "decode_embed_response",
    "encode_embed_request",
    "encode_embed_response",
]

EMBED_PATH: Final = "/v2/embed"

CODEC: Final = JsonCodec(
    name=NAME,
    read_request=decode_request,
    write_request=encode_request,
    read_answer=decode_response,
    write_answer=encode_response,
    write_error=lambda _fault, message: {"message": message},  # the status says the rest
    write_stream_error=lambda _fault, message: error_frames(message),
    stream_decoder=StreamDecoder,
    make_stream_encoder=StreamEncoder,
)


# --- embeddings --------------------------------------------------------------------------------------------


def decode_embed_request(body: bytes) -> EmbedRequest:
    """A request to ``/v2/embed``.  Raises ``InvalidRequest``."""

    def read(fields: Fields) -> EmbedRequest:
        if fields.get("texts") is None:
            raise Malformed("there are no texts to embed")
        texts, model = take_texts(fields, "texts"), take_text(fields, "model") or ""
        return EmbedRequest(texts, model, take_int(fields, "output_dimension"), request_extras(NAME, fields))

    return reading_request(NAME, body, read)


def encode_embed_request(request: EmbedRequest) -> HttpRequest:
    """The request for ``/v2/embed``.  ``input_type``, which it demands, is ``search_document`` unless given."""
    body: Fields = {"model": request.model, "texts": list(request.inputs), "input_type": "search_document"}
    put(body, output_dimension=request.dimensions)
    notes = Notes(NAME)
    extras_for(NAME, request.extra, notes)
    merge_own(body, request.extra, NAME)
    body["embedding_types"] = ["float"]
    return HttpRequest(EMBED_PATH, dump(body), JSON_HEADERS, notes.all())


def decode_embed_response(body: bytes) -> EmbedResponse:
    """The vectors.  Raises ``InvalidAnswer``."""

    def read(raw: Fields) -> EmbedResponse:
        fields = dict(raw)
        found = take_fields(fields, "embeddings") or {}
        vectors = tuple(vector(item) for item in items_of(found.get("float"), "embeddings.float"))
        meta = take_fields(fields, "meta") or {}
        counts = take_fields(meta, "tokens") or take_fields(meta, "billed_units") or {}
        count = take_count(counts, "input_tokens")
        return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)

    return reading_answer(NAME, body, read)


def encode_embed_response(response: EmbedResponse) -> bytes:
    """The vectors as a client of ``/v2/embed`` expects them."""
    units = {"input_tokens": response.usage.input_tokens} if response.usage else {}
    return dump(
        {
            "id": "",
            "embeddings": {"float": [list(each) for each in response.vectors]},
            "texts": [],
            "meta": {"api_version": {"version": "2"}, "billed_units": units},
            "response_type": "embeddings_by_type",
        }
    )
