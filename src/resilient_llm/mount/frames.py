"""Stream events as bytes of the SDK's wire."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import cast

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
from resilient_llm.wire.openai_chat import wants_usage

_DATA, _FIELD = b"data: ", b"data:"
_FRAME_END = b"\n\n"
COUNTED = b'"usage"'
"""What is in every frame with token counts."""
_COUNTS = re.compile(rb'"usage"\s*:\s*\{')


class Frames:
    """One stream.  ``now``: wall-clock time, for wires that give one."""

    def __init__(self, asked: Asked, now: float) -> None:
        self.codec: Codec = asked.codec
        self.complete: bool = False
        """The end of the answer was written."""
        self._encoder = asked.codec.stream_encoder(None if asked.mistral else asked.request)
        self._now = int(now)
        self.uncounted: bool = asked.codec.name == "openai_chat" and not (asked.mistral or wants_usage(asked.request))
        """Whether token counts, which are always asked for, are to be kept from the caller."""

    def without_counts(self, data: bytes) -> bytes:
        """Frames that came on the caller's own wire, without token counts that are to be kept from the caller."""
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
    if not _COUNTS.search(frame):
        return False
    data = b"".join(line.removeprefix(_FIELD) for line in frame.splitlines() if line.startswith(_FIELD))
    try:
        chunk: object = json.loads(data)
    except ValueError:
        return False
    fields = cast("dict[str, object]", chunk) if isinstance(chunk, dict) else {}
    return bool(fields.get("usage")) and not fields.get("choices")


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
