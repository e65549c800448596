"""Where a fault strikes inside an answer, and what follows: the decision alone, and that everybody takes it."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
import pytest

from resilient_llm import CallFailed, ResilientClient
from resilient_llm.model import BlockEnd, Finish, StreamEnd, StreamEvent, TextDelta
from resilient_llm.providers import Function, OpenAICompatible, Provider
from resilient_llm.providers.base import HttpProvider
from resilient_llm.testing import (
    Cut,
    FaultyTransport,
    InBandError,
    LoopbackLLM,
    Malformed,
    Mishap,
    Reply,
    ScriptedProvider,
    SlowTokens,
    Stall,
    inject,
)
from resilient_llm.testing.script import StreamFault
from resilient_llm.testing.strike import Ending, Struck, ending_of

WORDS = ("a ", "b ", "c ")
WHOLE: tuple[StreamEvent, ...] = (*map(TextDelta, WORDS), BlockEnd(0), Finish("stop"))


def told(mishap: Mishap | None, events: Iterable[StreamEvent] = WHOLE) -> str:
    """An answer, piece by piece, and ``!`` where the fault strikes."""
    answer = Struck[str](mishap, lambda fault: "!")
    steps: list[object] = []
    for event in events:
        text = event.text if isinstance(event, TextDelta) else "." if isinstance(event, Finish | StreamEnd) else "_"
        steps += answer.said((event,), (text,))
    return "".join(map(str, [*steps, *answer.end()]))


@pytest.mark.parametrize(
    ("mishap", "steps"),
    [
        (None, "a b c _."),
        (Cut(0), "!"),
        (Cut(2), "a b !"),
        (Stall(3), "a b c _!"),
        (InBandError(9), "a b c _!"),
        (Malformed(1), "a !b c _."),
        (Malformed(9), "a b c _!."),
        (SlowTokens(0.5), "0.5a 0.5b 0.5c _."),
    ],
    ids=repr,
)
def test_a_fault_strikes_once_and_before_the_end_at_the_latest(mishap: Mishap | None, steps: str) -> None:
    assert told(mishap) == steps


def test_an_answer_that_ends_without_saying_so_is_struck_there() -> None:
    assert told(Cut(9), map(TextDelta, WORDS)) == "a b c !"


def test_a_last_piece_with_a_token_in_it_does_not_pass_a_fault_that_waits_for_more() -> None:
    answer = Struck[str](Cut(9), lambda fault: "!")
    assert list(answer.said((TextDelta("a"), Finish("stop")), ("a.",))) == ["!"]
    assert answer.over


@pytest.mark.parametrize(
    ("fault", "ending"),
    [
        (Cut(how="end"), Ending.END),
        (Cut(how="close"), Ending.CLOSE),
        (Cut(how="reset"), Ending.RESET),
        (Stall(), Ending.HANG),
        (InBandError(), Ending.END),
        (Malformed(), None),
    ],
    ids=repr,
)
def test_what_follows_is_said_once(fault: StreamFault, ending: Ending | None) -> None:
    assert ending_of(fault) is ending


@pytest.mark.parametrize("fault", [Cut(9), Cut(9, how="end"), InBandError(9), Malformed(9)], ids=repr)
def test_a_fault_that_waits_for_more_tokens_than_there_are_strikes_everywhere(fault: StreamFault) -> None:
    with (
        LoopbackLLM(default=Reply("a b c", fault=fault)) as sick,
        LoopbackLLM(default=Reply("a b c")) as well,
    ):
        behind: list[tuple[HttpProvider | Provider | Function, bool]] = [
            (OpenAICompatible("m", id="p", base_url=sick.url), False),
            (ScriptedProvider(Reply("a b c", fault=fault), id="p"), False),
            (OpenAICompatible("m", id="p", base_url=well.url), True),
            (Function(lambda request: iter(WORDS), id="p"), True),
        ]
        for provider, injected in behind:
            with (
                ResilientClient([provider], retry={"max_attempts": 1}) as client,
                inject(client, {"p": fault} if injected else {}),
                pytest.raises(CallFailed),
                client.stream("hi") as stream,
            ):
                list(stream)


def test_the_bytes_of_a_malformed_answer_are_sent_through_a_transport_too() -> None:
    with LoopbackLLM(default="a b c") as server:
        http = httpx.Client(transport=FaultyTransport(Malformed(data=b"{oops")))
        with http:
            assert http.post(server.url + "/chat/completions", json={}).content == b"{oops"
