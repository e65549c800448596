"""Streamed answers as bytes of the SDK's wire.  Classes, not generators: what is left early leaves nothing
suspended."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from resilient_llm.errors import CallFailed
from resilient_llm.model import Finish, StreamEnd, StreamEvent, StreamStart, UsageUpdate
from resilient_llm.mount.answers import broken
from resilient_llm.mount.asked import Asked
from resilient_llm.wire import Codec

if TYPE_CHECKING:
    from resilient_llm.client import AsyncChatStream, ChatStream


_DATA = b"data: "
_FRAME_END = b"\n\n"


class Frames:
    """Events of one stream as bytes of the SDK's wire.  ``now``: wall-clock time, for wires that give one."""

    def __init__(self, asked: Asked, now: float) -> None:
        self.codec: Codec = asked.codec
        self.complete: bool = False
        self._encoder = asked.codec.stream_encoder()
        self._counts = asked.wants_usage
        self._now = int(now)
        self._together = asked.counts_with_finish
        self._finish = b""

    def of(self, event: StreamEvent) -> bytes:
        """The frames this event completes; may be empty."""
        kind = type(event)
        if kind is UsageUpdate and not self._counts:
            return b""
        if isinstance(event, StreamStart) and event.created is None:
            event.created = self._now
        self.complete = kind is StreamEnd
        data = self._encoder.feed(event)
        if not self._together:
            return data
        if kind is Finish:  # held until the token counts are there
            self._finish += data
            return b""
        return _with_counts(self._finish, data) if self.complete else data


class StreamedBody:
    """The frames of one stream.  One that breaks ends with an error frame, which SDKs raise as their own exception."""

    def __init__(self, stream: ChatStream, asked: Asked, now: float) -> None:
        self._stream = stream
        self._frames = Frames(asked, now)
        self._over = False

    def __next__(self) -> bytes:
        while not self._over:
            try:
                event = next(self._stream)
            except StopIteration:
                break
            except CallFailed as failure:
                self._over = True
                return broken(self._frames.codec, failure)
            data = self._frames.of(event)
            if data:
                return data
        raise StopIteration

    def close(self) -> None:
        """End the generation upstream.  After the end of the answer its connection is kept for later."""
        if self._frames.complete and not self._over:
            with suppress(StopIteration, CallFailed):
                next(self._stream)
        self._over = True
        self._stream.close()


class AsyncStreamedBody:
    """The same for async clients."""

    def __init__(self, stream: AsyncChatStream, asked: Asked, now: float) -> None:
        self._stream = stream
        self._frames = Frames(asked, now)
        self._over = False

    async def __anext__(self) -> bytes:
        while not self._over:
            try:
                event = await self._stream.__anext__()
            except StopAsyncIteration:
                break
            except CallFailed as failure:
                self._over = True
                return broken(self._frames.codec, failure)
            data = self._frames.of(event)
            if data:
                return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the generation upstream.  After the end of the answer its connection is kept for later."""
        if self._frames.complete and not self._over:
            with suppress(StopAsyncIteration, CallFailed):
                await self._stream.__anext__()
        self._over = True
        await self._stream.aclose()


def _with_counts(finish: bytes, end: bytes) -> bytes:
    """The end of a stream on Mistral's wire: the token counts are in the chunk that finishes, not in one of their own
    without choices."""
    frames = [frame for frame in (finish + end).split(_FRAME_END) if frame]
    lone = next((frame for frame in frames if b'"choices":[]' in frame), None)
    if lone is None or frames.index(lone) == 0:
        return finish + end
    before = frames.index(lone) - 1
    usage = json.loads(lone.removeprefix(_DATA))["usage"]
    frames[before] = _DATA + json.dumps({**json.loads(frames[before].removeprefix(_DATA)), "usage": usage}).encode()
    return b"".join(frame + _FRAME_END for frame in frames if frame is not lone)
