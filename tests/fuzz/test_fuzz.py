"""Whatever arrives: nothing but the documented errors, and nothing without a bound.

Short by default.  For an hour of it::

    RESILIENT_LLM_FUZZ=200000 python -m pytest tests/fuzz -q -p no:cacheprovider
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient_llm.errors import Fault, InvalidAnswer, InvalidRequest, UnsupportedFeature
from resilient_llm.model import StreamBroken, StreamEnd, StreamError, StreamEvent
from resilient_llm.wire import classify, classify_stream_error, codec, parse_rate_limit
from resilient_llm.wire.framing import eventstream, ndjson, sse
from resilient_llm.wire.kit.accumulate import Accumulator
from tests.fuzz.mutate import ODD, WIRES, damaged, requests, responses, streams
from tests.wire.readers import read_request

EXAMPLES = int(os.environ.get("RESILIENT_LLM_FUZZ", "60"))
FUZZ = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
SEEDS = st.integers(0, 2**32)
ENDS = (StreamEnd, StreamError, StreamBroken)
VENDORS = (
    *("openai", "azure_openai", "anthropic", "gemini", "vertex", "bedrock", "cohere", "mistral", "groq", "deepseek"),
    *("openrouter", "ollama", "vllm", "openai_compatible_gateway", "nobody"),
)


# --- codecs ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@given(SEEDS)
@FUZZ
def test_a_damaged_request_is_understood_or_refused(wire: str, seed: int) -> None:
    draw = random.Random(seed)
    body, path = draw.choice(requests(wire))
    try:
        request = read_request(wire, damaged(body, draw), path)
    except InvalidRequest:
        return
    for other in WIRES:  # what was understood can be asked of anybody, or it is said why not
        with contextlib.suppress(UnsupportedFeature, InvalidRequest):
            encoded = codec(other).encode_request(request)
            assert isinstance(encoded.body, bytes)


@pytest.mark.parametrize("wire", WIRES)
@given(SEEDS)
@FUZZ
def test_a_damaged_answer_is_an_answer_or_none(wire: str, seed: int) -> None:
    draw = random.Random(seed)
    body = damaged(draw.choice(responses(wire)), draw)
    try:
        response = codec(wire).decode_response(body)
    except InvalidAnswer:
        return
    assert size_of(response.parts) <= 20 * len(body) + 1000
    for other in WIRES:
        with contextlib.suppress(UnsupportedFeature):
            assert isinstance(codec(other).encode_response(response), bytes)


@pytest.mark.parametrize("wire", WIRES)
@given(SEEDS)
@FUZZ
def test_a_damaged_stream_has_one_end_and_is_no_longer_than_its_bytes(wire: str, seed: int) -> None:
    draw = random.Random(seed)
    data = damaged(draw.choice(streams(wire)), draw)
    events = decoded(wire, data, draw)
    assert sum(isinstance(event, ENDS) for event in events) == 1
    assert isinstance(events[-1], ENDS)
    assert len(events) <= len(data) + 10
    assert size_of(events) <= 20 * len(data) + 5000
    accumulator = Accumulator()
    for event in events:
        accumulator.add(event)
    assert size_of(accumulator.response().parts) <= 20 * len(data) + 5000


@pytest.mark.parametrize("wire", WIRES)
@given(SEEDS)
@FUZZ
def test_any_way_of_cutting_a_damaged_stream_gives_the_same_events(wire: str, seed: int) -> None:
    draw = random.Random(seed)
    data = damaged(draw.choice(streams(wire)), draw)
    whole = codec(wire).stream_decoder()
    assert merged(decoded(wire, data, draw)) == merged([*whole.feed(data), *whole.close()])


@pytest.mark.parametrize("wire", WIRES)
@given(st.binary(max_size=400))
@FUZZ
def test_noise_is_neither_a_request_nor_an_answer_nor_a_crash(wire: str, noise: bytes) -> None:
    with contextlib.suppress(InvalidRequest):
        read_request(wire, noise, noise.decode("latin-1"))
    with contextlib.suppress(InvalidAnswer):
        codec(wire).decode_response(noise)
    decoder = codec(wire).stream_decoder()
    events = [*decoder.feed(noise), *decoder.close()]
    assert sum(isinstance(event, ENDS) for event in events) == 1
    assert decoder.feed(noise) == []


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("bracket", [b"[", b'{"a":', b'{"content":[', b'data: {"choices":['])
def test_deep_nesting_is_no_way_to_crash(wire: str, bracket: bytes) -> None:
    body = bracket * 20_000
    with pytest.raises(InvalidRequest):
        read_request(wire, body)
    with pytest.raises(InvalidAnswer):
        codec(wire).decode_response(body)
    decoder = codec(wire).stream_decoder()
    events = [*decoder.feed(body + b"\n\n"), *decoder.close()]
    assert isinstance(events[-1], StreamError | StreamBroken)


# --- what was found here ------------------------------------------------------------------------------------


def test_an_odd_type_of_a_tool_is_a_vendors_own() -> None:
    asked = {"messages": [{"role": "user", "content": "x"}], "tools": [{"type": {"a": 1}, "name": "t"}]}
    assert codec("anthropic_messages").decode_request(json.dumps(asked).encode()).tools == ()


def test_a_stop_reason_needs_no_type_beside_it() -> None:
    decoder = codec("anthropic_messages").stream_decoder()
    decoder.feed(b'event: message_start\ndata: {"type":"message_start","message":{}}\n\n')
    events = decoder.feed(b'event: message_delta\ndata: {"delta":{"stop_reason":"end_turn"}}\n\n')
    assert [type(event).__name__ for event in events][-1:] == ["Finish"]


def test_odd_kinds_and_indexes_of_content_are_no_crash() -> None:
    decoder = codec("cohere_v2").stream_decoder()
    events = decoder.feed(b'data: {"type":"message-start","id":"1"}\n\n')
    for kind, inside in (
        ("content-start", {"content": {"type": ["x"]}}),
        ("citation-start", {"citations": {"content_index": [1], "start": 0}}),
    ):
        event = {"type": kind, "index": [], "delta": {"message": inside}}
        events += decoder.feed(b"data: " + json.dumps(event).encode() + b"\n\n")
    assert not any(isinstance(event, StreamBroken) for event in events)
    decoder = codec("openai_responses").stream_decoder()
    delta = {"type": "response.output_text.delta", "output_index": {}, "content_index": [], "delta": "x"}
    events = decoder.feed(b"data: " + json.dumps(delta).encode() + b"\n\n")
    events += decoder.feed(b'data: {"type":["x"]}\n\n')
    assert [type(event).__name__ for event in events] == ["TextDelta"]


def test_a_model_name_that_is_no_text_has_an_address_all_the_same() -> None:
    asked = b'{"model":"\\ud800","messages":[{"role":"user","content":"x"}]}'
    request = codec("openai_chat").decode_request(asked)
    assert codec("bedrock_converse").encode_request(request).path == "/model/%3F/converse"


def test_good_frames_before_a_bad_one_are_kept_however_they_arrive() -> None:
    good = b'data: {"candidates":[{"content":{"parts":[{"text":"hi"}]}}]}\n\n'
    for bad in (b'{"a":1}nonsense', b"{x}", b"[1]"):
        whole, piecewise = codec("gemini").stream_decoder(), codec("gemini").stream_decoder()
        at_once = [*whole.feed(good + bad), *whole.close()]
        in_pieces = [event for byte in good + bad for event in piecewise.feed(bytes([byte]))]
        assert merged(at_once) == merged([*in_pieces, *piecewise.close()])
        assert any(getattr(event, "text", "") == "hi" for event in at_once)


# --- framings ----------------------------------------------------------------------------------------------


@given(SEEDS)
@FUZZ
def test_framings_hold_no_more_than_they_were_given(seed: int) -> None:
    draw = random.Random(seed)
    data = damaged(draw.choice(streams(draw.choice(WIRES))), draw)
    lines = ndjson.Decoder()
    with contextlib.suppress(ValueError, InvalidAnswer):
        assert sum(map(len, [*lines.feed(data), *lines.close()])) <= len(data) + 1
    events = sse.Decoder()
    with contextlib.suppress(ValueError, InvalidAnswer):
        assert size_of(events.feed(data)) <= 20 * len(data) + 1000
    frames = eventstream.Decoder()
    with contextlib.suppress(ValueError, InvalidAnswer):
        list(frames.feed(data))
        assert frames.pending <= len(data)


# --- errors and headers ------------------------------------------------------------------------------------

HEADERS = (
    *("retry-after", "retry-after-ms", "date", "content-type", "x-should-retry", "x-ratelimit-remaining-requests"),
    *(
        "x-ratelimit-reset-requests",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-reset-tokens",
        "x-ratelimit-remaining-tokens",
    ),
    *("anthropic-ratelimit-requests-reset", "anthropic-ratelimit-tokens-remaining", "x-amzn-errortype", "x-request-id"),
)
VALUES = st.one_of(
    st.text(max_size=40),
    st.from_regex(r"-?[0-9]{1,30}(\.[0-9]+)?(e[0-9]{1,4})?(ms|s|m|h|d)?", fullmatch=True),
    st.sampled_from(
        [
            "",
            "nan",
            "inf",
            "-1",
            "1e999",
            "6m0s",
            "0",
            "Wed, 21 Oct 2015 07:28:00 GMT",
            "2026-01-01T00:00:00Z",
            "9" * 5000,
        ]
    ),
)


@given(
    SEEDS, st.sampled_from(VENDORS), st.integers(-1, 999), st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=6)
)
@FUZZ
def test_any_error_means_something_bounded(seed: int, vendor: str, status: int, headers: dict[str, str]) -> None:
    draw = random.Random(seed)
    body: object = damaged(draw.choice(responses(draw.choice(WIRES))), draw)
    if draw.random() < 0.3:
        body = draw.choice((*ODD, b"", b"<html>" * 50))
    for fault in (classify(vendor, status, headers, body, now=1.7e9), classify_stream_error(vendor, body)):
        if fault is not None:
            assert_bounded(fault)


@given(st.sampled_from(VENDORS), st.dictionaries(st.sampled_from(HEADERS), VALUES, max_size=8))
@FUZZ
def test_any_rate_limit_header_is_a_number_or_unknown(vendor: str, headers: dict[str, str]) -> None:
    limits = parse_rate_limit(vendor, headers, now=1.7e9)
    for limit in (limits.requests, limits.tokens):
        for value in dataclasses.astuple(limit):
            assert isinstance(value, str | None) or math.isfinite(value)


def assert_bounded(fault: Fault) -> None:
    assert len(fault.message) <= 1000
    assert fault.code is None or len(fault.code) <= 300
    assert fault.request_id is None or len(fault.request_id) <= 300
    assert fault.retry_after is None or (math.isfinite(fault.retry_after) and fault.retry_after >= 0)


# --- helpers -----------------------------------------------------------------------------------------------


def decoded(wire: str, data: bytes, draw: random.Random) -> list[StreamEvent]:
    """The events of a stream that arrives in pieces."""
    decoder = codec(wire).stream_decoder()
    events: list[StreamEvent] = []
    start = 0
    while start < len(data):
        size = draw.choice((1, 2, 7, 50, 500))
        events += decoder.feed(data[start : start + size])
        start += size
    return [*events, *decoder.close()]


def merged(events: list[StreamEvent]) -> list[str]:
    """Events as text: those of a broken stream end where it broke, whatever was said about it."""
    return [type(event).__name__ if isinstance(event, StreamBroken) else repr(event) for event in events]


def size_of(value: object) -> int:
    """Characters and bytes in a tree of values."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(size_of(key) + size_of(inner) for key, inner in value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return sum(map(size_of, value))
    if dataclasses.is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    return 1
