"""The transport: an HTTP client's way to the network that is a call of a :class:`ResilientClient` instead.

One class serves ``httpx`` and ``httpx2``, sync and async.  What an HTTP request means, and what an answer looks like
on its wire, is decided in functions that both ways of calling share; only the waiting is written twice.
"""

from __future__ import annotations

from threading import Lock
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from anyio import to_thread

from resilient_llm.client import AsyncChatStream, AsyncResilientClient, ChatStream, ResilientClient
from resilient_llm.errors import CallFailed, ConfigurationError, FaultKind, InvalidRequest
from resilient_llm.model import ChatResponse, EmbedResponse
from resilient_llm.mount import answers
from resilient_llm.mount.asked import Asked, asked, spoken_by
from resilient_llm.mount.bodies import AsyncStreamedBody, StreamedBody
from resilient_llm.mount.embeddings import AskedToEmbed, asked_to_embed, asks_to_embed
from resilient_llm.mount.families import Family, family_of
from resilient_llm.mount.passing import addressed, nobody, provider_for, returned
from resilient_llm.mount.paths import Sdk, sdk_of, wire_of
from resilient_llm.mount.providers import provider_named, wire_of_provider
from resilient_llm.wire import Codec

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Base(httpx.BaseTransport, httpx.AsyncBaseTransport, httpx2.BaseTransport, httpx2.AsyncBaseTransport):  # type: ignore[misc]
        """What type checkers see: one transport for both libraries."""
else:
    _Base = object


