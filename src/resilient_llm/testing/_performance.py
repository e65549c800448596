"""Mishaps and scripts without a socket: what a provider in this process yields, waits and raises.

Pure generators of steps, a number being seconds to wait; :class:`Pace` does the waiting, in both worlds.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator
from typing import TypeAlias, final

import anyio
import anyio.lowlevel

from resilient_llm.errors import ConfigurationError, Fault, InvalidAnswer, ProviderError
from resilient_llm.model import (
    ChatResponse,
    Finish,
    PartAdded,
    RefusalDelta,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    TextDelta,
    ThoughtDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageUpdate,
)
from resilient_llm.testing._answers import CREATED, Ask, usage_of
from resilient_llm.testing._codecs import events_of, finish_of
from resilient_llm.testing._plans import status_body
from resilient_llm.testing.clock import ManualClock
from resilient_llm.testing.faults import Latency, Mishap, SlowTokens
from resilient_llm.testing.script import (
    Behaviour,
    Close,
    Cut,
    Hang,
    InBandError,
    Malformed,
    Reply,
    Reset,
    Stall,
    Status,
    StreamFault,
)
from resilient_llm.wire import classify, classify_stream_error, codec
from resilient_llm.wire.kit.accumulate import replay

Step: TypeAlias = float | StreamEvent
_LOOK = 0.1  # seconds between two looks at whether the fault was withdrawn
_WIRE = "openai_chat"
_VENDOR = "openai_compatible_gateway"
_UNFINISHED = "the stream ended without saying that it was complete"
_TOKENS = (TextDelta, ThoughtDelta, RefusalDelta, PartAdded, ToolCallStart, ToolCallDelta)


@final
class Pace:
    """The waits of one attempt, which may take ``timeout`` seconds until its next sign of life.

    With a manual clock they take no time.  Once the fault is ``withdrawn`` they end: those without an end raise
    ``ConnectionError``.  Raises ``TimeoutError`` where a wait would last longer.
    """

    def __init__(self, timeout: float, clock: ManualClock | None, withdrawn: threading.Event | None = None) -> None:
        self._withdrawn = threading.Event() if withdrawn is None else withdrawn
        self._timeout = timeout
        self._clock = clock
        self._until = self._now() + timeout

    def sleep(self, seconds: float) -> None:
        """Wait."""
        if seconds <= 0:
            return
        nap = self._nap(seconds)
        if self._clock is not None:
            self._clock.sleep(nap)
        else:
            self._withdrawn.wait(nap)
        self._judge(nap, seconds)

    async def sleep_async(self, seconds: float) -> None:
        """The same for async code."""
        if seconds <= 0:
            return
        nap = self._nap(seconds)
        if self._clock is not None:
            self._clock.sleep(nap)
        else:
            await waited(nap, self._withdrawn)
        self._judge(nap, seconds)

    def renew(self) -> None:
        """There was a sign of life."""
        self._until = self._now() + self._timeout

    def _now(self) -> float:
        return time.monotonic() if self._clock is None else self._clock()

    def _nap(self, seconds: float) -> float:
        return min(seconds, max(0.0, self._until - self._now()))

    def _judge(self, nap: float, seconds: float) -> None:
        if self._withdrawn.is_set():
            if seconds == math.inf:
                raise ConnectionError("the fault was withdrawn")
        elif nap < seconds:
            raise TimeoutError("the script stayed silent for longer than the attempt may take")


async def waited(seconds: float, withdrawn: threading.Event) -> None:
    """Wait, or until a fault is withdrawn, by whatever thread."""
    until = time.monotonic() + seconds
    await anyio.lowlevel.checkpoint()
    while (left := until - time.monotonic()) > 0 and not withdrawn.is_set():  # noqa: ASYNC110 - any thread may set it
        await anyio.sleep(min(left, _LOOK))


def performed(behaviour: Behaviour, *, stream: bool) -> Iterator[Step]:
    """A behaviour as a provider in this process shows it: with the faults it would have on OpenAI's chat wire."""
    if isinstance(behaviour, Reply):
        yield from _reply(behaviour, stream)
    elif isinstance(behaviour, Status):
        yield behaviour.delay
        if behaviour.status >= 300:
            raise _refusal(behaviour)
        yield from _success(behaviour, stream)
    elif isinstance(behaviour, Hang):
        yield math.inf
    elif isinstance(behaviour, Close | Reset):
        yield behaviour.delay
        raise _gone()
    else:
        raise ConfigurationError(f"{type(behaviour).__name__} needs a wire; use LoopbackLLM or FaultyTransport")


