"""Gemini's wire: recorded exchanges, signatures, streams in every framing, and Google's own client as judge."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import pytest

from resilient_llm.wire.gemini import CODEC, VERTEX_CODEC
from tests.wire.roundtrip import (
    ABSENT,
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    absent_if_null,
    assembly_differences,
    assert_only,
    cut_differences,
    forwarding_differences,
    ignored,
    injection_differences,
    rechunking_differences,
    replay_differences,
    request_differences,
    requests,
    response_differences,
    responses,
    sse_frames,
    stream_bytes,
    streams,
    tally,
)

SNAKE = re.compile(r"_([a-z])")
WIRE_NAMES = frozenset(
    "file_data file_uri function_call function_response function_declarations inline_data mime_type "
    "parameters_json_schema thinking_budget thought_signature".split()
)


def in_camel_case(value: Any) -> Any:
    """Either spelling is accepted; ours is camelCase."""
    if not isinstance(value, dict):
        return value
    return {SNAKE.sub(lambda m: m[1].upper(), key) if key in WIRE_NAMES else key: each for key, each in value.items()}


def as_list(value: Any) -> Any:
    return [value] if isinstance(value, dict) else value


def one_declaration_tool(tools: Any) -> Any:
    """Functions may be declared in any number of tools."""
    functions = [each for tool in tools for each in tool.get("functionDeclarations", [])]
    others = [tool for tool in tools if "functionDeclarations" not in tool]
    merged = [{"functionDeclarations": functions}] if functions else []
    return merged + others or ABSENT


def newer_schema(tool: Any) -> Any:
    """A schema that is JSON schema may be called either."""
    if "parameters" not in tool:
        return tool
    return {**{key: each for key, each in tool.items() if key != "parameters"}, "parametersJsonSchema": tool["parameters"]}


def standard_alphabet(value: Any) -> Any:
    return value.replace("-", "+").replace("_", "/") if isinstance(value, str) else value


def reason_name(value: Any) -> Any:
    return {1: "STOP", 2: "MAX_TOKENS"}.get(value, value)


SUBJECT = Subject(
    CODEC,
    sse_frames,
    lambda frames: any(b'"finishReason"' in frame or b'"blockReason"' in frame for frame in frames),
    request_rules=(
        Rule(r".*", in_camel_case, "both spellings are accepted"),
        Rule(r".*(inline_?[dD]ata)\.data", standard_alphabet, "both base64 alphabets are accepted"),
        Rule(r"systemInstruction\.role", ignored, "the API ignores it"),
        Rule(r"tools\[\]\.function_?[dD]eclarations\[\]|tools\.function_declarations\[\]", newer_schema, "two names"),
        Rule(r"tools", as_list, "one needs no list"),
        Rule(r"tools", one_declaration_tool, "grouping says nothing"),
        Rule(r"generationConfig", absent_if_empty, "no settings are no settings"),
        Rule(r".*\.(functionCall|function_call)\.args", absent_if_empty, "no arguments are no fields"),
    ),
    response_rules=(
        Rule(r"candidates\[\]\.index", absent_if(0), "zero may be absent, as in all protobuf JSON"),
        Rule(r"candidates\[\]\.content\.parts", absent_if_empty, "no parts are no parts"),
        Rule(r"candidates\[\]\.content\.role", absent_if("model"), "nobody else answers"),
        Rule(r"candidates\[\]\.finishReason", reason_name, "some client libraries write numbers"),
        Rule(r"candidates\[\]\.content\.parts\[\]\.functionCall\.args", absent_if_empty, "no arguments are no fields"),
        Rule(r"usageMetadata\.(candidatesTokenCount|thoughtsTokenCount)", absent_if(0), "zero may be absent"),
    ),
)
VERTEX = Subject(VERTEX_CODEC, SUBJECT.frames, SUBJECT.terminal, SUBJECT.request_rules, SUBJECT.response_rules)
FILES = ("gemini", "gemini_streams")


def at_vertex(record: Any) -> bool:
    return "/projects/" in record["url_path"]


# --- recorded exchanges ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("subject", "vertex"), [(SUBJECT, False), (VERTEX, True)])
def test_recorded_requests_survive_the_round_trip(subject: Subject, vertex: bool) -> None:
    records = (record for record in requests(*FILES) if at_vertex(record) == vertex)
    assert_only(tally(records, partial(request_differences, subject)), {})


def test_recorded_requests_are_forwarded_unchanged() -> None:
    assert_only(tally(requests(*FILES), partial(forwarding_differences, SUBJECT)), {})


def test_recorded_answers_survive_the_round_trip() -> None:
    assert_only(tally(responses("gemini"), partial(response_differences, SUBJECT)), {})


def test_recorded_answers_can_be_played_back_as_streams() -> None:
    assert_only(tally(responses("gemini"), lambda record: replay_differences(SUBJECT, record["body"])), {})


@pytest.mark.parametrize(
    "check", [assembly_differences, rechunking_differences, cut_differences, injection_differences]
)
def test_recorded_streams(check: Any) -> None:
    assert_only(tally(streams("gemini_streams"), lambda r: check(SUBJECT, stream_bytes(r))), {})
