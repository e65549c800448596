"""Token counts by one convention on every wire: input includes what was cached, output what was thought."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from resilient_llm.model import ChatResponse, StreamEnd, StreamStart, Text, TextDelta, Usage, UsageUpdate
from resilient_llm.wire import WIRES, codec
from resilient_llm.wire.kit.accumulate import Accumulator, replay

Fields = dict[str, Any]

PART = {"text": "Hello."}
BODIES: dict[str, tuple[Fields, Usage]] = {
    "openai_chat": (
        {
            "choices": [{"message": {"role": "assistant", "content": "Hello."}, "finish_reason": "stop"}],
            "usage": {
                "prompt_tokens": 100,
                "completion_tokens": 30,
                "total_tokens": 130,
                "prompt_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},
                "completion_tokens_details": {"reasoning_tokens": 10},
            },
        },
        Usage(100, 30, 60, 20, 10, 130),
    ),
    "openai_responses": (
        {
            "object": "response",
            "status": "completed",
            "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello."}]}
            ],
            "usage": {
                "input_tokens": 100,
                "output_tokens": 30,
                "total_tokens": 130,
                "input_tokens_details": {"cached_tokens": 60, "cache_write_tokens": 20},
                "output_tokens_details": {"reasoning_tokens": 10},
            },
        },
        Usage(100, 30, 60, 20, 10, 130),
    ),
    "anthropic_messages": (
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "text", "text": "Hello."}],
            "stop_reason": "end_turn",
            "usage": {
                "input_tokens": 20,
                "cache_read_input_tokens": 60,
                "cache_creation_input_tokens": 20,
                "output_tokens": 30,
                "output_tokens_details": {"thinking_tokens": 10},
            },
        },
        Usage(100, 30, 60, 20, 10),
    ),
    "gemini": (
        {
            "candidates": [{"content": {"role": "model", "parts": [PART]}, "finishReason": "STOP"}],
            "usageMetadata": {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 60,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 10,
                "totalTokenCount": 130,
            },
        },
        Usage(100, 30, 60, 0, 10, 130),
    ),
    "bedrock_converse": (
        {
            "output": {"message": {"role": "assistant", "content": [PART]}},
            "stopReason": "end_turn",
            "usage": {
                "inputTokens": 20,
                "cacheReadInputTokens": 60,
                "cacheWriteInputTokens": 20,
                "outputTokens": 30,
                "totalTokens": 130,
            },
        },
        Usage(100, 30, 60, 20, 0, 130),
    ),
    "cohere_v2": (
        {
            "message": {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
            "finish_reason": "COMPLETE",
            "usage": {"tokens": {"input_tokens": 100, "output_tokens": 30}, "cached_tokens": 60},
        },
        Usage(100, 30, 60),
    ),
    "ollama": (
        {
            "message": {"role": "assistant", "content": "Hello."},
            "done": True,
            "done_reason": "stop",
            "prompt_eval_count": 100,
            "eval_count": 30,
        },
        Usage(100, 30),
    ),
}
"""An answer of each wire with all the counts it has, as its vendor writes them, and what they mean."""


def counted(usage: Usage | None) -> Usage:
    """The counts alone."""
    assert usage is not None
    return replace(usage, extra=None)


def test_every_wire_is_here() -> None:
    assert BODIES.keys() == WIRES


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_counts_of_a_whole_answer(wire: str) -> None:
    body, usage = BODIES[wire]
    assert counted(codec(wire).decode_response(json.dumps(body).encode()).usage) == usage


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_counts_of_a_stream_are_those_of_the_whole_answer(wire: str) -> None:
    body, usage = BODIES[wire]
    encoder, decoder, found = codec(wire).stream_encoder(), codec(wire).stream_decoder(), Accumulator()
    for event in replay(codec(wire).decode_response(json.dumps(body).encode())):
        for read in decoder.feed(encoder.feed(event)):
            found.add(read)
    for read in decoder.close():
        found.add(read)
    assert counted(found.usage) == usage


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_counts_of_another_vendor_are_written_as_this_one_adds_them_up(wire: str) -> None:
    given = Usage(100, 30, 60, 20, 10, 130)
    whole = codec(wire).encode_response(ChatResponse((Text("Hello."),), usage=given))
    usage = counted(codec(wire).decode_response(whole).usage)
    assert (usage.input_tokens, usage.output_tokens) == (100, 30)
    for name in ("cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "total_tokens"):
        assert getattr(usage, name) == getattr(BODIES[wire][1], name)


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_streamed_counts_of_another_vendor_are_added_up_alike(wire: str) -> None:
    given = Usage(100, 30, 60, 20, 10, 130)
    encoder, decoder, found = codec(wire).stream_encoder(), codec(wire).stream_decoder(), Accumulator()
    for event in (StreamStart("a", "m"), TextDelta("Hello."), UsageUpdate(given), StreamEnd()):
        for read in decoder.feed(encoder.feed(event)):
            found.add(read)
    for read in decoder.close():
        found.add(read)
    usage = counted(found.usage)
    assert (usage.input_tokens, usage.output_tokens) == (100, 30)
    assert usage.cache_read_tokens == BODIES[wire][1].cache_read_tokens


def test_reasoning_that_is_counted_apart_is_output_too() -> None:
    """As xAI counts: 291 + 26 + 189 = 506."""
    usage = {"prompt_tokens": 291, "completion_tokens": 26, "total_tokens": 506}
    body = BODIES["openai_chat"][0] | {"usage": usage | {"completion_tokens_details": {"reasoning_tokens": 189}}}
    found = codec("openai_chat").decode_response(json.dumps(body).encode())
    assert counted(found.usage) == Usage(291, 215, reasoning_tokens=189, total_tokens=506)
    assert json.loads(codec("openai_chat").encode_response(found))["usage"] == body["usage"]
