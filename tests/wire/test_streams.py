"""What all stream decoders and encoders have in common."""

from __future__ import annotations

from typing import Any

import pytest

from resilient_llm.model import (
    ChatResponse,
    Continued,
    Finish,
    KeepAlive,
    Restarted,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    ToolCall,
)
from resilient_llm.wire import WIRES, codec
from resilient_llm.wire.kit.accumulate import replay
from resilient_llm.wire.kit.streams import JsonEvents, StreamDecoder, StreamEncoder, WholeCalls
from tests.wire.roundtrip import events_of

# --- streams of JSON objects ---------------------------------------------------------------------------------


class Echo(JsonEvents):
    """A wire that says ``{"say": ...}`` and ends with ``bye``."""

    def on_object(self, event: str, data: dict[str, object]) -> None:
        self._out.append(TextDelta(f"{event}:{data.get('say')}"))

    def on_text(self, data: str) -> bool:
        if data == "bye":
            self.end(StreamEnd())
        return data in {"bye", ""}

    def at_end(self) -> str | None:
        return "no bye"

    def whole_answer(self, body: dict[str, object]) -> ChatResponse:
        return ChatResponse((Text("all"),)) if "whole" in body else super().whole_answer(body)


def run(*chunks: bytes, **settings: Any) -> list[StreamEvent]:
    stream = Echo(**settings)
    return [event for chunk in chunks for event in stream.feed(chunk)] + stream.close() + stream.close()


def test_objects_become_events_until_the_end() -> None:
    assert run(
        b'data: {"say": 1}\n\ndata:\n\ndata:  {"say": 2} \n\n', b"data: bye\n\ndata: {}\n\n", b"data: {}\n\n"
    ) == [
        TextDelta("message:1"),
        TextDelta("message:2"),
        StreamEnd(),
    ]


def test_an_end_without_evidence_is_a_break() -> None:
    assert run(b'event: x\ndata: {"say": 1}\n\n') == [TextDelta("x:1"), StreamBroken("no bye")]
    assert run() == [StreamBroken("no bye")]


@pytest.mark.parametrize("data", [b'{"say": ', b"[1]", b"nonsense", b"[" * 100_000])
def test_an_undecodable_frame_breaks_the_stream(data: bytes) -> None:
    *_, last = run(b"data: " + data + b"\n\ndata: bye\n\n")
    assert isinstance(last, StreamBroken)
    assert last.malformed


def test_an_endless_event_breaks_the_stream() -> None:
    assert run(b"data: " + b"x" * 30, max_frame=20) == [
        StreamBroken("an event of the stream is longer than 20 bytes", malformed=True)
    ]


def test_an_error_object_in_place_of_a_stream_is_an_error() -> None:
    assert run(b' \n{"error":', b' {"code": 1}}') == [StreamError({"error": {"code": 1}})]


def test_a_whole_answer_in_place_of_a_stream_is_taken() -> None:
    assert run(b"\r\n", b'{"whole": 1}') == replay(ChatResponse((Text("all"),)))


@pytest.mark.parametrize("body", [b"<html>busy</html>", b'{"error": ', b"[1]"])
def test_a_page_in_place_of_a_stream_is_a_break(body: bytes) -> None:
    assert run(body) == [StreamBroken(f"no stream: {body.decode()!r}", malformed=True)]


def test_an_endless_page_is_not_kept() -> None:
    assert run(b"<html>" + b"x" * 10, b"y" * 10, b"z", max_frame=20) == [
        StreamBroken("no stream, and longer than 20 bytes", malformed=True)
    ]


def test_a_wire_must_say_what_its_events_mean() -> None:
    with pytest.raises(NotImplementedError):
        JsonEvents().feed(b"data: {}\n\n")
    with pytest.raises(NotImplementedError):
        JsonEvents().close()
    assert JsonEvents().feed(b"data: [DONE]\n\n") == []
    event = StreamStart()
    for method in ("on_text", "on_thought", "on_call", "on_arguments", "on_end", "failure"):
        with pytest.raises(NotImplementedError):
            getattr(StreamEncoder(), method)(event)
    with pytest.raises(NotImplementedError):
        StreamDecoder().feed(b"x")
    with pytest.raises(NotImplementedError):
        StreamEncoder().on_whole(Text(""), 0, 0)
    with pytest.raises(NotImplementedError):
        WholeCalls().call(ToolCall("t", "f", "{}"), 0)


def test_a_last_event_without_its_blank_line_may_be_wrong_too() -> None:
    decoder = codec("anthropic_messages").stream_decoder()
    assert decoder.feed(b'data: {"type": "message_start", "message": 5}') == []
    assert decoder.close() == [StreamBroken("message is not an object", malformed=True)]


@pytest.mark.parametrize("wire", sorted(WIRES))
@pytest.mark.parametrize(
    "event",
    [KeepAlive(), Restarted("other", "it broke"), Continued("other", "it broke")],
    ids=["alive", "restart", "continued"],
)
def test_what_says_nothing_of_the_answer_leaves_it_whole(wire: str, event: StreamEvent) -> None:
    encoder = codec(wire).stream_encoder()
    told = (StreamStart("id", "m"), event, TextDelta("Once"), event, TextDelta(" more"), Finish("stop"), StreamEnd())
    *_, last = events = events_of(codec(wire), [b"".join(map(encoder.feed, told))])
    assert last == StreamEnd()
    assert [each.text for each in events if isinstance(each, TextDelta)] == ["Once", " more"]
