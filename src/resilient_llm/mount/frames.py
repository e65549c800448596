"""Stream events as bytes of the SDK's wire."""

from __future__ import annotations

import json
import re
from dataclasses import replace

from resilient_llm.model import (
    Extra,
    Finish,
    StreamEnd,
    StreamEvent,
    StreamStart,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from resilient_llm.mount.asked import Asked
from resilient_llm.wire import Codec
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.openai_chat import wants_usage

_DATA, _FIELD = b"data: ", b"data:"
_FRAME_END = b"\n\n"
_COUNTED = b'"usage"'
"""What is in every frame with token counts."""
_CALLING = b'"tool_calls"'
"""What is in every frame with a tool call, or a piece of one."""
_COUNTS = re.compile(rb'"usage"\s*:\s*\{')


class Frames:
    """One stream.  ``now``: wall-clock time, for wires that give one."""

    def __init__(self, asked: Asked, now: float) -> None:
        self.codec: Codec = asked.codec
        self.complete: bool = False
        """The end of the answer was written."""
        self._encoder = asked.codec.stream_encoder(None if asked.mistral else asked.request)
        self._now = int(now)
        uncounted = asked.codec.name == "openai_chat" and not (asked.mistral or wants_usage(asked.request))
        self.mark: bytes | None = _COUNTED if uncounted else None
        """What frames have in them that came on the caller's own wire and cannot always go on as they are; ``None``:
        all go on so."""

    def forwarded(self, data: bytes) -> bytes:
        """Frames that came on the caller's own wire and have the mark in them, as they go on: without token counts,
        which are always asked for, where the caller did not."""
        if _COUNTS.search(data):
            frames = [frame for frame in data.split(_FRAME_END) if frame and not _only_counts(frame)]
            return b"".join(frame + _FRAME_END for frame in frames)
        return data

    def of(self, event: StreamEvent) -> bytes:
        """The frames this event completes; may be empty."""
        kind = type(event)
        if kind is not TextDelta:  # nearly every event is one
            if isinstance(event, StreamStart) and event.created is None:
                event.created = self._now
            self.complete = kind is StreamEnd
        return self._encoder.feed(event)


class MistralFrames(Frames):
    """One stream as Mistral sends it: a tool call comes whole, the token counts come with the finish, and every piece
    has a text, which programs add up without asking whether there is one."""

    def __init__(self, asked: Asked, now: float) -> None:
        super().__init__(asked, now)
        self._calls: dict[tuple[int, int], tuple[ToolCallStart, str]] = {}
        self._finish = b""
        self.mark: bytes | None = _CALLING

    def forwarded(self, data: bytes) -> bytes:
        """Mistral's own frames.  Servers that only speak its wire send a call piece by piece, as OpenAI does."""
        frames = [frame for frame in data.split(_FRAME_END) if frame]
        chunks = {at: _chunk(frame) for at, frame in enumerate(frames) if _CALLING in frame}
        if all(_name_of(call) for chunk in chunks.values() for call in _calls_in(chunk)):
            return data
        _join_calls([call for chunk in chunks.values() for call in _calls_in(chunk)])
        kept = [_with_named_calls(chunks[at]) if at in chunks else frame for at, frame in enumerate(frames)]
        return b"".join(frame + _FRAME_END for frame in kept if frame)

    def of(self, event: StreamEvent) -> bytes:
        if isinstance(event, ToolCallStart):
            self._calls[event.choice, event.block] = event, ""
            return b""
        if isinstance(event, ToolCallDelta):
            call, arguments = self._calls[event.choice, event.block]
            self._calls[event.choice, event.block] = call, arguments + event.arguments
            return b""
        calls = b"".join(_with_text(super(MistralFrames, self).of(_whole(*held))) for held in self._calls.values())
        self._calls.clear()
        data = super().of(event)
        if isinstance(event, Finish):
            self._finish += _with_text(data)
            data = b""
        elif self.complete:
            data = _with_counts(self._finish, data)
        return calls + data


def frames_for(asked: Asked, now: float) -> Frames:
    """What writes the stream of this call."""
    return (MistralFrames if asked.mistral else Frames)(asked, now)


def _only_counts(frame: bytes) -> bool:
    """Whether a frame has token counts in it and no choice."""
    chunk = _chunk(frame) if _COUNTS.search(frame) else {}
    return bool(chunk.get("usage")) and not chunk.get("choices")


def _chunk(frame: bytes) -> f.Fields:
    """The object in a frame; empty if there is none."""
    data = b"".join(line.removeprefix(_FIELD) for line in frame.splitlines() if line.startswith(_FIELD))
    try:
        return f.as_object(json.loads(data))
    except ValueError:
        return {}


def _deltas(chunk: f.Fields) -> list[f.Fields]:
    return [f.as_object(choice.get("delta")) for choice in f.as_objects(chunk.get("choices"))]


def _calls_in(chunk: f.Fields) -> list[f.Fields]:
    return [call for delta in _deltas(chunk) for call in f.as_objects(delta.get("tool_calls"))]


def _name_of(call: f.Fields) -> str:
    return f.as_text(f.as_object(call.get("function")).get("name"))


def _join_calls(calls: list[f.Fields]) -> None:
    """Add the arguments of pieces without a name to the calls they belong to."""
    begun: dict[object, f.Fields] = {}
    for call in calls:
        function = f.as_object(call.get("function"))
        if _name_of(call):
            begun[call.get("index")] = function
        elif (whole := begun.get(call.get("index"))) is not None:
            whole["arguments"] = f.as_text(whole.get("arguments")) + f.as_text(function.get("arguments"))


def _with_named_calls(chunk: f.Fields) -> bytes:
    """The frame of a chunk without pieces of calls; empty if that was all it had to say."""
    for delta in _deltas(chunk):
        named = [call for call in f.as_objects(delta.pop("tool_calls", None)) if _name_of(call)]
        f.put(delta, tool_calls=named or None)
    finished = any(choice.get("finish_reason") for choice in f.as_objects(chunk.get("choices")))
    says = finished or chunk.get("usage") or any(value for delta in _deltas(chunk) for value in delta.values())
    return _DATA + f.dump(chunk) if says else b""


def _whole(call: ToolCallStart, arguments: str) -> ToolCallStart:
    """A tool call with all its arguments."""
    fields = dict(call.extra.fields) if call.extra is not None and call.extra.wire == "openai_chat" else {}
    fields["function"] = {"name": call.name, "arguments": arguments}
    return replace(call, extra=Extra("openai_chat", fields))


def _with_text(frame: bytes) -> bytes:
    """A frame whose piece has a text, if it says nothing else or calls a tool."""
    frame = frame.replace(b'"delta":{}', b'"delta":{"content":""}')
    return frame.replace(b'"delta":{"tool_calls"', b'"delta":{"content":"","tool_calls"')


def _with_counts(finish: bytes, end: bytes) -> bytes:
    """The end of a stream, its token counts moved from a chunk without choices into the one that finishes."""
    frames = [frame for frame in (finish + end).split(_FRAME_END) if frame]
    lone = next((frame for frame in frames if b'"choices":[]' in frame), None)
    if lone is None or frames.index(lone) == 0:
        return finish + end
    last = frames.index(lone) - 1
    usage = json.loads(lone.removeprefix(_DATA))["usage"]
    frames[last] = _DATA + json.dumps({**json.loads(frames[last].removeprefix(_DATA)), "usage": usage}).encode()
    return b"".join(frame + _FRAME_END for frame in frames if frame is not lone)
