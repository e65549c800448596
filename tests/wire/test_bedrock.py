"""Bedrock Converse: recorded requests, answers and streams survive the way through the neutral model."""

from __future__ import annotations

from functools import partial
from typing import Any

from resilient_llm.wire import codec
from resilient_llm.wire.bedrock import CODEC
from tests.wire.roundtrip import (
    Rule,
    Subject,
    absent_if,
    absent_if_empty,
    absent_if_null,
    as_json,
    assembly_differences,
    assert_only,
    cut_differences,
    eventstream_frames,
    forwarding_differences,
    injection_differences,
    rechunking_differences,
    replay_differences,
    request_differences,
    requests,
    response_differences,
    responses,
    stream_bytes,
    streams,
    tally,
)

FILES = ("bedrock_converse", "bedrock_converse_streams")


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


def of_stream(check: Any) -> Any:
    return lambda record: check(SUBJECT, stream_bytes(record))


def test_the_codec_is_found_by_its_name() -> None:
    assert codec(CODEC.name) is CODEC


def test_requests_survive_the_round_trip() -> None:
    assert_only(tally(requests(*FILES), partial(request_differences, SUBJECT)), {})


def test_requests_are_forwarded_unchanged() -> None:
    assert_only(tally(requests(*FILES), partial(forwarding_differences, SUBJECT)), {})


def test_answers_survive_the_round_trip() -> None:
    assert_only(tally(responses(FILES[0]), partial(response_differences, SUBJECT)), {})


def test_answers_played_back_as_streams_mean_the_same() -> None:
    assert_only(tally(responses(FILES[0]), lambda record: replay_differences(SUBJECT, record["body"])), {})


def test_streams_mean_the_same_as_whole_answers() -> None:
    assert_only(tally(streams(FILES[1]), of_stream(assembly_differences)), {})


def test_streams_do_not_depend_on_how_they_are_cut() -> None:
    assert_only(tally(streams(FILES[1]), of_stream(rechunking_differences)), {})


def test_streams_are_complete_only_with_message_stop() -> None:
    assert_only(tally(streams(FILES[1]), of_stream(cut_differences)), {})


def test_errors_are_heard_at_every_position() -> None:
    assert_only(tally(streams(FILES[1]), of_stream(injection_differences)), {})
