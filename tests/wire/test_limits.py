"""What hostile or careless answers may not do: counts, nesting, half characters, and text made to slow a pattern."""

from __future__ import annotations

import copy
import json
import pickle
import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import ChatResponse, StreamBroken, StreamEvent
from resilient_llm.wire import WIRES, codec
from resilient_llm.wire.faults import body as error_body
from resilient_llm.wire.faults import exceptions, in_band, ratelimit, rules, scrub, times
from resilient_llm.wire.framing import eventstream
from resilient_llm.wire.kit.fields import DEEPEST, LAST_SECOND, MOST
from tests.wire.roundtrip import assembled, events_of

ANSWERS: dict[str, str] = {
    "openai_chat": """{"id":"c","created":@,"choices":[{"index":0,"message":{"role":"assistant","content":"$","x":#},
        "finish_reason":"stop"}],"usage":{"prompt_tokens":@,"completion_tokens":@,"total_tokens":@,
        "prompt_tokens_details":{"cached_tokens":@},"completion_tokens_details":{"reasoning_tokens":@}}}""",
    "openai_responses": """{"id":"r","created_at":@,"status":"completed","x":#,"output":[{"type":"message","role":
        "assistant","content":[{"type":"output_text","text":"$"}]}],"usage":{"input_tokens":@,"output_tokens":@,
        "total_tokens":@,"input_tokens_details":{"cached_tokens":@},"output_tokens_details":{"reasoning_tokens":@}}}""",
    "anthropic_messages": """{"type":"message","id":"m","x":#,"content":[{"type":"text","text":"$"}],"stop_reason":
        "end_turn","usage":{"input_tokens":@,"output_tokens":@,"cache_read_input_tokens":@,
        "cache_creation_input_tokens":@,"output_tokens_details":{"thinking_tokens":@}}}""",
    "gemini": """{"responseId":"g","x":#,"candidates":[{"content":{"parts":[{"text":"$"}]},"finishReason":"STOP"}],
        "usageMetadata":{"promptTokenCount":@,"candidatesTokenCount":@,"thoughtsTokenCount":@,"totalTokenCount":@,
        "cachedContentTokenCount":@,"toolUsePromptTokenCount":@}}""",
    "bedrock_converse": """{"output":{"message":{"role":"assistant","content":[{"text":"$"}]}},"stopReason":"end_turn",
        "x":#,"usage":{"inputTokens":@,"outputTokens":@,"totalTokens":@,"cacheReadInputTokens":@}}""",
    "cohere_v2": """{"id":"c","message":{"role":"assistant","content":[{"type":"text","text":"$"}]},"x":#,
        "finish_reason":"COMPLETE","usage":{"tokens":{"input_tokens":@,"output_tokens":@},"cached_tokens":@}}""",
    "ollama": """{"model":"m","created_at":"2025-01-01T00:00:00Z","message":{"role":"assistant","content":"$"},"x":#,
        "done":true,"done_reason":"stop","prompt_eval_count":@,"eval_count":@}""",
}  # fmt: skip


def answer(wire: str, count: str = "1", text: str = "Hi", extra: str = "null") -> bytes:
    written = ANSWERS[wire].replace("@", count).replace("$", text).replace("#", extra)
    return json.dumps(json.loads(written)).encode() if extra == "null" and "e999" not in count else written.encode()


def read(wire: str, body: bytes) -> ChatResponse:
    return codec(wire).decode_response(body)


# --- counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", ["9" * 400, "-" + "9" * 400, "-1", "1e999", "-1e999", "1e300", "true", "null", '"7"'])
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_no_count_is_negative_or_larger_than_anything_that_can_be_counted(wire: str, count: str) -> None:
    response = read(wire, answer(wire, count))
    usage = response.usage
    if usage is not None:
        counts = (usage.input_tokens, usage.output_tokens, usage.total_tokens, usage.reasoning_tokens)
        assert all(0 <= each <= 3 * MOST for each in (*counts, usage.cache_read_tokens, usage.cache_write_tokens))
        assert float(sum(counts)) >= 0  # arithmetic with them does not overflow
    assert response.created is None or 0 <= response.created <= LAST_SECOND
    bare = None if usage is None else replace(usage, extra=None)
    for other in WIRES:  # and what was read can be written
        codec(other).encode_response(ChatResponse(response.parts, usage=bare, created=response.created))


# --- nesting ------------------------------------------------------------------------------------------------------


