"""Requests of every wire as whoever they are sent to would read them.

Nobody sends requests of Bedrock and Ollama to the library, so that it cannot read them.  What it writes is read here:
tests then say of these wires what they say of the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from resilient_llm.model import ChatRequest
from resilient_llm.wire import codec
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.protocol import Codec
from tests.wire.readers import bedrock, ollama

_READERS: Mapping[str, Callable[[f.Fields, str], ChatRequest]] = {
    "bedrock_converse": bedrock.read_request,
    "ollama": ollama.read_request,
}


def read_request(wire: str | Codec, body: bytes, path: str = "") -> ChatRequest:
    """A request on the wire of this name, or of this codec.  Raises ``InvalidRequest``."""
    found = codec(wire) if isinstance(wire, str) else wire
    reader = _READERS.get(found.name)
    if reader is None:
        return found.decode_request(body, path)
    return f.reading_request(found.name, body, lambda fields: reader(fields, path))