class Transport(_Base):
    """Answers the requests of an SDK's HTTP client with calls of a client.  Made by :func:`transport`."""

    def __init__(self, client: ResilientClient | AsyncResilientClient, sdk: Sdk | None = None) -> None:
        if not isinstance(client, ResilientClient | AsyncResilientClient):
            raise ConfigurationError(f"client must be a ResilientClient, not a {type(client).__name__}")
        self._client = client
        self._sdk = sdk
        self._lock = Lock()  # threads that ask first at the same time share what is opened
        self._twin: ResilientClient | AsyncResilientClient | None = None
        self._passing: dict[Family, Any] = {}
        self._async_passing: dict[Family, Any] = {}

    # --- what the HTTP client calls ---

    def handle_request(self, request: Any) -> Any:
        """Answer one request.  Raises what the HTTP library raises for requests that are passed on and, under
        :func:`mount`, for calls that nobody answers in time or that reach nobody."""
        path = request.url.path
        wire = wire_of(request.method, path)
        sdk = self._sdk or sdk_of(request.headers, path)
        if wire is None:
            if asks_to_embed(request.method, path):
                embeds = asked_to_embed(self._client, request, request.read())
                if embeds is not None:
                    return self._embed(request, sdk, embeds)
            return self._pass_on(request, sdk)
        family, spoken, client = family_of(request), spoken_by(sdk, wire), self._sync_client()
        try:
            call = asked(client, spoken, request, path, request.read())
            if call.request.stream:
                stream = client.stream(call.request, **call.options)
                stream.forward()
                stream.start()
                stream.extend(call.deadline)
                return family.streamed(_stream_headers(client, call, stream), StreamedBody(stream, call, client))
            return self._answer(family, call, client.chat(call.request, **call.options))
        except CallFailed as failure:
            return self._failed(request, spoken, failure)
        except InvalidRequest as error:
            return family.whole(*answers.refused(spoken, 400, FaultKind.BAD_REQUEST, str(error)))

    async def handle_async_request(self, request: Any) -> Any:
        """The same for async clients."""
        path = request.url.path
        wire = wire_of(request.method, path)
        sdk = self._sdk or sdk_of(request.headers, path)
        if wire is None:
            if asks_to_embed(request.method, path):
                embeds = asked_to_embed(self._client, request, await request.aread())
                if embeds is not None:
                    return await self._aembed(request, sdk, embeds)
            return await self._apass_on(request, sdk)
        family, spoken, client = family_of(request), spoken_by(sdk, wire), self._async_client()
        try:
            call = asked(client, spoken, request, path, await request.aread())
            if call.request.stream:
                stream = client.stream(call.request, **call.options)
                stream.forward()
                await stream.start()
                stream.extend(call.deadline)
                return family.async_streamed(
                    _stream_headers(client, call, stream), AsyncStreamedBody(stream, call, client)
                )
            return self._answer(family, call, await client.chat(call.request, **call.options))
        except CallFailed as failure:
            return self._failed(request, spoken, failure)
        except InvalidRequest as error:
            return family.whole(*answers.refused(spoken, 400, FaultKind.BAD_REQUEST, str(error)))

    # --- life: the client that was mounted is its owner's, and stays open ---

    def close(self) -> None:
        """Let go of what this transport opened itself.  The mounted client stays open, as others may use it."""
        with self._lock:
            passing, self._passing = self._passing, {}
        for http in passing.values():
            http.close()
        if isinstance(self._twin, ResilientClient):
            self._twin.close()
            self._twin = None

    async def aclose(self) -> None:
        """The same for async clients."""
        with self._lock:
            passing, self._async_passing = self._async_passing, {}
        for http in passing.values():
            await http.aclose()
        if isinstance(self._twin, AsyncResilientClient):
            await self._twin.aclose()
            self._twin = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        trace: TracebackType | None = None,
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<Transport to {self._client!r}>"

    # --- internals ---

    def _sync_client(self) -> ResilientClient:
        """The mounted client, or one that shares its providers and health."""
        if isinstance(self._client, ResilientClient):
            return self._client
        with self._lock:
            if not isinstance(self._twin, ResilientClient):
                self._twin = ResilientClient(pool=self._client.pool).with_options(**self._client.defaults)
            return self._twin

    def _async_client(self) -> AsyncResilientClient:
        """The same for async calls."""
        if isinstance(self._client, AsyncResilientClient):
            return self._client
        with self._lock:
            if not isinstance(self._twin, AsyncResilientClient):
                self._twin = AsyncResilientClient(pool=self._client.pool).with_options(**self._client.defaults)
            return self._twin

    def _answer(self, family: Family, call: Asked, response: ChatResponse) -> Any:
        wire = call.codec.name if response.body is not None else wire_of_provider(self._client, response.provider)
        found = answers.answered(call.codec, response) | answers.degraded(response.degradations + call.lost(wire))
        if response.created is None:
            response.created = int(self._client.pool.wall())
        body = answers.whole(call.codec, wire, response)
        return family.whole(200, found, body)

    def _failed(self, request: Any, spoken: Codec, failure: CallFailed) -> Any:
        """The answer for a call that nobody answered.  Under :func:`mount`, which has turned the SDK's retries off,
        what the SDK takes for a timeout, or for no connection, is raised instead, so that its own exception follows.
        Over a transport alone it would be retried."""
        family = family_of(request)
        if self._sdk is not None and answers.nobody_in_time(failure):
            raise family.late(request, str(failure)) from failure
        if self._sdk is not None and answers.nobody_reached(failure):
            raise family.unreached(request, str(failure)) from failure
        wire = wire_of_provider(self._client, failure.provider)
        return family.whole(*answers.failed(spoken, failure, wire))

    def _embed(self, request: Any, sdk: Sdk, asked: AskedToEmbed) -> Any:
        try:
            response = self._sync_client().embed(asked.request, **asked.options)
        except CallFailed as failure:
            return self._failed(request, spoken_by(sdk, sdk.wires[0]), failure)
        return self._vectors(request, sdk, asked, response)

    async def _aembed(self, request: Any, sdk: Sdk, asked: AskedToEmbed) -> Any:
        try:
            response = await self._async_client().embed(asked.request, **asked.options)
        except CallFailed as failure:
            return self._failed(request, spoken_by(sdk, sdk.wires[0]), failure)
        return self._vectors(request, sdk, asked, response)

    def _vectors(self, request: Any, sdk: Sdk, asked: AskedToEmbed, response: EmbedResponse) -> Any:
        there = provider_named(self._client, response.provider)
        own = there is not None and there.vendor in sdk.vendors and there.embed_wire == asked.codec.name
        return family_of(request).whole(200, *answers.embedded(asked.codec, response, asked.request, own=own))

    def _pass_on(self, request: Any, sdk: Sdk) -> Any:
        provider = provider_for(self._client.pool, sdk)
        if provider is None:
            return nobody(request, sdk)
        family = family_of(request)
        with self._lock:
            http = self._passing.get(family)
            if http is None:
                http = self._passing[family] = family.module.Client(timeout=None)
        there = addressed(request, sdk, provider, provider.credential.get())
        return returned(request, http.send(there, stream=True))

    async def _apass_on(self, request: Any, sdk: Sdk) -> Any:
        provider = provider_for(self._client.pool, sdk)
        if provider is None:
            return nobody(request, sdk)
        family = family_of(request)
        with self._lock:
            http = self._async_passing.get(family)
            if http is None:
                http = self._async_passing[family] = family.module.AsyncClient(timeout=None)
        there = addressed(request, sdk, provider, await provider.credential.aget(to_thread.run_sync))
        return returned(request, await http.send(there, stream=True))


def _stream_headers(
    client: ResilientClient | AsyncResilientClient, call: Asked, stream: ChatStream | AsyncChatStream
) -> dict[str, str]:
    """The headers of a stream that has begun."""
    begun = stream.response
    found = answers.streamed(call.codec, begun.provider, begun.model, len(stream.attempts) + 1)
    lost = begun.degradations + call.lost(wire_of_provider(client, begun.provider))
    return found | answers.degraded(lost)
