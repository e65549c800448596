"""Mishaps and scripts without a socket: what a provider in this process yields, waits and raises.

Pure generators of steps; ``pace`` does the waiting.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import chain

from resilient_llm.errors import ConfigurationError, Fault, InvalidAnswer, ProviderError
from resilient_llm.model import (
    ChatResponse,
    Finish,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    UsageUpdate,
)
from resilient_llm.testing.answers import CREATED, Ask, usage_of
from resilient_llm.testing.codec_writer import events_of, finish_of
from resilient_llm.testing.faults import Latency, Mishap
from resilient_llm.testing.pace import Step
from resilient_llm.testing.plans import status_body
from resilient_llm.testing.script import Behaviour, Close, Hang, InBandError, Reply, Reset, Status, StreamFault
from resilient_llm.testing.strike import TOKENS, Ending, Struck, ending_of
from resilient_llm.wire import classify, classify_stream_error, codec
from resilient_llm.wire.kit.accumulate import replay

_WIRE = "openai_chat"
_VENDOR = "openai_compatible_gateway"
_UNFINISHED = "the stream ended without saying that it was complete"


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
    answer = broken(reply.fault, stream=stream)
    yield reply.delay
    yield StreamStart("loopback-1", reply.model or "", CREATED)
    pause = reply.first_token
    for event in chain(events_of(reply), _closing(reply, stream)):
        if isinstance(event, TOKENS):
            yield from answer.said((event,), (pause, event))
            pause = reply.interval
        else:
            yield from answer.said((event,), (event,))


def _closing(reply: Reply, stream: bool) -> Iterator[StreamEvent]:
    if reply.finish_reason is not None:
        yield Finish(finish_of(reply))
    usage = usage_of(reply)
    if usage is not None:
        yield UsageUpdate(usage)
    # On OpenAI's chat wire, either evidence is enough; and a whole answer is its own.
    complete = not stream or reply.terminal or reply.finish_reason is not None
    yield StreamEnd() if complete else StreamBroken(_UNFINISHED)


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


def broken(mishap: Mishap | None, *, stream: bool) -> Struck[Step]:
    """What a mishap does to the events of an answer."""
    return Struck(mishap, partial(_trouble, stream))


def altered(events: Iterable[StreamEvent], mishap: Mishap | None, *, stream: bool) -> Iterator[Step]:
    """The events of a true answer, and what a mishap makes of them."""
    answer = broken(mishap, stream=stream)
    for event in events:
        yield from answer.said((event,), (event,))
    yield from answer.end()


def _trouble(stream: bool, fault: StreamFault) -> Iterator[Step]:
    ending = ending_of(fault)
    if isinstance(fault, InBandError):
        raise ProviderError(fault.message, kind=fault.kind)
    if ending is Ending.HANG:
        yield math.inf
    elif ending is None or ending is Ending.END:
        reason = "a frame cannot be decoded" if ending is None else _UNFINISHED
        if not stream:
            raise InvalidAnswer(reason)
        yield StreamBroken(reason, malformed=ending is None)
    raise _gone()  # for who reads on after the break


def latency_of(mishap: Mishap | None) -> float:
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


def _gone() -> ConnectionError:
    return ConnectionResetError("the connection was closed before the answer was complete")
