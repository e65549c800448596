"""Every recorded stream, cut at every position and gone on with in every way: no text is repeated, and none is lost.

``python -m pytest -m slow tests/drive/test_every_cut.py`` takes every recording; without ``-m slow`` one in twelve.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from resilient_llm.capability import Broken, Resumption, why_not
from resilient_llm.capability.splice import AfterInstruction, AfterPrefill, Continued, Join, SoFar, Splice, Verified
from resilient_llm.drive.reading import Reading
from resilient_llm.errors import FaultKind
from resilient_llm.model import (
    BlockEnd,
    ChatRequest,
    ChatResponse,
    Finish,
    Message,
    PartAdded,
    StreamEnd,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from resilient_llm.policy import Stream, Timeouts
from resilient_llm.wire import codec
from resilient_llm.wire.kit.accumulate import Accumulator
from tests.material import corpus
from tests.travel.test_streams import FILES, calls_of, gathered
from tests.wire.roundtrip import stream_bytes

REQUEST = ChatRequest((Message("user", (Text("hi"),)),), temperature=0.0)
SPENT = Usage(10, 5)
SIZES = (1, 7, 1000)
"""Letters of the pieces in which a text arrives."""


@dataclass(frozen=True)
class Provider:
    id: str = "second"
    vendor: str = "openai"
    model: str = "model"


def recordings(wire: str, every: int) -> Iterator[bytes]:
    for number, record in enumerate(corpus(FILES[wire])):
        if record["outcome"] == "complete" and number % every == 0:
            yield stream_bytes(record)


def text_of(events: Iterable[StreamEvent]) -> str:
    """What a reader has that joins text deltas, and wholes as well."""
    found = ""
    for event in events:
        if isinstance(event, TextDelta) and event.choice == 0:
            found += event.text
        elif isinstance(event, PartAdded) and isinstance(event.part, Text) and event.choice == 0:
            found += event.part.text
    return found


def reading(wire: str, splice: Splice | None = None) -> Reading:
    return Reading(codec(wire).stream_decoder(), None, Stream(), Timeouts(), 0.0, splice=splice)


def written(text: str, size: int) -> list[StreamEvent]:
    """A stream of this text."""
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    deltas: list[StreamEvent] = [TextDelta(piece) for piece in pieces]
    return [StreamStart("other", "model"), *deltas, BlockEnd(), Finish("stop"), StreamEnd()]


def gone_on(so_far: SoFar, join: Join | None, events: list[StreamEvent]) -> tuple[str, ChatResponse]:
    """The text that is handed over after the break, and the answer in the end.  ``join`` ``None``: it is repeated."""
    made = (SPENT, "second", "it broke", so_far)
    splice = Continued(*made, join) if join is not None else Verified(*made)
    again = Reading(None, None, Stream(), Timeouts(), 0.0, splice=splice)
    again.given(events, 1.0)
    assert again.fault is None
    assert again.ended
    return text_of(again.ready), again.response()


def check(so_far: SoFar, handed: str, whole: str, recorded: list[StreamEvent]) -> int:
    """All ways to go on with what came until here.  Returns how many perfect continuations an instruction damages."""
    response = so_far.response()
    assert response.text == handed
    assert whole.startswith(handed)
    broken = Broken(Provider(), FaultKind.CONNECTION, "it broke", so_far, SPENT)
    assert why_not("restart", REQUEST, broken) is None
    plain = all(isinstance(part, Text) for part in response.parts)
    assert (why_not("continue", REQUEST, broken) is None) == plain
    assert (why_not("verify", REQUEST, broken) is None) == plain
    if not plain:
        return 0
    text, answer = gone_on(so_far, None, recorded)
    assert handed + text == whole
    assert calls_of(answer) == calls_of(gathered(recorded))
    given = handed.rstrip()
    size = SIZES[len(handed) % len(SIZES)]
    # A model may leave out the white space that it was not given, unless what it writes begins with some.
    for left_out in {given} if whole[len(handed) :][:1].isspace() else {given, handed}:
        for echoes in (False, True):
            said = (given if echoes else "") + whole[len(left_out) :]
            text, answer = gone_on(so_far, AfterPrefill(handed, echoes=echoes), written(said, size))
            assert handed + text == answer.text == whole
    for repeated in (40, 200):
        again = handed[-repeated:]
        cut = len(handed) - len(again)
        starts_word = cut == 0 or not (handed[cut - 1].isalnum() and handed[cut].isalnum())
        if len(again) >= 12 and starts_word and not handed.endswith(again[:12] * 2):
            text, _ = gone_on(so_far, AfterInstruction(handed), written(again + whole[len(handed) :], size))
            assert (handed + text).startswith(handed)
            if whole.count(again) == 1:
                assert handed + text == whole
    text, _ = gone_on(so_far, AfterInstruction(handed), written(whole[len(handed) :], size))
    return handed + text != whole


def every_cut(wire: str, every: int) -> tuple[int, int]:
    """How many cuts there were, and how many of them an instruction damaged."""
    cuts = damaged = 0
    for data in recordings(wire, every):
        decoder = codec(wire).stream_decoder()
        recorded = [*decoder.feed(data), *decoder.close()]
        whole = gathered(recorded).text
        first = reading(wire)
        handed, seen = "", 0
        for at in range(len(data)):
            first.feed(data[at : at + 1], 0.0)
            cuts += 1
            if not first.ready or first.ended:
                continue  # as it was one byte before, or whole
            handed += text_of(first.ready)
            seen += len(first.ready)
            first.ready.clear()
            damaged += check(first.so_far(), handed, whole, recorded)
        assert seen or first.ended
    return cuts, damaged


@pytest.mark.parametrize("wire", FILES)
def test_no_text_is_repeated_or_lost(wire: str) -> None:
    cuts, damaged = every_cut(wire, 12)
    assert damaged <= cuts / 1000


@pytest.mark.slow
@pytest.mark.parametrize("wire", FILES)
def test_no_text_is_repeated_or_lost_in_any_recording(wire: str) -> None:
    cuts, damaged = every_cut(wire, 1)
    print(f"{wire}: {cuts:,} cuts, {damaged} continuations on instruction damaged")
    assert damaged <= cuts / 1000


def test_a_restart_is_the_whole_answer_of_the_second_attempt() -> None:
    broken = Broken(Provider(), FaultKind.CONNECTION, "it broke", SoFar(Accumulator()), SPENT)
    splice = Resumption("restart", REQUEST, broken).splice(Provider(), None)
    again = Reading(None, None, Stream(), Timeouts(), 0.0, splice=splice)
    again.given([*written("whole", 2)[:-1], StreamEnd()], 1.0)
    assert [type(event).__name__ for event in again.ready][:2] == ["Restarted", "StreamStart"]
    assert again.response().text == "whole"


def test_half_a_call_is_never_gone_on_with() -> None:
    first = reading("openai_chat")
    call = b'{"index":0,"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":"{"}}]}}'
    first.feed(b'data: {"choices":[{"index":0,"delta":{"content":"Let me see."}}]}\n\n', 0.0)
    first.feed(b'data: {"choices":[%b]}\n\n' % call, 0.0)
    so_far = first.so_far()
    assert [type(part) for part in so_far.response().parts] == [Text]  # it was held, so nobody has seen it
    assert not any(isinstance(event, ToolCallDelta) for event in first.ready)
