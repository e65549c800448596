"""Streamed answers as bytes of the SDK's wire.  Classes, not generators: what is left early leaves nothing
suspended."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Self

from resilient_llm.errors import CallFailed
from resilient_llm.mount.answers import broken
from resilient_llm.mount.asked import Asked
from resilient_llm.mount.frames import frames_for
from resilient_llm.mount.providers import wire_of_provider

if TYPE_CHECKING:
    from resilient_llm.client import AsyncChatStream, AsyncResilientClient, ChatStream, ResilientClient


class StreamedBody:
    """The frames of one stream.  One that breaks ends with an error frame, which SDKs raise as their own exception."""

    def __init__(self, stream: ChatStream, asked: Asked, client: ResilientClient | AsyncResilientClient) -> None:
        self._stream = stream
        self._client = client
        self._frames = frames_for(asked, client.pool.wall())
        self._mark: bytes | None = self._frames.mark
        self._over = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        while not self._over:
            try:
                opened = self._stream.forwards
                if opened is not None:  # its frames are handed over as they come
                    if opened.hungry():
                        opened.step()
                    data = opened.forwarded()
                    if data and self._mark is not None and self._mark in data:
                        data = self._frames.forwarded(data)
                    if data:
                        return data
                    if opened.hungry():
                        continue
                event = next(self._stream)
            except StopIteration:
                break
            except CallFailed as failure:
                self._over = True
                return broken(self._frames.codec, failure, wire_of_provider(self._client, failure.provider))
            data = self._frames.of(event)
            for further in self._stream.at_hand():
                data += self._frames.of(further)
            if data:
                return data
        raise StopIteration

    def close(self) -> None:
        """End the generation upstream.  After the end of the answer its connection is kept for later."""
        if self._stream.ended and not self._over:
            with suppress(StopIteration, CallFailed):
                next(self._stream)
        self._over = True
        self._stream.close()


class AsyncStreamedBody:
    """The same for async clients."""

    def __init__(self, stream: AsyncChatStream, asked: Asked, client: ResilientClient | AsyncResilientClient) -> None:
        self._stream = stream
        self._client = client
        self._frames = frames_for(asked, client.pool.wall())
        self._mark: bytes | None = self._frames.mark
        self._over = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        while not self._over:
            try:
                opened = self._stream.forwards
                if opened is not None:  # its frames are handed over as they come
                    if opened.hungry():
                        await opened.step()
                    data = opened.forwarded()
                    if data and self._mark is not None and self._mark in data:
                        data = self._frames.forwarded(data)
                    if data:
                        return data
                    if opened.hungry():
                        continue
                event = await self._stream.__anext__()
            except StopAsyncIteration:
                break
            except CallFailed as failure:
                self._over = True
                return broken(self._frames.codec, failure, wire_of_provider(self._client, failure.provider))
            data = self._frames.of(event)
            for further in self._stream.at_hand():
                data += self._frames.of(further)
            if data:
                return data
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the generation upstream.  After the end of the answer its connection is kept for later."""
        if self._stream.ended and not self._over:
            with suppress(StopAsyncIteration, CallFailed):
                await self._stream.__anext__()
        self._over = True
        await self._stream.aclose()
