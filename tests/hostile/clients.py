"""The three kinds of client, used in a blocking way."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.providers import OpenAICompatible

KINDS = ("sync", "asyncio", "trio")


def provider(url: str, name: str = "a", **options: Any) -> OpenAICompatible:
    return OpenAICompatible("m", id=name, base_url=url + "/v1", api_key="k", allow_http=True, **options)


class Caller:
    """A client of one kind."""

    def __init__(self, raw: Any, call: Callable[..., Any], close: Callable[[float], None]) -> None:
        self.raw = raw
        self._call = call
        self.close = close

    def ask(self, prompt: str = "hi", *, stream: bool = False, **options: Any) -> str:
        """The text of an answer, whole or streamed."""
        return str(self._call(prompt, stream, options))


@contextmanager
def caller(kind: str, providers: list[Any], **settings: Any) -> Iterator[Caller]:
    """A client; closed at the end."""
    if kind == "sync":
        with ResilientClient(providers, **settings) as sync:

            def call(prompt: str, stream: bool, options: dict[str, Any]) -> str:
                if not stream:
                    return sync.chat(prompt, **options).text
                with sync.stream(prompt, **options) as opened:
                    return "".join(opened.text_deltas())

            yield Caller(sync, call, sync.close)
        return
    client = AsyncResilientClient(providers, **settings)

    async def acall(prompt: str, stream: bool, options: dict[str, Any]) -> str:
        if not stream:
            return (await client.chat(prompt, **options)).text
        async with client.stream(prompt, **options) as opened:
            return "".join([text async for text in opened.text_deltas()])

    with start_blocking_portal(kind) as portal:
        yield Caller(client, lambda *args: portal.call(acall, *args), lambda drain: portal.call(client.aclose, drain))
        portal.call(client.aclose, 0.0)


def workers() -> set[threading.Thread]:
    """Threads of ours that run now, those of other clients included; the ones that resolve names cannot be ended."""
    ours = (thread for thread in threading.enumerate() if thread.name.startswith("resilient_llm"))
    return {thread for thread in ours if "resolver" not in thread.name}


def within(seconds: float, true: Callable[[], object]) -> bool:
    """Whether it becomes true in so many seconds."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True