def _reply(reply: Reply, stream: bool) -> Iterator[Step]:
    alteration = None if reply.fault is None else Alteration(reply.fault, stream=stream)
    yield reply.delay
    yield StreamStart("loopback-1", reply.model or "", CREATED)
    first = True
    for event in events_of(reply):
        if isinstance(event, _TOKENS):
            yield reply.first_token if first else reply.interval
            first = False
        yield from (event,) if alteration is None else alteration.take(event)
    if alteration is not None:
        yield from alteration.finish()
    if reply.finish_reason is not None:
        yield Finish(finish_of(reply))
    usage = usage_of(reply)
    if usage is not None:
        yield UsageUpdate(usage)
    # On OpenAI's chat wire, either evidence is enough; and a whole answer is its own.
    complete = not stream or reply.terminal or reply.finish_reason is not None
    yield StreamEnd() if complete else _unfinished()


def _success(status: Status, stream: bool) -> Iterator[Step]:
    """A success with a body of one's own: read as it would be from the wire."""
    body = status_body(status, Ask(_WIRE))
    if stream and not body.startswith(b"<"):  # a page is no stream, and read as a whole
        decoder = codec(_WIRE).stream_decoder()
        for event in (*decoder.feed(body), *decoder.close()):
            if isinstance(event, StreamError):
                raise _provider_error(classify_stream_error(_VENDOR, event.payload), status.message)
            yield event
        return
    try:
        response = codec(_WIRE).decode_response(body)
    except InvalidAnswer as invalid:
        told = None if invalid.payload is None else classify(_VENDOR, status.status, {}, invalid.payload)
        if told is not None and (told.code or told.message):
            raise _provider_error(told, status.message) from invalid
        raise
    yield from replay(response)


@final
class Alteration:
    """Changes a true answer on its way: one ``take`` per event."""

    def __init__(self, mishap: Mishap, *, stream: bool) -> None:
        self._mishap = mishap
        self._stream = stream
        self._tokens = 0
        self._done = False

    def take(self, event: StreamEvent) -> Iterator[Step]:
        """What becomes of an event.  Raises where the mishap strikes."""
        mishap = self._mishap
        if isinstance(event, _TOKENS):
            if isinstance(mishap, SlowTokens):
                yield mishap.interval
            elif not self._done and isinstance(mishap, StreamFault) and self._tokens >= mishap.after:
                yield from self._strike(mishap)
            self._tokens += 1
        elif isinstance(event, Finish | StreamEnd):
            yield from self.finish()
        yield event

    def finish(self) -> Iterator[Step]:
        """There are no more tokens: a mishap that wanted more strikes now."""
        if isinstance(self._mishap, StreamFault) and not self._done:
            yield from self._strike(self._mishap)

    def _strike(self, fault: StreamFault) -> Iterator[Step]:
        self._done = True
        if isinstance(fault, Stall):
            yield math.inf
        elif isinstance(fault, Cut):
            if fault.how == "end":
                yield from self._undecodable(_UNFINISHED, malformed=False)
            raise _gone()
        elif isinstance(fault, Malformed):
            yield from self._undecodable("a frame cannot be decoded", malformed=True)
            raise _gone()  # for who reads on after the break
        else:
            assert isinstance(fault, InBandError)
            raise ProviderError(fault.message, kind=fault.kind)

    def _undecodable(self, reason: str, *, malformed: bool) -> Iterator[Step]:
        """Bytes that are no answer: an invalid one as a whole, and inside a stream its break."""
        if not self._stream:
            raise InvalidAnswer(reason)
        yield StreamBroken(reason, malformed)


def latency_of(mishap: Mishap) -> float:
    """Seconds before anything else happens."""
    return mishap.seconds if isinstance(mishap, Latency) else 0.0


def words_of(response: ChatResponse) -> int:
    """How many tokens a whole answer would have had, for slow ones."""
    return len(response.text.split()) + len(response.tool_calls)


def _refusal(status: Status) -> Exception:
    headers = {name.lower(): value for name, value in status.headers.items() if value is not None}
    if status.retry_after is not None:
        headers.setdefault("retry-after", f"{status.retry_after:g}")
    body = status_body(status, Ask(_WIRE))
    fault = classify(_VENDOR, status.status, headers, body, now=time.time())
    if fault is None:
        return InvalidAnswer(f"status {status.status} without an answer in it")
    return _provider_error(fault, status.message, status.status)


def _provider_error(fault: Fault, message: str, status: int | None = None) -> ProviderError:
    return ProviderError(
        fault.message or message, kind=fault.kind, status=status, retry_after=fault.retry_after, code=fault.code
    )


def _unfinished() -> StreamBroken:
    return StreamBroken(_UNFINISHED)


def _gone() -> ConnectionError:
    return ConnectionResetError("the connection was closed before the answer was complete")