def nested(levels: int) -> str:
    return '{"a":[' * (levels // 2) + "1" + "]}" * (levels // 2)


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_an_answer_that_can_be_read_can_be_copied_and_pickled(wire: str) -> None:
    response = read(wire, answer(wire, extra=nested(DEEPEST - 10)))
    assert copy.deepcopy(response) == response
    assert pickle.loads(pickle.dumps(response)) == response


@pytest.mark.parametrize("levels", [DEEPEST + 2, 900, 100_000])
@pytest.mark.parametrize("wire", sorted(WIRES))
def test_an_answer_that_is_nested_too_deeply_is_none(wire: str, levels: int) -> None:
    with pytest.raises(InvalidAnswer):
        read(wire, answer(wire, extra=nested(levels)))


def streamed(wire: str, text: str) -> list[StreamEvent]:
    """The events of a stream whose only frame is this JSON text."""
    if wire == "bedrock_converse":
        return events_of(codec(wire), [eventstream.event("contentBlockDelta", text.encode())])
    if wire == "ollama":
        return events_of(codec(wire), [text.encode() + b"\n"])
    return events_of(codec(wire), [b"data: " + text.encode() + b"\n\n"])


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_a_frame_that_is_nested_too_deeply_breaks_the_stream(wire: str) -> None:
    events = streamed(wire, '{"type":"x","x":' + nested(900) + "}")
    assert isinstance(events[-1], StreamBroken)
    assert pickle.loads(pickle.dumps(events)) == events


def test_many_brackets_that_are_not_deep_are_no_harm() -> None:
    wide = json.dumps([[] for _ in range(5000)])
    assert read("ollama", answer("ollama", extra=wide)).text == "Hi"


# --- half characters ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", sorted(WIRES))
def test_half_a_surrogate_pair_never_reaches_the_caller(wire: str) -> None:
    body = answer(wire, text=r"A\ud83dB\ude00C\ud83d\ude00", extra=r'{"\ud83d":["\udc00"]}')
    response = read(wire, body)
    assert response.text == "A\ufffdB\ufffdC\U0001f600"
    json.dumps(response.raw, ensure_ascii=False).encode()


def test_half_a_surrogate_pair_in_a_stream_never_reaches_the_caller() -> None:
    chunk = '{"id":"c","choices":[{"index":0,"delta":{"content":"A\\ud83d"},"finish_reason":"stop"}]}'
    assert assembled(streamed("openai_chat", chunk)).text == "A\ufffd"


# --- patterns -----------------------------------------------------------------------------------------------------

PUMPS = (
    *("X-Amz-", "violat", "exceed", "9", "9 tokens ", "<h1", "<title>", "a-", "key=", "key", "://", "a://b", "Bearer "),
    *("sk-", "eyJ", "context length ", "model ", "the model not ", "input tokens ", "guardrail ", "insufficient_"),
    *("account blocked ", "retry after 1", "wait 9h", "api key ", "no credits ", "capacity ", '"', "q=1;", "-limit"),
    *("x-ratelimit-", "data:", "abc123", "/", "\\", "{", "a b", "limit 1, ", "invalid or ", "not found ", "the "),
)


def patterns() -> Iterator[re.Pattern[str]]:
    """Every pattern that meets text of a server."""
    for pattern, _ in scrub._rules():
        yield pattern
    yield scrub._RUN
    for rule in rules.RULES:
        for text in (rule.words, rule.text, rule.unless):
            if text:
                yield re.compile(text)
    yield re.compile(times._SPOKEN, re.IGNORECASE)
    yield from (re.compile(each) for each, _ in ratelimit._NAMES)
    for module in (error_body, exceptions, rules, in_band, ratelimit, times):
        for name, value in vars(module).items():  # those that are compiled when they are first used are text
            if isinstance(value, re.Pattern | str) and not name.startswith("__"):
                yield re.compile(value)


def seconds(pattern: re.Pattern[str], text: str) -> float:
    """What a search takes of this thread, so that a busy machine does not count."""
    started = time.thread_time()
    pattern.sub("", text)
    return time.thread_time() - started


def test_no_pattern_is_slow_on_any_text() -> None:
    slow = []
    for pattern in set(patterns()):
        for pump in PUMPS:
            text = (pump * 4_000)[:4_000]
            if seconds(pattern, text) > 0.02 and seconds(pattern, text) > 8 * seconds(pattern, text[:1_000]):
                slow.append((pattern.pattern[:80], pump))
    assert slow == []
