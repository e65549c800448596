"""A script, a schedule and the wire tell the same tale of the same behaviour."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from resilient_llm import CallFailed, ResilientClient
from resilient_llm.providers import Function, OpenAICompatible
from resilient_llm.testing import (
    Close,
    Cut,
    InBandError,
    LoopbackLLM,
    Malformed,
    Mishap,
    Reply,
    Reset,
    ScriptedProvider,
    Status,
    inject,
)
from resilient_llm.testing.script import Behaviour, StreamFault

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
TEXT = "a b c d e f"

FAULTS: Mapping[str, StreamFault] = {
    **{f"Cut({after}, {how})": Cut(after, how=how) for after in (0, 3) for how in ("end", "close", "reset")},
    **{f"Malformed({after})": Malformed(after) for after in (0, 3)},
    **{f"InBandError({after})": InBandError(after) for after in (0, 3)},
}
BEHAVIOURS: Mapping[str, Behaviour] = {
    **{name: Reply(TEXT, fault=fault) for name, fault in FAULTS.items()},
    "a page": Status(200, "<html>"),
    "nothing": Status(200, ""),
    "garbage": Status(200, b"\xff\xfe"),
    "an error object": Status(200, {"error": {"message": "too busy", "type": "server_error", "code": "overloaded"}}),
    "something else": Status(200, {"ok": True}),
    "a sick gateway": Status(502, "<html>"),
    "busy": Status(503),
    "closed": Close(),
    "reset": Reset(),
    "no reason": Reply("a b", finish_reason=None),
    "no end": Reply("a b", terminal=False),
    "neither": Reply("a b", terminal=False, finish_reason=None),
}


def outcome(client: ResilientClient, stream: bool) -> str:
    """The kind of the fault, or the text."""
    try:
        if not stream:
            return client.chat("hi").text
        with client.stream("hi") as answer:
            return "".join(answer.text_deltas())
    except CallFailed as error:
        fault = error.attempts[0].fault
        return type(error).__name__ if fault is None else fault.kind


def asked(provider: OpenAICompatible | ScriptedProvider, stream: bool) -> str:
    with ResilientClient([provider], retry={"max_attempts": 1}) as client:
        return outcome(client, stream)


@STREAMED
@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_scripted_provider_fails_as_one_behind_the_wire(name: str, stream: bool) -> None:
    with LoopbackLLM(default=BEHAVIOURS[name]) as server:
        wire = asked(OpenAICompatible("m", base_url=server.url), stream)
    assert asked(ScriptedProvider(BEHAVIOURS[name]), stream) == wire


@STREAMED
@pytest.mark.parametrize("name", FAULTS)
def test_a_true_answer_is_broken_alike_with_and_without_a_wire(name: str, stream: bool) -> None:
    mishap: Mishap = FAULTS[name]
    with LoopbackLLM(default=Reply(TEXT)) as server:
        told = []
        for provider in (OpenAICompatible("m", id="a", base_url=server.url), Function(lambda request: TEXT, id="a")):
            with ResilientClient([provider], retry={"max_attempts": 1}) as client, inject(client, {"a": mishap}):
                told.append(outcome(client, stream))
    assert told[0] == told[1]
