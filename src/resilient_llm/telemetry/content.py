"""Messages as JSON for spans, in the shape of the GenAI conventions.  Only used where the user switched it on with
``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``; media are named, not copied."""

from __future__ import annotations

import json

from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Json,
    Media,
    Part,
    Refusal,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)


def input_messages(request: ChatRequest) -> str:
    """The conversation sent."""
    return _dump([{"role": message.role, "parts": _parts(message.parts)} for message in request.messages])


def output_messages(response: ChatResponse) -> str:
    """The answer, one message per choice."""
    choices = [(response.parts, response.finish_reason), *((c.parts, c.finish_reason) for c in response.alternatives)]
    return _dump([{"role": "assistant", "parts": _parts(parts), "finish_reason": reason} for parts, reason in choices])


def _dump(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _parts(parts: tuple[Part, ...]) -> list[dict[str, object]]:
    return [_part(part) for part in parts]


def _part(part: Part) -> dict[str, object]:
    if isinstance(part, Text):
        return {"type": "text", "content": part.text}
    if isinstance(part, Thought):
        return {"type": "reasoning", "content": part.text}
    if isinstance(part, Refusal):
        return {"type": "refusal", "content": part.text}
    if isinstance(part, ToolCall):
        return {"type": "tool_call", "id": part.id, "name": part.name, "arguments": part.arguments}
    if isinstance(part, ToolResult):
        return {"type": "tool_call_response", "id": part.tool_call_id, "response": [_result(p) for p in part.parts]}
    if isinstance(part, Media):
        return _media(part)
    return {"type": "opaque"}


def _result(part: Text | Media | Json) -> object:
    if isinstance(part, Text):
        return part.text
    return part.value if isinstance(part, Json) else _media(part)


def _media(part: Media) -> dict[str, object]:
    """What it is and how big; not its bytes, and not its URL, which may be signed."""
    size = None if part.data is None else len(part.data)
    return {"type": part.kind, "mime_type": part.mime_type, "size": size}
