"""Every recorded stream, told on every other wire: the same words, calls, reason and counts, also to vendors' SDKs."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from resilient_llm.model import ChatResponse, StreamEnd, StreamEvent, ToolCall, Usage
from resilient_llm.wire import codec
from resilient_llm.wire.kit.accumulate import Accumulator
from tests.material import corpus
from tests.travel.probes import WIRES

FILES = {
    "openai_chat": "openai_chat_streams",
    "openai_responses": "openai_responses_streams",
    "anthropic_messages": "anthropic_messages_streams",
    "gemini": "gemini_streams",
    "bedrock_converse": "bedrock_converse_streams",
    "cohere_v2": "cohere_v2_streams",
    "ollama": "ollama_chat_streams",
}


@dataclass(frozen=True)
class Recorded:
    id: str
    events: tuple[StreamEvent, ...]
    answer: ChatResponse


def gathered(events: list[StreamEvent] | tuple[StreamEvent, ...]) -> ChatResponse:
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    return accumulator.response()


@cache
def streams(wire: str) -> tuple[Recorded, ...]:
    return tuple(_streams(wire))


def _streams(wire: str) -> Iterator[Recorded]:
    for record in corpus(FILES[wire]):
        if record["outcome"] != "complete":
            continue
        text, packed = record.get("body_text"), record.get("body_b64")
        data = base64.b64decode(str(packed)) if packed else str(text).encode()
        decoder = codec(wire).stream_decoder()
        events = (*decoder.feed(data), *decoder.close())
        assert isinstance(events[-1], StreamEnd)
        yield Recorded(str(record["id"]), events, gathered(events))


def written(events: tuple[StreamEvent, ...], wire: str) -> bytes:
    encoder = codec(wire).stream_encoder()
    return b"".join(encoder.feed(event) for event in events)


def calls_of(response: ChatResponse) -> list[tuple[str, object]]:
    return [(call.name, _arguments(call)) for call in response.tool_calls]


def _arguments(call: ToolCall) -> object:
    try:
        return call.parse()
    except ValueError:
        return call.arguments


def text_of(response: ChatResponse) -> str:
    return response.text + response.refusal


CANNOT_SAY = {
    "cohere_v2": {"content_filter": "error"},
}
"""Finish reasons a wire has no word for -> what it says instead."""

_HALF_A_CALL = {"antsdk-e4b33dc49ca3"}
"""Streams cut by their token limit inside a call's arguments: wires that take objects cannot hold half of one."""


@pytest.mark.parametrize("target", WIRES)
@pytest.mark.parametrize("source", WIRES)
def test_a_stream_means_the_same_on_every_wire(source: str, target: str) -> None:
    for recorded in streams(source):
        sent = recorded.answer
        decoder = codec(target).stream_decoder()
        data = written(recorded.events, target)
        events = (*decoder.feed(data), *decoder.close())
        assert isinstance(events[-1], StreamEnd), recorded.id
        there = gathered(events)
        assert text_of(there) == text_of(sent), recorded.id
        if recorded.id not in _HALF_A_CALL:
            assert calls_of(there) == calls_of(sent), recorded.id
        reason = CANNOT_SAY.get(target, {}).get(sent.finish_reason, sent.finish_reason)
        assert there.finish_reason == reason, recorded.id
        counted = there.usage or Usage()
        if sent.usage is not None:
            assert (counted.input_tokens, counted.output_tokens) == (sent.usage.input_tokens, sent.usage.output_tokens)


# --- the vendors' SDKs ---

Told = tuple[str, list[tuple[str, object]], str | None]


def _http(module: str, data: bytes) -> Any:
    http = pytest.importorskip(module, reason="the peers extra is not installed")
    answer = http.Response(200, content=data, headers={"content-type": "text/event-stream"})
    return http.Client(transport=http.MockTransport(lambda _request: answer), trust_env=False, verify=False)


def told_to_openai_chat(data: bytes) -> Told:
    """By the SDK's own accumulating helper."""
    openai = pytest.importorskip("openai", reason="the peers extra is not installed")
    client = openai.OpenAI(api_key="none", max_retries=0, http_client=_http("httpx2", data))
    with client.chat.completions.stream(model="m", messages=[{"role": "user", "content": "?"}]) as stream:
        choice = stream.get_final_completion().choices[0]
    calls = [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or []]
    return (choice.message.content or "") + (choice.message.refusal or ""), calls, choice.finish_reason


def told_to_openai_responses(data: bytes) -> Told:
    openai = pytest.importorskip("openai", reason="the peers extra is not installed")
    client = openai.OpenAI(api_key="none", max_retries=0, http_client=_http("httpx2", data))
    with client.responses.stream(model="m", input="?") as stream:
        response = stream.get_final_response()
    parts = [part for item in response.output if item.type == "message" for part in item.content]
    text = "".join(part.text if part.type == "output_text" else part.refusal for part in parts)
    calls = [(item.name, item.arguments) for item in response.output if item.type == "function_call"]
    return text, calls, response.status


def told_to_anthropic(data: bytes) -> Told:
    anthropic = pytest.importorskip("anthropic", reason="the peers extra is not installed")
    client = anthropic.Anthropic(api_key="none", max_retries=0, http_client=_http("httpx2", data))
    question = [{"role": "user", "content": "?"}]
    with client.messages.stream(model="claude-sonnet-5", max_tokens=64, messages=question) as stream:
        message = stream.get_final_message()
    text = "".join(block.text for block in message.content if block.type == "text")
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    return text, calls, message.stop_reason


def told_to_gemini(data: bytes) -> Told:
    genai = pytest.importorskip("google.genai", reason="the peers extra is not installed")
    options = genai.types.HttpOptions(httpx_client=_http("httpx2", data))
    client = genai.Client(api_key="none", http_options=options)
    text, calls, reason = "", [], None
    for chunk in client.models.generate_content_stream(model="m", contents="?"):
        for candidate in chunk.candidates or []:
            for part in (candidate.content.parts if candidate.content else None) or []:
                if part.function_call:
                    calls.append((part.function_call.name, part.function_call.args or {}))
                elif part.text and not part.thought:
                    text += part.text
            reason = candidate.finish_reason.name if candidate.finish_reason else reason
    return text, calls, reason


SDKS: Mapping[str, Callable[[bytes], Told]] = {
    "openai_chat": told_to_openai_chat,
    "openai_responses": told_to_openai_responses,
    "anthropic_messages": told_to_anthropic,
    "gemini": told_to_gemini,
}


def _same(arguments: object) -> object:
    if not isinstance(arguments, str):
        return arguments
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("target", SDKS)
@pytest.mark.parametrize("source", WIRES)
def test_the_vendors_sdk_reads_what_another_vendor_streamed(source: str, target: str) -> None:
    for recorded in streams(source)[:10]:
        if recorded.answer.finish_reason in ("length", "content_filter") and target.startswith("openai"):
            continue  # OpenAI's helpers raise for them, as they do for OpenAI's own
        text, calls, reason = SDKS[target](written(recorded.events, target))
        assert text == text_of(recorded.answer), recorded.id
        if recorded.id not in _HALF_A_CALL:
            assert [(name, _same(each)) for name, each in calls] == calls_of(recorded.answer), recorded.id
        assert reason, recorded.id
