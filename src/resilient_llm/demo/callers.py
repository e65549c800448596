"""The traffic: callers that arrive at random, ask for a whole answer or a stream, and check every word of it."""

from __future__ import annotations

import random
from collections.abc import Callable

import anyio
from anyio.abc import TaskGroup

from resilient_llm.chaos.timeline.story import CallSeen, Ending, Notebook
from resilient_llm.client import AsyncResilientClient
from resilient_llm.demo.stage import ANSWER
from resilient_llm.errors import CallFailed, StreamInterrupted

_STREAMS = 0.6  # share of the calls that ask for a stream
_PROMPTS = ("Why is the sky blue?", "Explain Rayleigh scattering in a sentence.", "What colour is the sky, and why?")
_MAX_TOKENS = 64


async def arrive(
    client: AsyncResilientClient, notes: Notebook, rate: float, crowd: TaskGroup, over: Callable[[], bool]
) -> None:
    """Begin ``rate`` calls a second on average until told to stop; nobody waits for anybody."""
    draw = random.Random(notes.story.seed)
    due = notes.now()
    while not over():
        due += draw.expovariate(rate)
        streamed, prompt = draw.random() < _STREAMS, draw.choice(_PROMPTS)
        await anyio.sleep(max(0.0, due - notes.now()))
        notes.story.lag = max(notes.story.lag, notes.now() - due)
        crowd.start_soon(call, client, notes, streamed, prompt)


async def call(client: AsyncResilientClient, notes: Notebook, streamed: bool, prompt: str) -> None:
    """One call, from the caller's side."""
    number, began = notes.begin(), notes.now()
    try:
        if streamed:
            seen = await _stream(client, notes, number, prompt)
        else:
            reply = await client.chat(prompt, max_tokens=_MAX_TOKENS)
            ending: Ending = "answered" if reply.text == ANSWER else "wrong"
            seen = CallSeen(number, False, began, notes.now(), ending, len(reply.attempts), reply.provider)
    except CallFailed as failure:
        seen = _failed(number, streamed, began, notes.now(), failure)
    except Exception as error:  # nothing else may come out of a call: the report has to say so
        kind = type(error).__name__
        seen = CallSeen(number, streamed, began, notes.now(), "wrong", 0, error=kind, message=str(error))
    notes.seen(seen)


async def _stream(client: AsyncResilientClient, notes: Notebook, number: int, prompt: str) -> CallSeen:
    began = notes.now()
    first: float | None = None
    text = ""
    async with client.stream(prompt, max_tokens=_MAX_TOKENS) as stream:
        async for piece in stream.text_deltas():
            first = notes.now() - began if first is None else first
            text += piece
        attempts = len(stream.attempts)
    ending: Ending = "answered" if text == ANSWER else "wrong"
    return CallSeen(number, True, began, notes.now(), ending, attempts, stream.provider, first)


def _failed(number: int, streamed: bool, began: float, ended: float, failure: CallFailed) -> CallSeen:
    ending: Ending = "failed"
    if isinstance(failure, StreamInterrupted):
        partial = failure.partial.text
        # What the caller is given of a broken answer has to be its beginning.
        ending = "interrupted" if partial and ANSWER.startswith(partial) else "wrong"
    provider = failure.attempts[-1].provider if ending == "interrupted" else ""
    error, attempts = type(failure).__name__, len(failure.attempts)
    return CallSeen(number, streamed, began, ended, ending, attempts, provider, None, error, failure.message)
