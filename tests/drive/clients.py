"""One scenario, three clients: the sync one, and the async one on asyncio and on trio.

``World`` opens clients that are all used the same, blocking way.  The async ones live on an event loop in a thread of
its own, and every call runs there as a task of its own, so whatever holds here holds across tasks too.
"""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Self, TypeVar

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.model import ChatResponse, StreamEvent
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, Reply

KINDS = ("sync", "asyncio", "trio")
T = TypeVar("T")


def openai(server: LoopbackLLM | str, name: str = "first", **options: Any) -> OpenAI:
    """A provider at a loopback server, or at a URL."""
    url = server if isinstance(server, str) else server.url
    return OpenAI(
        name, id=options.pop("id", name), base_url=url + "/v1", api_key=options.pop("api_key", "k"), **options
    )


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


class Stream:
    """A stream of any client, as an iterator."""

    def __init__(self, raw: Any, portal: BlockingPortal | None) -> None:
        self.raw = raw
        self._portal = portal

    def __iter__(self) -> Iterator[StreamEvent]:
        return self

    def __next__(self) -> StreamEvent:
        if self._portal is None:
            return next(self.raw)
        event = self._portal.call(anext, self.raw, None)
        if event is None:
            raise StopIteration
        return event

    def text(self) -> str:
        """All the text that is still to come."""
        return "".join(getattr(event, "text", "") for event in self)

    def close(self) -> None:
        if self._portal is None:
            self.raw.close()
        else:
            self._portal.call(self.raw.aclose)

    def __enter__(self) -> Self:
        if self._portal is None:
            self.raw.__enter__()
        else:
            self._portal.call(self.raw.__aenter__)
        return self

    def __exit__(self, *exc: object) -> None:
        if self._portal is None:
            self.raw.__exit__(*exc)
        else:
            self._portal.call(self.raw.__aexit__, *exc)

    @property
    def response(self) -> ChatResponse:
        return self.raw.response


class Client:
    """A client of any kind, used in a blocking way."""

    def __init__(self, raw: Any, portal: BlockingPortal | None) -> None:
        self.raw = raw
        self.portal = portal

    def chat(self, messages: Any = "hi", **options: Any) -> ChatResponse:
        return self._do(self.raw.chat, messages, **options)

    def embed(self, inputs: Any, **options: Any) -> Any:
        return self._do(self.raw.embed, inputs, **options)

    def stream(self, messages: Any = "hi", **options: Any) -> Stream:
        return Stream(self.raw.stream(messages, **options), self.portal)

    def health(self) -> Any:
        return self.raw.health()

    def in_flight(self) -> int:
        return sum(standing.in_flight for standing in self.raw.health().values())

    def close(self) -> None:
        self._do(self.raw.close if self.portal is None else self.raw.aclose)

    def _do(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        if self.portal is None:
            return function(*args, **options)

        async def work() -> Any:
            return await function(*args, **options)

        return self.portal.call(work)


class World:
    """Opens clients of one kind and servers, and sees to it at the end that nothing was left behind."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.portal: BlockingPortal | None = None
        self._stack = ExitStack()
        self._clients: list[Client] = []
        self._servers: list[LoopbackLLM] = []
        if kind != "sync":
            portal: AbstractContextManager[BlockingPortal] = start_blocking_portal(kind)
            self.portal = self._stack.enter_context(portal)

    def client(self, providers: Any = None, **settings: Any) -> Client:
        """A client; closed at the end."""
        made = ResilientClient if self.portal is None else AsyncResilientClient
        client = Client(made(providers, **settings), self.portal)
        self._clients.append(client)
        return client

    def server(self, *behaviours: Any, **options: Any) -> LoopbackLLM:
        """A running server, which answers beyond its script; closed at the end."""
        server = self._stack.enter_context(LoopbackLLM(*behaviours, **{"default": Reply(), **options}))
        self._servers.append(server)
        return server

    def pair(self, *first: Any, **settings: Any) -> tuple[Client, LoopbackLLM, LoopbackLLM]:
        """A client of two providers, ``first`` (which does what is given) and ``second`` (healthy)."""
        one, two = self.server(*first), self.server()
        return self.client([openai(one, "first"), openai(two, "second")], **settings), one, two

    def run(self, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        """Run async code on this world's event loop."""
        assert self.portal is not None
        return self.portal.call(function, *args)

    def end(self) -> None:
        """Close everything; nothing may be in flight, and no connection may be left open by an unfinished answer."""
        try:
            gc.collect()
            for client in self._clients:
                client.close()
                assert client.in_flight() == 0, client.health()
            for server in self._servers:
                server.wait_for(lambda s: s.open_connections == 0, timeout=5)
        finally:
            self._stack.close()


@pytest.fixture(params=KINDS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    try:
        yield made
    except BaseException:
        made._stack.close()
        raise
    made.end()


@pytest.fixture(params=KINDS[1:])
def async_world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.end()


def threads() -> set[str]:
    """The threads of ours that run now."""
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("resilient_llm")}


def eventually(true: Callable[[], object], timeout: float = 5.0) -> None:
    """Wait until it is true."""
    until = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < until, "not in time"
        time.sleep(0.005)


async def drain(stream: AsyncIterator[StreamEvent]) -> str:
    """All the text of an async stream."""
    return "".join([getattr(event, "text", "") async for event in stream])
