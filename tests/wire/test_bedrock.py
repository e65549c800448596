"""Bedrock Converse: recorded requests, answers and streams survive the way through the neutral model."""

from __future__ import annotations

from typing import Any

from resilient_llm.wire import codec
from resilient_llm.wire.bedrock import CODEC
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import (
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    absent_if_null,
    as_json,
    eventstream_frames,
)


def merged_turns(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Consecutive turns of one role as one."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1] = {**turns[-1], "content": [*turns[-1]["content"], *message["content"]]}
        else:
            turns.append(message)
    return turns


REQUEST_RULES = (
    Rule(r"inferenceConfig|system", absent_if_empty, "no settings"),
    Rule(r"messages\[\]\.content\[\]\.toolResult\.status", absent_if("success"), "the documented default"),
    Rule(r"outputConfig\.textFormat\.structure\.jsonSchema\.schema", as_json, "JSON in a string"),
    Rule("messages", merged_turns, "the vendor merges turns of one role"),
)
RESPONSE_RULES = (
    Rule(r"usage\.cache(Read|Write)InputTokens", absent_if(0), "0 is none"),
    Rule(r"metrics\.latencyMs", absent_if(0), "unknown"),
    Rule(r"metrics", absent_if_empty, "unknown"),
    Rule(r".*", absent_if_null, "null is absent"),
)


def terminal(frames: Any) -> bool:
    return any(b":event-type\x07\x00\x0bmessageStop" in frame for frame in frames)


SUBJECT = Subject(CODEC, eventstream_frames, terminal, REQUEST_RULES, RESPONSE_RULES)


def test_the_codec_is_found_by_its_name() -> None:
    assert codec(CODEC.name) is CODEC


class TestRecorded(Recorded):
    answers, streams = ("bedrock_converse",), ("bedrock_converse_streams",)
    subject = SUBJECT
