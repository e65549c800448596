"""Chat Completions: recorded requests, answers and streams of OpenAI, Azure and compatible vendors."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from resilient_llm.model import StreamEnd
from resilient_llm.wire.openai_chat import Dialect, codec_for
from tests.wire import roundtrip
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import Rule, Subject, absent_if, absent_if_empty, absent_if_null, as_json

FILES = ("openai_chat", "azure_openai_chat", "openai_compatible_chat")
STREAMS = tuple(f"{name}_streams" for name in FILES)

DIALECTS = {
    "openrouter": Dialect(
        vendor="openrouter", reasoning_field="reasoning", reasoning_object=True, media=frozenset({"video_url"})
    ),
    "mistral": Dialect(
        vendor="mistral", reasoning_field="content", seed_field="random_seed", media=frozenset({"document_url"})
    ),
    "snowflake": Dialect(vendor="snowflake", reasoning_object=True),
    "groq": Dialect(vendor="groq", reasoning_field="reasoning"),
}


# --- what counts as the same ---------------------------------------------------------------------------------


def one_name_for_max_tokens(body: Any) -> Any:
    return {("max_completion_tokens" if key == "max_tokens" else key): value for key, value in body.items()}


def listed(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def plain_if_single(value: Any) -> Any:
    """A list holding one text says what the text says."""
    if isinstance(value, list) and len(value) == 1 and value[0].keys() == {"type", "text"}:
        return value[0]["text"]
    return value or None


def joined(value: Any) -> Any:
    return "".join(piece["text"] for piece in value)


def official_word(value: Any) -> Any:
    return "required" if value == "any" else value


REQUEST_RULES = (
    Rule("(.*[^]])?", absent_if_null, "null means the default"),
    Rule("", one_name_for_max_tokens, "max_tokens is the deprecated name of max_completion_tokens"),
    Rule("stream", absent_if(False), "the default"),
    Rule("stream_options.include_usage", roundtrip.ignored, "usage is asked for in every stream"),
    Rule("stream_options", absent_if({}), "only held include_usage"),
    Rule("stop", listed, "a string is a list of one"),
    Rule("tools", absent_if_empty, "no tools"),
    Rule("tools\\[\\].type", absent_if("function"), "the only type a function can have"),
    Rule("tool_choice", official_word, "Mistral's older word for required"),
    Rule("messages\\[\\].content\\[\\].thinking", joined, "reasoning is one text, however many pieces it came in"),
    Rule("messages\\[\\].content", plain_if_single, "one text needs no list"),
    Rule("messages\\[\\].content", absent_if_empty, "null, absent and empty content say nothing alike"),
    Rule("messages\\[\\].tool_calls", absent_if_empty, "no calls"),
    Rule("messages\\[\\].(tool_call_id|tool_calls\\[\\].id)", absent_if(""), "a vendor without ids"),
)
RESPONSE_RULES = (
    Rule("(.*[^]])?", absent_if_null, "null means nothing to say"),
    Rule("id", absent_if("chatcmpl-0"), "clients expect an id"),
    Rule("id", absent_if(""), "clients expect an id"),
    Rule("choices\\[\\].message.(annotations|tool_calls|content|refusal)", absent_if_empty, "nothing to say"),
    Rule("choices\\[\\].message.tool_calls\\[\\].type", absent_if("function"), "the only type a function can have"),
    Rule("choices\\[\\].message.tool_calls\\[\\].function.arguments", as_json, "compared by what they hold"),
    Rule(
        "choices\\[\\].message.tool_calls\\[\\].function.arguments", absent_if({}), "no arguments, written out or not"
    ),
    Rule("choices\\[\\].message.content\\[\\].thinking", joined, "reasoning is one text, however many pieces"),
    Rule("choices\\[\\].message", absent_if({"role": "assistant"}), "a filtered choice without a message"),
)


def ended(frames: Sequence[bytes]) -> bool:
    """Terminal evidence, read naively: a finish_reason for every choice that was seen, or token counts and [DONE]."""
    seen: dict[int, bool] = {}
    counted = False
    for frame in frames:
        for line in frame.splitlines():
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return bool(seen) and (counted or all(seen.values()))
            if line.startswith(b"data:"):
                chunk = json.loads(data)
                counted = counted or bool(chunk.get("usage") and not chunk.get("choices"))
                for choice in chunk.get("choices") or []:
                    index = choice.get("index", 0)
                    seen[index] = seen.get(index, False) or bool(choice.get("finish_reason"))
    return bool(seen) and all(seen.values())


@functools.cache
def subject(provider: str) -> Subject:
    codec = codec_for(DIALECTS.get(provider))
    return Subject(codec, roundtrip.sse_frames, ended, REQUEST_RULES, RESPONSE_RULES)


# --- the recorded exchanges ----------------------------------------------------------------------------------


class TestRecorded(Recorded):
    answers, streams = FILES, STREAMS

    def subject_of(self, record: Mapping[str, Any]) -> Subject:
        return subject(record["provider"])


STREAMS_THAT_FAILED = {"pai-f8a160dd5a7e": "Groq reported tool_use_failed inside the stream"}


def test_complete_streams_are_complete_and_failed_ones_failed() -> None:
    def check(record: Any) -> list[str]:
        last = roundtrip.events_of(subject(record["provider"]).codec, [roundtrip.stream_bytes(record)])[-1]
        return [] if isinstance(last, StreamEnd) else [repr(last)]

    roundtrip.assert_only(roundtrip.tally(roundtrip.streams(*STREAMS), check), STREAMS_THAT_FAILED)


def read_naively(raw: bytes) -> dict[str, Any]:
    """The first choice of a stream by string concatenation."""
    text, reasoning, tools, usage = "", "", {}, None
    for frame in roundtrip.sse_frames(raw):
        data = frame.split(b"data:", 1)[-1].strip()
        if data.startswith(b"{"):
            chunk = json.loads(data)
            usage = chunk.get("usage") or (chunk.get("x_groq") or {}).get("usage") or usage
            for choice in chunk.get("choices") or []:
                delta = choice.get("delta") or {}
                text += delta.get("content") or ""
                reasoning += delta.get("reasoning") or delta.get("reasoning_content") or ""
                for call in delta.get("tool_calls") or []:
                    name, arguments = tools.get(call["index"], ("", ""))
                    more = call["function"]
                    tools[call["index"]] = (name + (more.get("name") or ""), arguments + (more.get("arguments") or ""))
    counts = (usage["prompt_tokens"], _output(usage)) if usage else None
    return {"text": text, "reasoning": reasoning, "tools": list(tools.values()), "usage": counts}


def _output(usage: Any) -> int:
    """What came out of the model: where the total holds more than prompt and completion, reasoning is apart."""
    thought = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens", 0)
    apart = thought and usage["total_tokens"] - usage["prompt_tokens"] - usage["completion_tokens"] == thought
    return int(usage["completion_tokens"] + (thought if apart else 0))


def test_streams_say_what_a_naive_reader_reads() -> None:
    def check(record: Any) -> list[str]:
        raw = roundtrip.stream_bytes(record)
        response = roundtrip.assembled(roundtrip.events_of(subject(record["provider"]).codec, [raw]))
        found = {
            "text": response.text,
            "reasoning": response.reasoning,
            "tools": [(call.name, call.arguments) for call in response.tool_calls],
            "usage": (response.usage.input_tokens, response.usage.output_tokens) if response.usage else None,
        }
        return roundtrip.differences(read_naively(raw), found)

    roundtrip.assert_only(roundtrip.tally(roundtrip.streams(*STREAMS), check), {})
