"""Faults on the way to providers reached over HTTP: an ``httpx`` transport, without a proxy and without a socket of its
own.

What a mishap replaces is written by the same code that writes :class:`~resilient_llm.testing.LoopbackLLM`'s answers,
and parsed as HTTP, so that everything above meets the bytes, headers and errors of a real vendor's bad day.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias, cast, final

import httpx
from typing_extensions import override

from resilient_llm.errors import ConfigurationError
from resilient_llm.testing.answers import Ask
from resilient_llm.testing.faults import Faults, FaultsLike, Latency, Mishap, Schedule, SlowTokens, as_faults
from resilient_llm.testing.http_answer import AlteredBody, Head, altered, played
from resilient_llm.testing.http_body import AsyncBody, Body, Waits
from resilient_llm.testing.received import NOT_CHAT, ReceivedRequest, ask_of
from resilient_llm.testing.script import StreamFault

__all__ = ["FaultyTransport"]

Select: TypeAlias = Callable[[httpx.Request], Faults | None]


@final
class FaultyTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport for ``httpx.Client`` and ``httpx.AsyncClient`` that does to requests what a schedule says.

    ``faults``: a :class:`~resilient_llm.testing.Faults` (or its lines, or one mishap) for all requests, or a mapping of
    URL prefixes to them; the longest prefix that fits counts, other requests pass untouched.  ``inner`` is the
    transport for what passes (``None``: httpx's own)::

        http = httpx.Client(transport=FaultyTransport({"https://api.openai.com": Status(503)}))
        client = ResilientClient(providers, http_client=http)
    """

    def __init__(
        self,
        faults: Faults | Mishap | Schedule | Mapping[str, FaultsLike] | Select,
        inner: httpx.BaseTransport | httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._select = _selector(faults)
        self._inner = inner

    @override
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, or do what the schedule says."""
        faults = self._select(request)
        mishap = None if faults is None else faults.next()
        if faults is None or mishap is None:
            return self._sync().handle_request(request)
        waits = Waits(request, faults.withdrawn)
        if isinstance(mishap, Latency):
            waits.sleep(mishap.seconds)
            return self._sync().handle_request(request)
        ask = _ask(request, request.read())
        if not isinstance(mishap, StreamFault | SlowTokens):
            steps = played(mishap, ask)
            return _response(waits.until_head(steps), Body(waits, steps), waits)
        request.headers["accept-encoding"] = "identity"  # frames are counted on the way
        response = self._sync().handle_request(request)
        if not _alterable(response.status_code, ask):
            return response
        assert isinstance(response.stream, httpx.SyncByteStream)
        steps = altered(iter(response.stream), AlteredBody(mishap, ask))
        return _changed(response, Body(waits, steps, response), waits)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send, or do what the schedule says."""
        faults = self._select(request)
        mishap = None if faults is None else faults.next()
        if faults is None or mishap is None:
            return await self._async().handle_async_request(request)
        waits = Waits(request, faults.withdrawn)
        if isinstance(mishap, Latency):
            await waits.sleep_async(mishap.seconds)
            return await self._async().handle_async_request(request)
        ask = _ask(request, await request.aread())
        if not isinstance(mishap, StreamFault | SlowTokens):
            steps = played(mishap, ask)
            return _response(await waits.until_head_async(steps), AsyncBody(waits, steps), None)
        request.headers["accept-encoding"] = "identity"
        response = await self._async().handle_async_request(request)
        if not _alterable(response.status_code, ask):
            return response
        assert isinstance(response.stream, httpx.AsyncByteStream)
        body = AsyncBody(waits, beneath=response.stream, change=AlteredBody(mishap, ask))
        return _changed(response, body, None)

    def _sync(self) -> httpx.BaseTransport:
        if self._inner is None:
            self._inner = httpx.HTTPTransport()
        assert isinstance(self._inner, httpx.BaseTransport)
        return self._inner

    def _async(self) -> httpx.AsyncBaseTransport:
        if self._inner is None:
            self._inner = httpx.AsyncHTTPTransport()
        assert isinstance(self._inner, httpx.AsyncBaseTransport)
        return self._inner

    @override
    def close(self) -> None:
        """Close the transport inside."""
        if isinstance(self._inner, httpx.BaseTransport):
            self._inner.close()

    @override
    async def aclose(self) -> None:
        """Close the transport inside."""
        if isinstance(self._inner, httpx.AsyncBaseTransport):
            await self._inner.aclose()


def _selector(faults: object) -> Select:
    if isinstance(faults, Mapping):
        prefixes = {str(prefix): as_faults(value) for prefix, value in faults.items()}  # pyright: ignore
        for prefix in prefixes:
            if "://" not in prefix:
                raise ConfigurationError(
                    f"faults are given per URL prefix such as https://api.example.com, not {prefix!r}"
                )

        def by_prefix(request: httpx.Request) -> Faults | None:
            url = str(request.url)
            fitting = [prefix for prefix in prefixes if url.startswith(prefix)]
            return prefixes[max(fitting, key=len)] if fitting else None

        return by_prefix
    if callable(faults):
        return cast(Select, faults)
    everybody = as_faults(faults)  # type: ignore[arg-type]
    return lambda request: everybody


def _ask(request: httpx.Request, body: bytes) -> Ask:
    path = request.url.raw_path.decode("ascii", "replace")
    return ask_of(ReceivedRequest(request.method, path, b"", body, 0))


def _alterable(status: int, ask: Ask) -> bool:
    return 200 <= status < 300 and ask.wire not in NOT_CHAT


def _response(head: Head, stream: httpx.SyncByteStream | httpx.AsyncByteStream, waits: Waits | None) -> httpx.Response:
    extensions = {} if waits is None else waits.extensions()
    return httpx.Response(head.status, headers=head.headers, stream=stream, extensions=extensions)


def _changed(
    response: httpx.Response, stream: httpx.SyncByteStream | httpx.AsyncByteStream, waits: Waits | None
) -> httpx.Response:
    """The same head around another body."""
    headers = [(name, value) for name, value in response.headers.raw if name.lower() != b"content-length"]
    return _response(Head(response.status_code, headers), stream, waits)
