"""OpenAI Responses: recorded requests, answers and streams of OpenAI, Azure and compatible vendors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

from resilient_llm.model import StreamEnd
from resilient_llm.wire.openai_responses import CODEC
from tests.wire import roundtrip
from tests.wire.recorded import Recorded
from tests.wire.roundtrip import Rule, Subject, absent_if, absent_if_empty, absent_if_null, as_json

FILES = ("openai_responses", "azure_openai_responses", "openai_compatible_responses")
STREAMS = tuple(f"{name}_streams" for name in FILES)


# --- what counts as the same ---------------------------------------------------------------------------------


def one_shape_of_input(body: Any) -> Any:
    """A text is a list of one message, and instructions are a first system message."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given or []
    if "instructions" in body:
        items = [{"role": "system", "content": body["instructions"]}, *items]
    return {key: value for key, value in body.items() if key != "instructions"} | {"input": items}


def plain_if_single(value: Any) -> Any:
    """A list holding one text says what the text says."""
    texts = {"input_text", "output_text"}
    if (
        isinstance(value, list)
        and len(value) == 1
        and value[0].keys() == {"type", "text"}
        and value[0]["type"] in texts
    ):
        return value[0]["text"]
    return value


def in_any_order(value: Any) -> Any:
    return sorted(value, key=partial(json.dumps, sort_keys=True))


REQUEST_RULES = (
    Rule("(.*[^]])?", absent_if_null, "null means the default"),
    Rule("", one_shape_of_input, "instructions are the first system message"),
    Rule("stream", absent_if(False), "the default"),
    Rule("include", absent_if_empty, "nothing to include"),
    Rule("tools", absent_if_empty, "no tools"),
    Rule("tools", in_any_order, "functions come first, built-in tools after them"),
    Rule("input\\[\\].type", absent_if("message"), "the default type of an item"),
    Rule("input\\[\\].status", absent_if("completed"), "goes without saying"),
    Rule("input\\[\\].content\\[\\].(annotations|logprobs)", absent_if_empty, "nothing to say"),
    Rule("input\\[\\].(content|output)", plain_if_single, "one text needs no list"),
)
RESPONSE_RULES = (
    Rule("(.*[^]])?", absent_if_null, "null means nothing to say"),
    Rule("output\\[\\].status", absent_if("completed"), "goes without saying"),
    Rule("output\\[\\].content\\[\\].(annotations|logprobs)", absent_if_empty, "nothing to say"),
    Rule("output\\[\\].arguments", as_json, "no arguments are no arguments"),
)


def ended(frames: Sequence[bytes]) -> bool:
    """Terminal evidence: the event that repeats the whole response, and no failure."""
    return any(
        b'"type":"response.completed"' in f or b'"type":"response.incomplete"' in f for f in map(compact, frames)
    )


def compact(frame: bytes) -> bytes:
    return frame.replace(b'": ', b'":')


SUBJECT = Subject(CODEC, roundtrip.sse_frames, ended, REQUEST_RULES, RESPONSE_RULES)

# --- the recorded exchanges ----------------------------------------------------------------------------------

FAILED = {"vercel-4dbb03295cb7": "the vendor reported an exhausted quota inside the stream"}


class TestRecorded(Recorded):
    answers, streams = FILES, STREAMS
    subject = SUBJECT
    not_assembled = FAILED


def test_complete_streams_are_complete_and_failed_ones_failed() -> None:
    def check(record: Any) -> list[str]:
        last = roundtrip.events_of(CODEC, [roundtrip.stream_bytes(record)])[-1]
        return [] if isinstance(last, StreamEnd) else [repr(last)]

    roundtrip.assert_only(roundtrip.tally(roundtrip.streams(*STREAMS), check), FAILED)


def test_streams_add_up_to_the_response_that_ends_them() -> None:
    """The vendor repeats the whole answer at the end; read as a whole answer it means what the pieces meant."""

    def check(record: Any) -> list[str]:
        raw = roundtrip.stream_bytes(record)
        last = [json.loads(line[5:]) for line in raw.splitlines() if line.startswith(b"data: {")][-1]
        whole = CODEC.decode_response(json.dumps(last["response"]).encode())
        pieces = roundtrip.assembled(roundtrip.events_of(CODEC, [raw]))
        meant, said = roundtrip.meaning(whole), roundtrip.meaning(pieces)
        for meaning in (meant, said):  # the vendor seals the same reasoning anew each time
            meaning["answers"][0]["signatures"] = len(meaning["answers"][0]["signatures"])
        return roundtrip.differences(meant, said)

    roundtrip.assert_only(roundtrip.tally(roundtrip.streams(*STREAMS), check), FAILED)
