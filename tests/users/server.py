"""A provider on loopback in plain asyncio: reads HTTP, asks a script what to answer, and does that."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self, TypeAlias

HANG = 60.0
"""Seconds after which a silent connection is closed all the same, so that nothing here runs for ever."""


@dataclass(frozen=True, slots=True)
class Received:
    """One request.  ``index`` counts from 0 at each provider, ``at`` is monotonic time, ``connection`` tells the
    connections of a provider apart."""

    index: int
    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    connection: int

    @property
    def prompt(self) -> str:
        """The last message."""
        return str(self.body["messages"][-1]["content"])

    @property
    def streaming(self) -> bool:
        return bool(self.body.get("stream"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to do with a request: wait ``delay`` seconds, then answer.

    ``body`` is sent as it is with ``status``.  Without it ``words`` are said, each ``pace`` seconds after the one
    before (a whole answer takes as long); ``None``: the echo of the prompt.  ``end`` says what comes after them: the
    proper end, silence, or a reset.  Silence and a reset without words come before any byte.
    """

    status: int = 200
    body: bytes | None = None
    headers: tuple[tuple[str, str], ...] = ()
    delay: float = 0.0
    words: tuple[str, ...] | None = None
    pace: float = 0.0
    end: Literal["done", "hang", "reset"] = "done"


Script: TypeAlias = Callable[[Received], Answer]

WELL = Answer()
SILENT = Answer(words=(), end="hang")
RESET = Answer(words=(), end="reset")


def echo(prompt: str) -> str:
    """The right answer to a prompt."""
    return f"echo of {prompt}"


def failed(status: int, message: str = "it failed", *, kind: str = "server_error", **headers: str) -> Answer:
    """An error as OpenAI words it; keywords are headers, with underscores for hyphens."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}}).encode()
    named = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status=status, body=body, headers=(("content-type", "application/json"), *named))


class Provider:
    """One server; ``script`` may be replaced at any time.  Made by :meth:`Network.provider`."""

    def __init__(self, network: Network, script: Script | Answer) -> None:
        self.script: Script = script if not isinstance(script, Answer) else lambda _: script
        self.requests: list[Received] = []
        self._network = network
        self._connections: set[asyncio.StreamWriter] = set()
        self._opened = 0
        self._server: asyncio.Server | None = None
        self._port = 0

    @property
    def url(self) -> str:
        """The base URL, for ``base_url=``."""
        return f"http://127.0.0.1:{self._port}/v1"

    def say(self, answer: Answer) -> None:
        """Answer everything so from now on."""
        self.script = lambda _: answer

    def listen(self) -> None:
        """Take connections, at the same port each time; from any thread."""
        self._network.run(self._listen())

    def refuse(self, *, cut: bool = True) -> None:
        """Refuse connections and, if ``cut``, reset those that are open; from any thread."""
        self._network.run(self.stop(cut=cut))

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port, reuse_address=True)
            self._port = self._server.sockets[0].getsockname()[1]

    async def stop(self, *, cut: bool = True) -> None:
        """As :meth:`refuse`, on the network's loop."""
        if self._server is not None:
            self._server.close()
            self._server = None
        if cut:
            for writer in list(self._connections):
                _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._opened += 1
        number = self._opened
        self._connections.add(writer)
        try:
            while (request := await self._read(reader, number)) is not None:
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone, or the network ends
        finally:
            self._connections.discard(writer)
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _read(self, reader: asyncio.StreamReader, connection: int) -> Received | None:
        with suppress(asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines if line)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            path = first.split(" ")[1]
            received = Received(
                len(self.requests), time.monotonic(), path, headers, json.loads(body or b"{}"), connection
            )
            self.requests.append(received)
            return received
        return None

    async def _answer(self, request: Received, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Whether the connection may be used again."""
        answer = self.script(request)
        words = answer.words if answer.words is not None else _words(echo(request.prompt))
        if answer.delay:
            await asyncio.sleep(answer.delay)
        if answer.body is not None:
            await _whole(writer, answer.status, answer.headers, answer.body)
            return True
        if request.streaming and words:
            await _stream(writer, answer, words)
        elif answer.end == "done":
            await asyncio.sleep(answer.pace * len(words))
            head = (*answer.headers, ("content-type", "application/json"))
            await _whole(writer, answer.status, head, completion("".join(words), request.body.get("model", "m")))
            return True
        if answer.end == "hang":
            with suppress(TimeoutError):
                await asyncio.wait_for(reader.read(1), HANG)
        elif answer.end == "reset":
            _reset(writer)
        return False


def _words(text: str) -> tuple[str, ...]:
    first, *rest = text.split(" ")
    return (first, *(f" {word}" for word in rest))


def completion(text: str, model: str) -> bytes:
    """A whole answer."""
    return json.dumps(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": model,
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"},
            ],
            "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
        }
    ).encode()


def _chunk(delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
    return b"data: " + json.dumps(event).encode() + b"\n\n"


async def _whole(writer: asyncio.StreamWriter, status: int, headers: tuple[tuple[str, str], ...], body: bytes) -> None:
    lines = [f"HTTP/1.1 {status} Whatever", *(f"{name}: {value}" for name, value in headers)]
    writer.write("\r\n".join([*lines, f"content-length: {len(body)}", "", ""]).encode() + body)
    await writer.drain()


async def _stream(writer: asyncio.StreamWriter, answer: Answer, words: tuple[str, ...]) -> None:
    lines = ["HTTP/1.1 200 OK", *(f"{name}: {value}" for name, value in answer.headers)]
    lines += ["content-type: text/event-stream", "connection: close", "", ""]
    writer.write("\r\n".join(lines).encode())
    for word in words:
        writer.write(_chunk({"content": word}))
        await writer.drain()
        await asyncio.sleep(answer.pace)
    if answer.end == "done":
        writer.write(_chunk({}, "stop") + b"data: [DONE]\n\n")
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Network:
    """Providers on loopback, served by an event loop in a thread of its own, so that both clients can be used."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="users-network", daemon=True)
        self._providers: list[Provider] = []

    def provider(self, script: Script | Answer = WELL) -> Provider:
        """A new one that takes connections."""
        provider = Provider(self, script)
        provider.listen()
        self._providers.append(provider)
        return provider

    def run(self, coroutine: Any) -> Any:
        """Run a coroutine on the network's loop and wait for it."""
        if threading.current_thread() is self._thread:
            raise RuntimeError("not from a script: it would wait for itself")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.run(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _end(self) -> None:
        for provider in self._providers:
            await provider.stop()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
