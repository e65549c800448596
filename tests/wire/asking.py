"""Requests for the tests of encoders, and what becomes of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

from resilient_llm.errors import UnsupportedFeature
from resilient_llm.model import ChatRequest, Message, Text, Tool
from resilient_llm.wire.protocol import Codec

PNG = b"\x89PNG\r\n\x1a\n123"
USER = Message("user", (Text("Hello"),))
TOOL = Tool("look", "Looks.", {"type": "object", "properties": {}})


def request(*messages: Message, **settings: Any) -> ChatRequest:
    """A request that says no more than hello, unless told otherwise."""
    return ChatRequest(messages or (USER,), **settings)


def refused(codec: Codec, given: ChatRequest) -> str:
    """The feature for which a request is refused before anything is sent."""
    with pytest.raises(UnsupportedFeature) as error:
        codec.encode_request(given)
    return error.value.feature


@dataclass(frozen=True)
class Asking:
    """Requests, as ``codec`` writes them."""

    codec: Codec

    def encoded(self, given: ChatRequest, codec: Codec | None = None) -> tuple[dict[str, Any], dict[str, str]]:
        """The body, and what was given up."""
        out = (codec or self.codec).encode_request(given)
        return json.loads(out.body), {each.feature: each.action for each in out.degradations}

    def body_of(self, given: ChatRequest) -> dict[str, Any]:
        """The body of a request that loses nothing."""
        body, lost = self.encoded(given)
        assert not lost, lost
        return body

    def turns(self, *messages: Message) -> list[tuple[str, Any]]:
        """Who says what in a conversation of these messages."""
        return [(turn["role"], turn["content"]) for turn in self.encoded(request(*messages))[0]["messages"]]
