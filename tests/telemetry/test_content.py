"""Captured messages: the conventions' shape, media named rather than copied."""

from __future__ import annotations

import json

from resilient_llm.model import (
    ChatRequest,
    Json,
    Media,
    Message,
    Opaque,
    Refusal,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)
from resilient_llm.telemetry import content


def test_every_part_has_a_shape_and_media_stay_outside() -> None:
    picture = Media("image", "image/png", data=b"12345")
    result = ToolResult("t1", (Text("a"), Json({"b": 1}), picture))
    parts = (
        Text("hi"),
        Thought("hm", signature="sig"),
        Refusal("no"),
        ToolCall("t1", "look", '{"x": 1}'),
        result,
        Media("document", "application/pdf", url="https://h/doc?sig=secret"),
        Opaque("anthropic_messages", {"type": "server_tool_use"}),
    )
    found = json.loads(content.input_messages(ChatRequest((Message("user", parts),))))
    image = {"type": "image", "mime_type": "image/png", "size": 5}
    assert found == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "hi"},
                {"type": "reasoning", "content": "hm"},
                {"type": "refusal", "content": "no"},
                {"type": "tool_call", "id": "t1", "name": "look", "arguments": '{"x": 1}'},
                {"type": "tool_call_response", "id": "t1", "response": ["a", {"b": 1}, image]},
                {"type": "document", "mime_type": "application/pdf", "size": None},
                {"type": "opaque"},
            ],
        }
    ]
