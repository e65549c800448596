"""How a call may go on after its stream broke: whether at all, at which providers, with which request.

The rules, in short.  An answer may be asked for anew whatever it is.  It is written on only where it is plain text so
far and the request wants nothing else: half a tool call, half a JSON object and half a thought mean nothing to another
model.  Tool calls that are complete are kept, and the answer ends with them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Protocol

from resilient_llm.capability.plan import Capabilities
from resilient_llm.capability.splice import (
    AfterInstruction,
    AfterPrefill,
    Anew,
    Continued,
    Join,
    SoFar,
    Splice,
    Verified,
)
from resilient_llm.errors import FaultKind
from resilient_llm.model import ChatRequest, ChatResponse, Degradation, Extra, Message, Text, ToolCall, Usage

CONTINUES: Final[Mapping[str, str]] = {
    **dict.fromkeys(("anthropic", "gemini", "mistral", "ollama", "vllm", "sglang", "llama_cpp"), ""),
    "bedrock": "claude",
    "vertex_ai": "claude|gemini",
}
"""Vendor -> the pattern of its models that go on with a conversation which ends in their own words; others write a new
message.  A user says so of another one with ``capabilities={"prefill": True}``."""

_ECHOES: Final = frozenset({"mistral"})
"""Vendors that repeat the words they were given."""

_PREFIX: Mapping[str, object] = {"prefix": True}
_OF_MESSAGE: Final[Mapping[str, Mapping[str, object]]] = {"mistral": _PREFIX, "deepseek": _PREFIX}
_CONTINUE: Mapping[str, object] = {"continue_final_message": True, "add_generation_prompt": False}
_OF_REQUEST: Final[Mapping[str, Mapping[str, object]]] = {"vllm": _CONTINUE, "sglang": _CONTINUE}
"""Vendor -> the field of the message, or those of the request, that ask for it."""

_REPEATED: Final = frozenset(
    {
        *(FaultKind.CONNECTION, FaultKind.TIMEOUT, FaultKind.SERVER_ERROR, FaultKind.OVERLOADED),
        *(FaultKind.RATE_LIMITED, FaultKind.QUOTA_EXHAUSTED, FaultKind.INVALID_RESPONSE),
    }
)
"""Breaks that say nothing against the answer itself."""

_LEAST = 16  # tokens that must be left of max_tokens
_QUOTED = 100  # characters of the end that an instruction repeats
_INSTRUCTION = (
    "The connection was lost while you were writing your last message. It ended with {end}. Go on at exactly that "
    "point: what you write now is put directly behind these characters. Do not repeat any of them, do not begin anew, "
    "and say nothing about the interruption."
)


class Asked(Protocol):
    """A provider, as far as it matters here."""

    @property
    def id(self) -> str: ...

    @property
    def vendor(self) -> str: ...

    @property
    def model(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Broken:
    """A stream that broke at ``provider`` for ``kind`` of a reason, told in ``reason``; ``so_far`` is what came of it,
    and ``spent`` the tokens it cost, attempts before it included."""

    provider: Asked
    kind: FaultKind
    reason: str
    so_far: SoFar
    spent: Usage


def tokens_of(response: ChatResponse, prompt: int) -> Usage:
    """About the tokens of an answer that gave no counts: a quarter of its characters."""
    size = len(response.text) + len(response.reasoning) + sum(len(call.arguments) for call in response.tool_calls)
    return Usage(prompt, -(-size // 4), estimated=True)


def ends_well(on_break: str, broken: Broken) -> bool:
    """Whether the answer is whole although its stream broke: only the end of it is missing, or what came are complete
    tool calls.  Not where every break is to be raised, or to be followed by a new answer."""
    if on_break in ("fail", "restart") or broken.kind not in _REPEATED or broken.so_far.unfinished_calls:
        return False
    response = broken.so_far.response()
    if broken.so_far.accumulator.finished:
        return True
    if not response.parts or not isinstance(response.parts[-1], ToolCall):
        return False
    return all(_parses(call) for call in response.tool_calls)


def _parses(call: ToolCall) -> bool:
    try:
        call.parse()
    except ValueError:
        return False
    return True


def resumable(on_break: str, broken: Broken) -> bool:
    """Whether the rest of an answer that its provider keeps may be fetched: nothing is asked anew, so any answer's."""
    return on_break in ("continue", "instruct", "verify") and broken.kind in _REPEATED


