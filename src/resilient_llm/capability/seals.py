"""Reasoning of earlier turns that is sealed: encrypted or signed, and of use only to the one who sealed it.

A conversation may have been answered by another provider, another account or another model before, and a signature may
be refused for reasons nobody can see.  What a provider says then is ``FaultKind.SEALED_REASONING``; the conversation
goes on without the reasoning, which every vendor allows.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Final

from resilient_llm.model import (
    ChatRequest,
    Degradation,
    Extra,
    JsonObject,
    Media,
    Message,
    Opaque,
    Part,
    Text,
    Thought,
    ToolCall,
)
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.fields import is_object

_SEALS: Final = frozenset({"thoughtSignature", "thought_signature", "encrypted_content", "reasoning_details"})
"""Fields that hold a seal, wherever they stand beside a part."""

_ITEMS: Final = "openai_responses"
"""The wire whose items have an ``id`` by which the vendor looks for what it kept, the reasoning behind a call, say.  An
item without one stands for itself."""

UNSEALED: Final = Degradation(Feature.REASONING, "sealed reasoning of earlier turns left out: it was not accepted")
"""What is told about a request that was sent again without its seals."""


def without_seals(request: ChatRequest) -> ChatRequest | None:
    """The same request without sealed reasoning; ``None`` if it has none, so that another try would be the same.

    Reasoning in plain text stays: some vendors want it back.
    """
    messages = tuple(kept for message in request.messages if (kept := _message(message)) is not None)
    if messages == request.messages:
        return None
    return replace(request, messages=messages, source=None)


def sealed_start(request: ChatRequest) -> str | None:
    """Tells one conversation from others, however it goes on: a digest of its first message with a seal; ``None`` if it
    has none."""
    sealed = next((message for message in request.messages if _message(message) != message), None)
    return None if sealed is None else hashlib.sha256(repr(sealed).encode("utf-8", "surrogatepass")).hexdigest()


def _message(message: Message) -> Message | None:
    parts = tuple(_part(part) for part in message.parts if not _is_sealed(part))
    kept = replace(message, parts=parts, extra=_extra(message.extra))
    return kept if parts or not message.parts else None


def _is_sealed(part: Part) -> bool:
    return isinstance(part, Thought) and (part.redacted or part.signature is not None or _is_kept(part.extra))


def _is_kept(extra: Extra | None) -> bool:
    return extra is not None and extra.wire == _ITEMS and "id" in extra.fields


def _part(part: Part) -> Part:
    match part:
        case Text() | Thought() | ToolCall() | Media():
            return replace(part, extra=_extra(part.extra))
        case Opaque():
            return replace(part, data=_without(part.data))
        case _:
            return part


def _extra(extra: Extra | None) -> Extra | None:
    if extra is None:
        return None
    fields = _without(extra.fields)
    if _is_kept(extra):
        fields = {key: value for key, value in fields.items() if key != "id"}
    return Extra(extra.wire, fields) if fields or not extra.fields else None


def _without(fields: JsonObject) -> JsonObject:
    """Without seals; they may stand deeper: ``{"extra_content": {"google": {"thought_signature": "..."}}}``."""
    kept: dict[str, object] = {}
    for key, value in fields.items():
        if key in _SEALS:
            continue
        inner = _without(value) if is_object(value) else value
        if inner or not value:  # what held nothing but seals goes with them
            kept[key] = inner
    return kept
