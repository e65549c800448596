"""Reasoning of earlier turns in a conversation that an SDK sends back.

A program shows every turn again to whoever answers next.  What another vendor thought came to it in the shape of its
own SDK, unsigned or with that other vendor's signature, and its own vendor refuses a request with such a block in it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from resilient_llm.model import ChatRequest, Extra, JsonObject
from resilient_llm.wire.anthropic.parts import WIRE, origin_and_signature

_SEALED = {"thinking": "signature", "redacted_thinking": "data"}
"""Kind of block -> the field with its signature."""


def without_foreign_thoughts(request: ChatRequest) -> ChatRequest:
    """The same request; the body to be forwarded to Anthropic has no thoughts of others in it.  Other requests are
    returned as they are: their wires look after this themselves."""
    source = request.source
    if source is None or source.wire != WIRE:
        return request
    messages = cast("Sequence[JsonObject]", source.fields.get("messages") or ())
    if not any(_has_foreign(message) for message in messages):
        return request
    kept = [_own(message) for message in messages]
    fields = {**source.fields, "messages": [message for message in kept if message["content"]]}
    return replace(request, source=Extra(WIRE, fields))


def _blocks(message: JsonObject) -> list[JsonObject]:
    content = message.get("content")
    return cast("list[JsonObject]", content) if isinstance(content, list) else []


def _has_foreign(message: JsonObject) -> bool:
    return any(_is_foreign(block) for block in _blocks(message))


def _is_foreign(block: JsonObject) -> bool:
    """Whether a block is a thought that Anthropic did not sign."""
    field = _SEALED.get(str(block.get("type")))
    if field is None:
        return False
    origin, signature = origin_and_signature(str(block.get(field) or ""))
    return origin != WIRE or not signature


def _own(message: JsonObject) -> JsonObject:
    if not _has_foreign(message):
        return message
    return {**message, "content": [block for block in _blocks(message) if not _is_foreign(block)]}