def why_not(on_break: str, request: ChatRequest, broken: Broken) -> str | None:
    """Why this break is the end of the call; ``None``: others may be asked to go on."""
    if on_break == "fail":
        return "on_break='fail'"
    if broken.kind not in _REPEATED:
        return "the answer itself is at fault"
    if on_break == "restart":
        return None
    response = broken.so_far.response()
    if any(not isinstance(part, Text) for part in response.parts) or response.alternatives:
        return "only plain text can go on, and there is more in this answer"
    if on_break == "verify":
        repeatable = request.temperature == 0 or request.seed is not None
        return None if repeatable else "without temperature=0 or a seed no model repeats itself"
    return _cannot_be_written_on(request, broken)


def _cannot_be_written_on(request: ChatRequest, broken: Broken) -> str | None:
    if request.output is not None and request.output.kind != "text":
        return "structured output is not written on"
    if request.tool_choice is not None and request.tool_choice.mode == "required":
        return "the request demands a tool call"
    if request.n not in (None, 1) or request.logprobs:
        return "the request wants more than one text"
    if request.reasoning is not None and request.reasoning.effort != "none":
        return "the request wants reasoning, which cannot follow the beginning of an answer"
    if request.messages[-1].role == "assistant":
        return "the conversation ends in the assistant's words already"
    if request.max_tokens is not None and request.max_tokens - broken.spent.output_tokens < _LEAST:
        return f"nearly all of its max_tokens={request.max_tokens} are spent"
    return None


@dataclass(frozen=True, slots=True)
class Resumption:
    """How a call goes on: ``on_break`` says in which way, ``request`` what the caller asked."""

    on_break: str
    request: ChatRequest
    broken: Broken

    def lacking(self, provider: Asked, capabilities: Capabilities | None) -> str | None:
        """Why this provider cannot go on; ``None``: it can.  ``capabilities`` ``None``: code of the user's."""
        before = self.broken.provider
        if self.on_break == "verify" and (provider.vendor, provider.model) != (before.vendor, before.model):
            return f"only {before.model} itself could repeat what it said"
        if self.on_break == "continue" and not _prefills(provider, capabilities):
            return "does not go on with an answer that it is given the beginning of"
        return None

    def asked(self, provider: Asked, capabilities: Capabilities | None) -> tuple[ChatRequest, tuple[Degradation, ...]]:
        """The request for this provider, and what the answer must say about it."""
        if self.on_break not in ("continue", "instruct"):
            return self.request, ()
        text, request = self.broken.so_far.response().text, self.request
        if request.max_tokens is not None:
            request = replace(request, max_tokens=request.max_tokens - self.broken.spent.output_tokens)
        if not text.strip():
            return replace(request, source=None), (Degradation("stream", "asked again after a break"),)
        if _prefills(provider, capabilities):
            request = _prefilled(request, text, provider.vendor)
            return request, (Degradation("stream", "continued after a break, by prefill"),)
        return _instructed(request, text), (Degradation("stream", "continued after a break, by instruction"),)

    def splice(self, provider: Asked, capabilities: Capabilities | None) -> Splice:
        """What joins this provider's events to those that were handed over."""
        broken = self.broken
        spent, name, reason, so_far = broken.spent, provider.id, broken.reason, broken.so_far
        if self.on_break == "restart":
            return Anew(spent, name, reason)
        if self.on_break == "verify":
            return Verified(spent, name, reason, so_far)
        text = so_far.response().text
        join: Join
        if _prefills(provider, capabilities):
            join = AfterPrefill(text, echoes=provider.vendor in _ECHOES)
        else:
            join = AfterInstruction(text)
        return Continued(spent, name, reason, so_far, join)


def _prefills(provider: Asked, capabilities: Capabilities | None) -> bool:
    """Whether it goes on with an answer that it is given the beginning of."""
    if capabilities is None or capabilities.support("prefill") != "full":
        return False
    pattern = CONTINUES.get(provider.vendor)
    known = pattern is not None and re.search(pattern, provider.model) is not None
    return known or capabilities.declares("prefill")


def _prefilled(request: ChatRequest, text: str, vendor: str) -> ChatRequest:
    """The conversation with the beginning of the answer at its end.  Its white space is left out, which some refuse."""
    marks, fields = _OF_MESSAGE.get(vendor), _OF_REQUEST.get(vendor)
    begun = Message(
        "assistant", (Text(text.rstrip()),), extra=None if marks is None else Extra("openai_chat", dict(marks))
    )
    extra = request.extra if fields is None else (*request.extra, Extra("openai_chat", dict(fields)))
    return replace(request, messages=(*request.messages, begun), extra=extra, source=None)


def _instructed(request: ChatRequest, text: str) -> ChatRequest:
    """The conversation with the beginning of the answer, and the request to write on."""
    end = json.dumps(text[-_QUOTED:], ensure_ascii=False)
    turns = (Message("assistant", (Text(text),)), Message("user", (Text(_INSTRUCTION.format(end=end)),)))
    return replace(request, messages=(*request.messages, *turns), source=None)
