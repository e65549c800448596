"""Pure codecs: bytes <-> the neutral model, and what an answer means.  No I/O.

For third parties: :func:`codec` and :func:`embed_codec` give both directions of a wire (``protocol`` says what they
offer; requests of Bedrock and Ollama, which no SDK sends to us, are only written), :func:`replay` and
:class:`Accumulator` turn answers into stream events and back, :func:`classify`, :func:`classify_stream_error` and
:func:`classify_exception` say what a failure means, :func:`parse_retry_after` and :func:`parse_rate_limit` read the
hints of servers.

What a failure means is imported when it is first asked for.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

from resilient_llm import errors
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.wire.faults.ratelimit import Limit, RateLimits, parse_rate_limit
from resilient_llm.wire.kit.accumulate import Accumulator, replay
from resilient_llm.wire.protocol import Codec, EmbedCodec, HttpRequest, StreamDecoder, StreamEncoder

if TYPE_CHECKING:
    from resilient_llm.wire.faults.answers import classify, classify_stream_error, parse_retry_after
    from resilient_llm.wire.faults.exceptions import classify_exception

__all__ = [
    "EMBED_WIRES",
    "WIRES",
    "Accumulator",
    "Codec",
    "EmbedCodec",
    "Fault",
    "FaultKind",
    "HttpRequest",
    "Limit",
    "RateLimits",
    "StreamDecoder",
    "StreamEncoder",
    "classify",
    "classify_exception",
    "classify_stream_error",
    "codec",
    "embed_codec",
    "parse_rate_limit",
    "parse_retry_after",
    "replay",
]

_PACKAGES = {
    "openai_chat": "openai_chat",
    "openai_responses": "openai_responses",
    "anthropic_messages": "anthropic",
    "gemini": "gemini",
    "bedrock_converse": "bedrock",
    "cohere_v2": "cohere",
    "ollama": "ollama",
}
"""Codec name -> package.  Each has a ``CODEC`` and is imported when it is first asked for."""

_EMBEDDINGS = {
    "openai_embed": "openai",
    "gemini": "gemini",
    "vertex_predict": "vertex",
    "bedrock_converse": "bedrock",
    "cohere_v2": "cohere",
    "ollama": "ollama",
}

_LATER = {
    "classify": "answers",
    "classify_exception": "exceptions",
    "classify_stream_error": "answers",
    "parse_retry_after": "answers",
}
"""Name -> the module of ``faults`` it is imported from when it is first used."""

WIRES = frozenset(_PACKAGES)
"""The names of all wire formats."""

EMBED_WIRES = frozenset(_EMBEDDINGS)
"""The names of those that have embeddings."""


@cache
def codec(name: str) -> Codec:
    """The codec of a wire format.  Raises ``ConfigurationError`` for an unknown name."""
    found: Codec = import_module(f"{__name__}.{_known(name, _PACKAGES)}").CODEC
    return found


@cache
def embed_codec(name: str) -> EmbedCodec:
    """The codec of a wire's embeddings.  Raises ``ConfigurationError`` for an unknown name."""
    found: EmbedCodec = import_module(f"{__name__}.embeddings.{_known(name, _EMBEDDINGS)}").CODEC
    return found


def __getattr__(name: str) -> object:
    if name in _LATER:
        value: object = getattr(import_module(f"{__name__}.faults.{_LATER[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _known(name: str, places: dict[str, str]) -> str:
    place = places.get(name)
    if place is None:
        raise errors.ConfigurationError(f"there is no wire format {name!r}; the names are {', '.join(sorted(places))}")
    return place
