"""Anthropic Messages: recorded requests, answers and streams survive the way through the neutral model."""

from __future__ import annotations

from typing import Any

from resilient_llm.wire import codec
from resilient_llm.wire.anthropic import CODEC
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import (
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    absent_if_null,
    sse_frames,
)


def text_as_blocks(value: Any) -> Any:
    return [{"type": "text", "text": value}] if isinstance(value, str) else value


def merged_turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Consecutive turns of one role as one, results of tools first, as the vendor reads them."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1] = {**turns[-1], "content": [*turns[-1]["content"], *message["content"]]}
        else:
            turns.append(message)
    for turn in turns:
        if turn["role"] == "user":
            turn["content"] = sorted(turn["content"], key=lambda block: block["type"] != "tool_result")
    return turns


def functions_first(tools: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(tools, key=lambda tool: tool.get("type") not in {None, "custom"})


REQUEST_RULES = (
    Rule(
        r"messages\[\]\.content|messages\[\]\.content\[\]\.content|system", text_as_blocks, "a text is one text block"
    ),
    Rule(r"messages\[\]\.content\[\]\.is_error|stream", absent_if(False), "the documented default"),
    Rule(r"messages\[\]\.content\[\]\.content", absent_if_empty, "nothing"),
    Rule("messages", merged_turns, "the vendor merges turns of one role"),
    Rule("tools", functions_first, "the vendor's own tools come after the functions"),
    Rule(r"tools\[\]\..*", absent_if_null, "null is absent"),
)
RESPONSE_RULES = (
    Rule(
        r"usage\.cache_(read|creation)_input_tokens|usage\.output_tokens_details\.thinking_tokens",
        absent_if(0),
        "0 is none",
    ),
    Rule(r"usage\.output_tokens_details", absent_if_empty, "no details"),
    Rule(r".*", absent_if_null, "null is absent"),
)


def terminal(frames: Any) -> bool:
    return any(b"event: message_stop\n" in frame for frame in frames)


SUBJECT = Subject(CODEC, sse_frames, terminal, REQUEST_RULES, RESPONSE_RULES)


def test_the_codec_is_found_by_its_name() -> None:
    assert codec(CODEC.name) is CODEC


NOT_ASSEMBLED = {"antsdk-e4b33dc49ca3": "max_tokens cut the arguments, and a whole answer holds them as an object"}


class TestRecorded(Recorded):
    answers, streams = ("anthropic_messages",), ("anthropic_messages_streams",)
    subject = SUBJECT
    not_assembled = NOT_ASSEMBLED
