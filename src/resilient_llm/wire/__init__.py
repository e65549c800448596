"""Pure codecs: bytes <-> the neutral model, and what an answer means.  No I/O."""

from __future__ import annotations

from importlib import import_module

from resilient_llm.errors import ConfigurationError, Fault, FaultKind

# Imported here and now, because a module's first import binds its name in the package and would hide codec().
from resilient_llm.wire.codec import Codec
from resilient_llm.wire.exception_faults import classify_exception
from resilient_llm.wire.faults import classify, classify_stream_error
from resilient_llm.wire.ratelimit import Limit, RateLimits, parse_rate_limit

__all__ = [
    "WIRES",
    "Codec",
    "Fault",
    "FaultKind",
    "Limit",
    "RateLimits",
    "classify",
    "classify_exception",
    "classify_stream_error",
    "codec",
    "parse_rate_limit",
]

_MODULES = {
    "openai_chat": "openai_chat",
    "openai_responses": "openai_responses",
    "anthropic_messages": "anthropic",
    "gemini": "gemini",
    "bedrock_converse": "bedrock",
    "cohere_v2": "cohere",
    "ollama": "ollama",
}
"""Codec name -> module of this package.  Each has a ``CODEC`` and is imported when it is first asked for."""

WIRES = frozenset(_MODULES)
"""The names of all wire formats."""


def codec(name: str) -> Codec:
    """The codec of a wire format.

    Raises :class:`~resilient_llm.errors.ConfigurationError` for an unknown name.
    """
    module = _MODULES.get(name)
    if module is None:
        raise ConfigurationError(f"there is no wire format {name!r}; the names are {', '.join(sorted(_MODULES))}")
    found: Codec = import_module(f"{__name__}.{module}").CODEC
    return found
