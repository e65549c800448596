"""Providers that answer from a script, without a socket.

For tests of what *you* build on a client: how often it asks, what it does with a partial answer, what it tells users
when nobody answers.  For the client itself use real sockets (:class:`~resilient_llm.testing.LoopbackLLM`): resets and
half-open streams exist only there.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias, cast, final

from typing_extensions import override

from resilient_llm.errors import ConfigurationError, ProviderError
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    StreamBroken,
    StreamEvent,
    Usage,
)
from resilient_llm.testing.answers import vector_of
from resilient_llm.testing.clock import ManualClock
from resilient_llm.testing.faults import REPLACING
from resilient_llm.testing.in_process import performed
from resilient_llm.testing.pace import Pace, Paced, Step, collected, complete, paced, whole_async
from resilient_llm.testing.script import Behaviour, EndlessHeaders, Raw, Reply, StreamFault
from resilient_llm.wire.kit.accumulate import replay

__all__ = ["AsyncScriptedProvider", "ScriptStep", "ScriptedProvider"]

Played: TypeAlias = str | Behaviour | ChatResponse | EmbedResponse | Exception | tuple[str | StreamEvent, ...]
"""One answer of a script: text; ``Reply``, ``Status``, ``Hang``, ``Close`` or ``Reset``; a response; an exception to
raise; the pieces of a stream.  To a request for embeddings, an ``EmbedResponse``; any other answer stands for vectors
made of the texts, equal texts getting equal ones."""
ScriptStep: TypeAlias = Played | Callable[[ChatRequest], Played]
"""Or a function of the request that returns one.  An exception it raises itself, other than a ``ProviderError`` or an
``OSError``, is a mistake in the test and reaches the caller as ``ConfigurationError``."""


class _Scripted:
    def __init__(
        self,
        *script: ScriptStep,
        id: str = "scripted",  # noqa: A002 - the word for it everywhere in this library
        model: str = "",
        default: ScriptStep | None = None,
    ) -> None:
        self._id = id
        self.model: str = model or id
        self._default: ScriptStep | None = None if default is None else _step(default)
        self.requests: list[ChatRequest] = []
        """Every request so far, oldest first."""
        self.embed_requests: list[EmbedRequest] = []
        """Every request for embeddings so far."""
        self.embedding_space: str | None = None
        """See ``ProviderOptions``."""
        self.clock: ManualClock | None = None
        """Where the script's waits are spent; ``None``: in real time."""
        self._script = deque(map(_step, script))
        self._scripted = bool(script)
        self._lock = threading.Lock()

    @property
    def default(self) -> ScriptStep:
        """What happens to requests beyond the script.

        As long as it is not set, a provider without a script answers with a short reply, and one whose script is used
        up fails the test.
        """
        return Reply() if self._default is None else self._default

    @default.setter
    def default(self, step: ScriptStep) -> None:
        self._default = _step(step)

    @property
    def id(self) -> str:
        """Its name in health, trails and telemetry."""
        return self._id

    @property
    def request_count(self) -> int:
        """How often it was asked."""
        return len(self.requests) + len(self.embed_requests)

    @property
    def script_left(self) -> int:
        """How many steps nobody has met yet."""
        return len(self._script)

    def script(self, *steps: ScriptStep) -> None:
        """Append to what the next requests get, one each and in this order."""
        self._script.extend(map(_step, steps))
        self._scripted = self._scripted or bool(steps)

    def _steps(self, request: ChatRequest, *, stream: bool) -> Iterator[Step]:
        with self._lock:
            self.requests.append(request)
            step = self._script.popleft() if self._script else self._beyond()
        return _played(_asked(step, request), stream)

    def _embed_steps(self, request: EmbedRequest) -> Iterator[float | EmbedResponse]:
        """Waits, and then the answer."""
        with self._lock:
            self.embed_requests.append(request)
            step = self._script.popleft() if self._script else self._beyond()
        played = _asked(step, request)
        if isinstance(played, EmbedResponse):
            yield played
            return
        for part in _played(played, stream=False):
            if isinstance(part, StreamBroken):
                raise ConnectionError(part.reason)
            if isinstance(part, int | float):
                yield part
        vectors = tuple(tuple(vector_of(text, request.dimensions or 8)) for text in request.inputs)
        yield EmbedResponse(vectors, usage=Usage(sum(len(text) // 4 + 1 for text in request.inputs)))

    def _beyond(self) -> ScriptStep:
        """Raises ``ConfigurationError``, which reaches the test, where a script is used up."""
        if self._default is None and self._scripted:
            told = f"request {self.request_count} to {self._id!r} finds the script used up"
            raise ConfigurationError(f"{told}; add a step to it, or give default=")
        return self.default

    @override
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id!r}: {self.request_count} requests, {self.script_left} steps left>"


@final
class ScriptedProvider(_Scripted):
    """Answers from a script; for both clients (in the async one, from a worker thread).

    Every request takes the next step, see ``ScriptStep``.  Beyond the script, ``default`` applies; without one, a
    request too many is a ``ConfigurationError``, which no failover hides.  Without any script it answers with a short
    reply.
    Waits of the script take no time inside :func:`~resilient_llm.testing.instant`.  Safe for threads.
    """

    def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:
        """The next step as a whole answer."""
        pace = Pace(timeout, self.clock)
        return collected(paced(self._steps(request, stream=False), pace))

    def stream(self, request: ChatRequest, *, timeout: float) -> Iterator[StreamEvent]:
        """The next step as a stream."""
        return paced(self._steps(request, stream=True), Pace(timeout, self.clock))

    def embed(self, request: EmbedRequest, *, timeout: float) -> EmbedResponse:
        """The next step as an answer to a request for embeddings."""
        pace = Pace(timeout, self.clock)
        for step in self._embed_steps(request):
            if isinstance(step, EmbedResponse):
                return step
            pace.sleep(step)
        raise AssertionError("there is always an answer")


@final
class AsyncScriptedProvider(_Scripted):
    """The same for the async client, on asyncio and trio."""

    async def chat(self, request: ChatRequest, *, timeout: float) -> ChatResponse:  # noqa: ASYNC109
        """The next step as a whole answer."""
        return await whole_async(self._steps(request, stream=False), Pace(timeout, self.clock))

    def stream(self, request: ChatRequest, *, timeout: float) -> AsyncIterator[StreamEvent]:
        """The next step as a stream."""
        return Paced(self._steps(request, stream=True), Pace(timeout, self.clock))

    async def embed(self, request: EmbedRequest, *, timeout: float) -> EmbedResponse:  # noqa: ASYNC109
        """The next step as an answer to a request for embeddings."""
        pace = Pace(timeout, self.clock)
        for step in self._embed_steps(request):
            if isinstance(step, EmbedResponse):
                return step
            await pace.sleep_async(step)
        raise AssertionError("there is always an answer")


def _played(step: Played, stream: bool) -> Iterator[Step]:
    if isinstance(step, str):
        step = Reply(step)
    if isinstance(step, Exception):
        raise step
    if isinstance(step, EmbedResponse):
        raise ConfigurationError("the script has an EmbedResponse for a request that is none for embeddings")
    if isinstance(step, ChatResponse):
        yield from replay(step)
    elif isinstance(step, tuple):
        yield from complete(step)
    else:
        yield from performed(step, stream=stream)


_HOLDS = (
    "text, Reply, Status, Hang, Close, Reset, a ChatResponse, an exception, a tuple of the pieces of a stream, or a "
    "function of the request that returns one of these"
)


def _step(step: object) -> ScriptStep:
    """A step, if it is one."""
    if callable(step) and not isinstance(step, type):
        return cast("Callable[[ChatRequest], Played]", step)
    return _answer(step, "a script cannot hold")


def _answer(step: object, cannot: str) -> Played:
    if isinstance(step, str | ChatResponse | EmbedResponse | Exception):
        return step
    if isinstance(step, Raw | EndlessHeaders):
        raise ConfigurationError(f"{cannot} {step!r}, which needs a wire; use LoopbackLLM or FaultyTransport")
    if isinstance(step, REPLACING):
        return step
    if isinstance(step, tuple):
        return _pieces(cast("tuple[object, ...]", step), cannot)
    if isinstance(step, list):
        remedy = "the pieces of a stream are a tuple; several steps are several arguments"
    elif isinstance(step, type):
        remedy = f"{step.__name__} is a class, say {step.__name__}(...)"
    elif isinstance(step, StreamFault):
        remedy = f"it strikes inside an answer: Reply(fault={step!r})"
    else:
        remedy = f"what it can: {_HOLDS}"
    raise ConfigurationError(f"{cannot} {step!r}; {remedy}")


def _pieces(pieces: tuple[object, ...], cannot: str) -> tuple[str | StreamEvent, ...]:
    for piece in pieces:
        if not isinstance(piece, str | StreamEvent):
            raise ConfigurationError(f"{cannot} {pieces!r}; pieces are texts and events, and {piece!r} is neither")
    return cast("tuple[str | StreamEvent, ...]", pieces)


def _asked(step: ScriptStep, request: ChatRequest | EmbedRequest) -> Played:
    """What a function of a script says.  One that breaks is a mistake in the test, and no provider's failure."""
    if not callable(step):
        return step
    name = getattr(step, "__qualname__", repr(step))
    try:
        answer: object = step(cast(ChatRequest, request))
    except (ProviderError, OSError, ConfigurationError):
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}"
        raise ConfigurationError(
            f"the script's function {name} raised {what}; to script a failure, return the exception"
        ) from error
    return _answer(answer, f"the script's function {name} must not return")
