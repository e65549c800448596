"""What the caller asked, checked and put into the neutral model before anything is sent."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias, TypedDict, cast, get_args

from resilient_llm.capability import OnUnsupported, wrong_arguments
from resilient_llm.errors import CallFailed, InvalidRequest
from resilient_llm.keywords import Explicit, Shown, explicit, unknown
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    Extra,
    Json,
    Media,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from resilient_llm.policy import OnBreak
from resilient_llm.typed import Typed, schema_fault, typed
from resilient_llm.wire import WIRES
from resilient_llm.wire.kit.caching import derived_key
from resilient_llm.wire.openai_chat import decode_message, decode_tool

Messages: TypeAlias = str | Sequence[Message | Mapping[str, object] | tuple[str, str]]
"""A prompt, or a conversation of ``Message`` objects, dicts in OpenAI's shape, and pairs of a role and a text."""

EmbedInputs: TypeAlias = str | Sequence[str] | EmbedRequest
"""A text, several, or a whole request."""

Fallback: TypeAlias = (
    str
    | ChatResponse
    | Callable[[CallFailed], str | ChatResponse]
    | Callable[[CallFailed], Awaitable[str | ChatResponse]]
)
"""A last answer when no provider gave one, or a function (async for the async client) that makes one from the error."""

Validator: TypeAlias = Callable[[ChatResponse], object]
"""Checks an answer: returning ``False`` or raising ``ValueError`` rejects it."""

Validate: TypeAlias = Validator | Literal["tools"]
"""A check of the caller's, or ``"tools"``: every tool call must name a tool that was offered, with arguments that fit
its schema."""


WhenDown: TypeAlias = Literal["wait", "fail"]
"""What a call does when every provider is down: wait behind the outage for a trial to succeed, or fail at once."""


Priority: TypeAlias = Literal["interactive", "batch"]
"""Whether somebody waits for the answer, or it is one of many that are worked off: a batch yields to the others."""


Prefer: TypeAlias = Literal["cheap", "fast", "balanced"]
"""Which of several equals is asked: the one that costs least, the one expected to answer soonest, or a mean of both:
twice the price is worth a second."""


class CallOptions(TypedDict, total=False):
    """How a call is carried out, whatever it asks; :data:`LINES` says what each keyword means."""

    deadline: float | None
    route: str | None
    providers: Iterable[str] | None
    tags: Iterable[str]
    require: Iterable[str]
    conversation: str | None
    idempotent: bool
    idempotency_key: str | None
    when_down: WhenDown
    priority: Priority
    tenant: str | None
    record: bool
    max_cost: float | None
    prefer: Prefer | None
    on_unsupported: OnUnsupported
    on_break: OnBreak | None


class ChatSettings(TypedDict, total=False):
    """What to ask of the model; ``None`` or absent means the vendor's default.  See :data:`LINES`."""

    system: str | None
    tools: Sequence[Tool | Mapping[str, object]] | None
    tool_choice: str | ToolChoice | None
    parallel_tool_calls: bool | None
    reasoning: str | int | Reasoning | None
    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    n: int | None
    logprobs: bool | None
    top_logprobs: int | None
    user: str | None
    extra: Mapping[str, Mapping[str, object]] | None


class UntypedChatOptions(ChatSettings, CallOptions, total=False):
    """Everything ``chat`` takes by keyword besides ``output``, whose class is a type of its own there."""

    allow_empty: bool
    validate: Validate | None
    fallback: Fallback | None


class ChatOptions(UntypedChatOptions, total=False):
    """Everything ``chat`` and ``stream`` take by keyword.  ``validate`` and ``fallback`` are for ``chat`` alone."""

    output: str | Mapping[str, object] | OutputFormat | type[object] | None


LINES: Mapping[str, str] = {
    "deadline": "seconds for everything, queueing and failover included; None: no limit",
    "route": "the name of a provider list; None: the first",
    "providers": "only providers with these ids; None: all of the route",
    "tags": "only providers that were made with all these tags",
    "require": "the same as tags=",
    "conversation": "calls with the same key stay at one provider, and near its prompt cache; None: no preference",
    "idempotent": "False: the call has effects, so nothing runs beside it and it is not repeated once it may have run",
    "idempotency_key": "sent as Idempotency-Key to vendors that document the header (OpenAI); None: not sent",
    "when_down": "when every provider is down: 'wait' behind the outage, or 'fail' at once",
    "record": "True: write down how the call is decided; see client.last_record()",
    "on_unsupported": "a provider lacks what the call needs: 'skip' it, 'degrade' the request, 'error', or a mapping",
    "priority": "'interactive', or 'batch': it yields to the others, and a share of every limit is kept from it",
    "tenant": "calls that must wait are served in turn by tenant; None: those without are one tenant together",
    "max_cost": "the most it may cost, failovers included, in the currency of the prices; None: no limit",
    "prefer": "inside a tier: 'cheap', 'fast', or 'balanced'; None: drawn, better ones more often",
    "on_break": "a stream breaks after content: 'fail', 'restart', 'verify', 'continue', 'instruct'; see policy.Stream",
    "system": "a system message put before the others",
    "tools": "Tool objects, or dicts in OpenAI's shape",
    "tool_choice": "'auto', 'none', 'required', a tool's name, or a ToolChoice",
    "parallel_tool_calls": "whether the model may ask for several tools at once",
    "output": "a pydantic model, dataclass or TypedDict (see response.parsed), a JSON schema, 'json_object', 'text'",
    "reasoning": "an effort word, a budget of tokens, or a Reasoning",
    "max_tokens": "the most tokens the answer may have",
    "temperature": "randomness; the range is the vendor's",
    "top_p": "nucleus sampling: the share of probability to draw from",
    "top_k": "draw from this many most probable tokens",
    "frequency_penalty": "against tokens by how often they came already",
    "presence_penalty": "against tokens that came already",
    "seed": "for answers that can be repeated, as far as the vendor can",
    "stop": "a text, or several, before which the answer ends",
    "n": "how many answers; the others are in response.alternatives",
    "logprobs": "whether to return the probabilities of the answer's tokens",
    "top_logprobs": "how many alternatives to return at each token",
    "user": "an id of your end user, for the vendor",
    "extra": "further fields of one wire's body, as {'anthropic_messages': {...}}",
    "allow_empty": "True: accept an answer without text, refusal or tool call; False: it is rejected",
    "validate": "a check: False or a ValueError asks the next provider; 'tools': tool calls must fit (chat only)",
    "fallback": "a text, a ChatResponse, or a function of the error, as the last answer (chat only)",
}
"""What each keyword means, in one line; ``help(client.chat)`` shows them.  ``None`` is the vendor's default where the
line does not say otherwise."""

_THE_CLIENTS = Shown("the client's")
DEFAULTS: Mapping[str, object] = {
    "deadline": _THE_CLIENTS,
    "on_unsupported": _THE_CLIENTS,
    "on_break": _THE_CLIENTS,
    "idempotent": True,
    "tags": (),
    "require": (),
    "when_down": "wait",
    "priority": "interactive",
    "record": False,
    "allow_empty": False,
}
_STREAM_LINES = {name: line for name, line in LINES.items() if name not in ("validate", "fallback")}

chat_keywords: Explicit = explicit(ChatOptions, LINES, DEFAULTS)
"""For methods that take ``**options: Unpack[ChatOptions]``: see :func:`resilient_llm.keywords.explicit`."""
stream_keywords: Explicit = explicit(ChatOptions, _STREAM_LINES, DEFAULTS)
"""The same without what needs a whole answer."""
call_keywords: Explicit = explicit(CallOptions, LINES, DEFAULTS)


_Rule: TypeAlias = tuple[Callable[[object], bool], str]
"""Whether a value will do, and what it must be."""

_PLAIN = (
    "parallel_tool_calls",
    "temperature",
    "top_p",
    "top_k",
    "frequency_penalty",
    "presence_penalty",
    "seed",
    "n",
    "logprobs",
    "top_logprobs",
    "user",
)
_NUMBERS = frozenset({"temperature", "top_p", "frequency_penalty", "presence_penalty"})
_WHOLE = {"top_k": 0, "seed": -math.inf, "n": 1, "top_logprobs": 0}
"""Settings that are whole numbers, and the least that makes sense."""
_SWITCHES = frozenset({"parallel_tool_calls", "logprobs"})
_CHAT_OPTIONS = frozenset(ChatOptions.__annotations__) | frozenset(ChatSettings.__annotations__)
_CALL_OPTIONS = frozenset(CallOptions.__annotations__)
_ROLES = frozenset(get_args(Role))
_CHOICES = {"auto": ToolChoice("auto"), "none": ToolChoice("none"), "required": ToolChoice("required")}
_FORMATS = {"text": OutputFormat("text"), "json_object": OutputFormat("json_object")}


def chat_request(messages: Messages | ChatRequest, options: ChatOptions, *, stream: bool) -> ChatRequest:
    """The request these arguments mean.  Raises ``InvalidRequest`` naming what is wrong with them."""
    check_call(options, _CHAT_OPTIONS)
    if isinstance(messages, ChatRequest):
        request = _whole_request(messages, options, stream=stream)
    else:
        request = _built_request(messages, options, stream=stream)
    if options.get("conversation") is None or request.cache_key is not None:
        return request
    try:
        return replace(request, cache_key=derived_key(request))
    except TypeError as error:
        raise InvalidRequest(f"tools cannot be written as JSON: {error}") from error


def _built_request(messages: Messages, options: ChatOptions, *, stream: bool) -> ChatRequest:
    turns = _messages(messages, options.get("system"))
    if not options:
        return ChatRequest(turns, stream=stream)
    given = cast(dict[str, Any], options)
    plain = {name: _plain(name, given[name]) for name in _PLAIN if name in given}
    return ChatRequest(
        turns,
        tools=_tools(options.get("tools")),
        tool_choice=_tool_choice(options.get("tool_choice")),
        output=_output(options.get("output")),
        reasoning=_reasoning(options.get("reasoning")),
        max_tokens=_count("max_tokens", options.get("max_tokens")),
        stop=_stop(options.get("stop")),
        idempotency_key=options.get("idempotency_key"),
        allow_empty=options.get("allow_empty", False),
        extra=_extra(options.get("extra")),
        stream=stream,
        **plain,
    )


def _whole_request(request: ChatRequest, options: ChatOptions, *, stream: bool) -> ChatRequest:
    for name in options:
        if name in ChatSettings.__annotations__ or name == "output":
            raise InvalidRequest(f"{name}= must be set in the ChatRequest itself, not beside it")
    key = options.get("idempotency_key", request.idempotency_key)
    allow_empty = options.get("allow_empty", request.allow_empty)
    if (request.stream, request.idempotency_key, request.allow_empty) == (stream, key, allow_empty):
        return request
    return replace(request, stream=stream, idempotency_key=key, allow_empty=allow_empty)


def embed_request(inputs: EmbedInputs, dimensions: int | None, options: CallOptions) -> EmbedRequest:
    """The request these arguments mean.  Raises ``InvalidRequest`` naming what is wrong with them."""
    check_call(options)
    if isinstance(inputs, EmbedRequest):
        if dimensions is not None:
            raise InvalidRequest("dimensions= must be set in the EmbedRequest itself, not beside it")
        return inputs
    return EmbedRequest(
        _texts(inputs), dimensions=_count("dimensions", dimensions), idempotency_key=options.get("idempotency_key")
    )


def _texts(inputs: object) -> tuple[str, ...]:
    given = inputs  # its type is not narrowed by what is asked below
    needs = "embed needs a non-empty text or a sequence of them, not"
    if isinstance(inputs, str) and inputs:
        return (inputs,)
    if not isinstance(inputs, Iterable) or isinstance(inputs, str | bytes | Mapping):
        raise InvalidRequest(f"{needs} {_short(given)}")
    texts: list[str] = []
    for text in cast("Iterable[object]", inputs):
        if not isinstance(text, str) or not text:
            raise InvalidRequest(f"{needs} {_short(text)} (number {len(texts)} of them)")
        texts.append(text)
    if not texts:
        raise InvalidRequest(f"{needs} {_short(given)}")
    return tuple(texts)


def check_call(options: CallOptions, known: frozenset[str] = _CALL_OPTIONS) -> None:
    """Raise ``InvalidRequest`` for a name that is no option, and for a value that none of them takes."""
    for name, value in options.items():
        if name not in known:
            raise InvalidRequest(unknown(name, known, "option"))
        rule = _RULES.get(name)
        if rule is not None and not rule[0](value):
            raise InvalidRequest(f"{name} must be {rule[1]}, not {_short(value)}")


def _is_key(value: object) -> bool:
    text = isinstance(value, str) and value.isascii() and value.isprintable()
    return value is None or (text and 0 < len(cast(str, value)) <= 255)


def _is_amount(value: object) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or (number and 0 < cast(float, value) < math.inf)


def _one_of(*words: object) -> tuple[Callable[[object], bool], str]:
    *others, last = [word if word is None else repr(word) for word in words]
    return (lambda value: value in words), f"{', '.join(map(str, others))} or {last}"


_SWITCH: _Rule = (lambda value: isinstance(value, bool), "True or False")
_RULES: Mapping[str, _Rule] = {
    "conversation": (lambda value: isinstance(value, str | None), "a string or None"),
    "idempotency_key": (_is_key, "printable ASCII text of at most 255 characters, or None"),
    "max_cost": (_is_amount, "a number above 0 or None"),
    "on_break": _one_of(*get_args(OnBreak), None),
    "prefer": _one_of(*get_args(Prefer), None),
    "priority": _one_of(*get_args(Priority)),
    "tenant": (lambda value: value is None or (isinstance(value, str) and bool(value)), "a text, not empty, or None"),
    "when_down": _one_of(*get_args(WhenDown)),
    **dict.fromkeys(("idempotent", "allow_empty", "record"), _SWITCH),
}
"""What the values of options must be."""


def output_class(options: ChatOptions) -> Typed | None:
    """The class given as ``output=``, as the shape of an answer; ``None`` if it is no class."""
    output = options.get("output")
    return typed(output) if isinstance(output, type) else None


def answer_check(request: ChatRequest, options: ChatOptions) -> Validator | None:
    """What an answer must pass: it says something, it fits ``output=``, and ``validate=`` does not reject it.

    Sets ``parsed`` on the answer.  ``None`` if there is nothing to check.
    """
    allow_empty = request.allow_empty
    if "validate" not in options and "output" not in options:  # nearly always
        return None if allow_empty else not_empty
    check = _validator(request, options.get("validate"))
    kind = output_class(options)
    if kind is None and check is None:
        return None if allow_empty else not_empty

    def checked(response: ChatResponse) -> object:
        if not allow_empty:
            not_empty(response)
        if kind is not None:
            kind.fill(response)
        return check(response) if check is not None else None

    return checked


def _validator(request: ChatRequest, validate: Validate | None) -> Validator | None:
    """The check that ``validate=`` names, or is."""
    if not isinstance(validate, str):
        return validate

    def fitting(response: ChatResponse) -> None:
        wrong = wrong_arguments(response, request.tools)
        if wrong is not None:
            raise ValueError(wrong)

    return fitting


def not_empty(response: ChatResponse) -> None:
    """Raise ``ValueError`` for an answer that says nothing."""
    if response.is_empty:
        raise ValueError("the answer is empty, without refusal or tool call (allow_empty=True accepts it)")


def ids(name: str, value: object) -> frozenset[str]:
    """Provider ids or tags as a set.  Raises ``InvalidRequest`` for anything but strings, and for a lone string, which
    would be taken for its letters."""
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise InvalidRequest(f"{name} must be a list of strings, not {_short(value)}")
    found = tuple(cast(Iterable[object], value))
    for one in found:
        if not isinstance(one, str):
            raise InvalidRequest(f"{name} must be a list of strings, but {_short(one)} is in it")
    return frozenset(cast(tuple[str, ...], found))


def seconds(deadline: float | None) -> float:
    """The call's time as a number; infinite for ``None``.  Raises ``InvalidRequest`` unless it is above 0."""
    if deadline is None:
        return math.inf
    if isinstance(deadline, bool) or not isinstance(deadline, int | float) or not deadline > 0:
        raise InvalidRequest(f"deadline must be a number of seconds above 0 or None, not {deadline!r}")
    return float(deadline)


_MEDIA = 4 * 1000  # bytes of text that take as many tokens as a picture
_LITTLE = 64  # the same for what stands around the text of a part that is more than text


def prompt_tokens(request: ChatRequest) -> int:
    """About how long the prompt is: a quarter of its bytes, so that other scripts than Latin count more, calls and
    results of tools included, and for a picture or file what a picture usually takes.  Pace corrects it by what each
    provider counts."""
    size = 0
    for message in request.messages:
        for part in message.parts:
            size += _size(part)
    return size // 4


def _size(part: object) -> int:
    if isinstance(part, Text):
        return len(part.text) if part.text.isascii() else len(part.text.encode(errors="replace"))
    if isinstance(part, Media):
        return _MEDIA
    if isinstance(part, ToolResult):
        return _LITTLE + sum(_size(inner) for inner in part.parts)
    if isinstance(part, Json):
        return len(str(part.value))
    return _LITTLE + (len(part.arguments) if isinstance(part, ToolCall) else 0)


# --- the pieces --------------------------------------------------------------------------------------------


def _messages(messages: Messages, system: str | None) -> tuple[Message, ...]:
    if isinstance(messages, str):
        if not messages.strip():
            raise InvalidRequest("the prompt is empty; give some text")
        turns: tuple[Message, ...] = (Message("user", (Text(messages),)),)
    else:
        if isinstance(messages, Message | Mapping | bytes) or not isinstance(messages, Iterable):
            hint = "; put it in a list" if isinstance(messages, Message | Mapping) else ""
            raise InvalidRequest(f"messages must be a string or a sequence of messages, not {_short(messages)}{hint}")
        turns = tuple(_message(message, index) for index, message in enumerate(messages))
        if not turns:
            raise InvalidRequest("messages is empty; give at least one message")
    if system is None:
        return turns
    if not isinstance(system, str):
        raise InvalidRequest(f"system must be a string, not {_short(system)}")
    return (Message("system", (Text(system),)), *turns)


def _message(message: Message | Mapping[str, object] | tuple[str, str], index: int) -> Message:
    if isinstance(message, Message):
        return _checked(message, index)
    if isinstance(message, tuple) and len(message) == 2:
        message = {"role": message[0], "content": message[1]}
    if not isinstance(message, Mapping):
        raise InvalidRequest(
            f"messages[{index}] must be a Message, a dict, or a pair of a role and a text, not {_short(message)}"
        )
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRequest(f"messages[{index}] has the role {role!r}; it must be one of {', '.join(sorted(_ROLES))}")
    content = given = message.get("content")
    if not isinstance(content, str | list | tuple) and not (content is None and role == "assistant"):
        raise InvalidRequest(f"messages[{index}] must have text or a list of parts as content, not {_short(content)}")
    if content and not isinstance(content, str):
        content = [_openai_part(part, f"messages[{index}]") for part in cast("Sequence[object]", content)]
        message = {**message, "content": content}
    if role == "assistant":
        _check_calls(message.get("tool_calls"), f"messages[{index}]")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise InvalidRequest(f"messages[{index}] has the role 'tool' and needs a tool_call_id")
    try:
        return _owned(decode_message(message), given)
    except (TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(f"messages[{index}] is malformed: {error}") from error


def _checked(message: Message, index: int) -> Message:
    if message.role not in _ROLES:
        raise InvalidRequest(
            f"messages[{index}] has the role {message.role!r}; it must be one of {', '.join(sorted(_ROLES))}"
        )
    if not isinstance(message.parts, tuple) or not all(isinstance(part, Part) for part in message.parts):
        raise InvalidRequest(f"messages[{index}] must have a tuple of parts, not {_short(message.parts)}")
    for part in message.parts:
        if isinstance(part, Media):
            _check_url(part.url, f"messages[{index}]")
    return message


def _owned(message: Message, given: object) -> Message:
    """The message, with what stands beside media in Anthropic's shape kept for that wire alone: ``cache_control``."""
    written_parts = cast("Sequence[object]", given) if isinstance(given, list | tuple) else ()
    if len(written_parts) != len(message.parts):
        return message
    pairs = zip(message.parts, written_parts, strict=True)
    parts = tuple(
        replace(part, extra=Extra("anthropic_messages", part.extra.fields))
        if isinstance(part, Media) and part.extra is not None and "source" in _fields_of(written)
        else part
        for part, written in pairs
    )
    return message if parts == message.parts else replace(message, parts=parts)


def _openai_part(part: object, where: str) -> Mapping[str, object]:
    """A part of a message in OpenAI's shape; an image or a document in Anthropic's is put into it."""
    if not isinstance(part, Mapping):
        raise InvalidRequest(f"{where} has a part that is no dict: {_short(part)}")
    fields = cast("Mapping[str, object]", part)
    kind = fields.get("type")
    if kind == "text" and not isinstance(fields.get("text"), str):
        raise InvalidRequest(f"{where} has a part of type 'text' without a text: {_short(fields)}")
    if kind == "image_url":
        link = fields.get("image_url")
        url = link if isinstance(link, str) else _fields_of(link).get("url")
        if not isinstance(url, str) or not url:
            raise InvalidRequest(f"{where} has a part of type 'image_url' without a url: {_short(fields)}")
        _check_url(url, where)
    if kind in ("image", "document") and "source" in fields:
        return _from_anthropic(fields, where)
    if kind in ("tool_use", "tool_result"):
        raise InvalidRequest(
            f"{where} has a part of type {kind!r}, which is Anthropic's; use tool_calls and the role 'tool'"
        )
    return fields


def _from_anthropic(fields: Mapping[str, object], where: str) -> Mapping[str, object]:
    """An image or a document of Anthropic's shape in OpenAI's."""
    source, kind = _fields_of(fields["source"]), fields["type"]
    data, url, mime = source.get("data"), source.get("url"), source.get("media_type")
    if source.get("type") == "base64" and isinstance(data, str) and isinstance(mime, str):
        url = f"data:{mime};base64,{data}"
    elif source.get("type") != "url" or not isinstance(url, str):
        raise InvalidRequest(f"{where} has a part of type {kind!r} whose source is neither base64 nor a url")
    _check_url(url, where)
    beside = {name: value for name, value in fields.items() if name not in ("type", "source", "title")}
    if kind == "image":
        return {"type": "image_url", "image_url": {"url": url}, **beside}
    if source.get("type") == "url":
        return {"type": "document_url", "document_url": url, **beside}
    named = {"filename": fields["title"]} if "title" in fields else {}
    return {"type": "file", "file": {"file_data": url, **named}, **beside}


_SCHEME = r"[A-Za-z][A-Za-z0-9+.-]+:"


def _check_url(url: str | None, where: str) -> None:
    """Refuse what no provider could fetch: a path on this machine."""
    if url is not None and (re.match(_SCHEME, url) is None or url[:5].lower() == "file:"):
        raise InvalidRequest(
            f"{where} has media at {_short(url)}, which is no URL that a provider can fetch; read the file and pass "
            "its content, as Media(kind, mime_type, data) or as a data: URL"
        )


def _check_calls(calls: object, where: str) -> None:
    if calls is None:
        return
    if not isinstance(calls, list | tuple):
        raise InvalidRequest(f"{where} must have a list of tool_calls, not {_short(calls)}")
    for call in cast("Sequence[object]", calls):
        fields = _fields_of(call)
        if not (_text_in(fields.get("function"), "name") or _text_in(fields.get("custom"), "name")):
            raise InvalidRequest(f"{where} has a tool call without a function's name: {_short(call)}")


def _fields_of(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _text_in(value: object, key: str) -> bool:
    """Whether this is an object with a text of this name."""
    found = cast("Mapping[str, object]", value).get(key) if isinstance(value, Mapping) else None
    return isinstance(found, str) and bool(found)


def _tools(tools: Sequence[Tool | Mapping[str, object]] | None) -> tuple[Tool, ...]:
    if isinstance(tools, Tool | Mapping | str) or not isinstance(tools, Iterable | None):
        raise InvalidRequest(f"tools must be a list of tools, not {_short(tools)}")
    built = tuple(_tool(tool, index) for index, tool in enumerate(tools or ()))
    names = [tool.name for tool in built]
    for name in names:
        if names.count(name) > 1:
            raise InvalidRequest(f"two tools have the name {name!r}")
    return built


def _tool(tool: Tool | Mapping[str, object], index: int) -> Tool:
    if isinstance(tool, Mapping):
        nested = tool.get("function")
        fields = tool if isinstance(nested, Mapping) else {"type": "function", "function": tool}
        tool = decode_tool(fields)
    if not isinstance(tool, Tool) or not tool.name:
        raise InvalidRequest(f"tools[{index}] has no name")
    return tool


def _tool_choice(choice: str | ToolChoice | None) -> ToolChoice | None:
    if choice is None or isinstance(choice, ToolChoice):
        return choice
    if isinstance(choice, str) and choice in _CHOICES:
        return _CHOICES[choice]
    if not isinstance(choice, str) or not choice:
        raise InvalidRequest(f"tool_choice must be 'auto', 'none', 'required' or a tool's name, not {choice!r}")
    return ToolChoice("required", (choice,))


def _output(output: str | Mapping[str, object] | OutputFormat | type[object] | None) -> OutputFormat | None:
    if output is None or isinstance(output, OutputFormat):
        return output
    if isinstance(output, type):
        kind = typed(output)
        return OutputFormat("json_schema", schema=kind.schema, name=kind.name)
    if isinstance(output, Mapping):
        return _format(output)
    if isinstance(output, str) and output in _FORMATS:
        return _FORMATS[output]
    raise InvalidRequest(
        "output must be 'text', 'json_object', a JSON schema, an OutputFormat, a pydantic model, a dataclass or a "
        f"TypedDict, not {_short(output)}"
    )


def _format(output: Mapping[str, object]) -> OutputFormat:
    """A JSON schema, or what OpenAI's ``response_format`` or ``text.format`` takes."""
    kind = output.get("type")
    if kind in ("text", "json_object") and len(output) == 1:
        return _FORMATS[kind]
    if kind != "json_schema":
        return _schema_format(output, {})
    fields = _fields_of(output.get("json_schema", output))
    if not isinstance(fields.get("schema"), Mapping):
        raise InvalidRequest(f"output has the type 'json_schema' and no schema in it: {_short(output)}")
    return _schema_format(cast("Mapping[str, object]", fields["schema"]), fields)


def _schema_format(schema: Mapping[str, object], about: Mapping[str, object]) -> OutputFormat:
    fault = schema_fault(schema)
    if fault is not None:
        raise InvalidRequest(f"output is no JSON schema: {fault}; it is {_short(schema)}")
    name, description, strict = about.get("name", "answer"), about.get("description"), about.get("strict")
    if not isinstance(name, str) or not isinstance(description, str | None) or not isinstance(strict, bool | None):
        raise InvalidRequest(f"output has a name, a description or a strict of the wrong type: {_short(about)}")
    return OutputFormat("json_schema", schema=schema, name=name, description=description, strict=strict)


def _reasoning(reasoning: str | int | Reasoning | None) -> Reasoning | None:
    if reasoning is None or isinstance(reasoning, Reasoning):
        return reasoning
    if isinstance(reasoning, bool) or not isinstance(reasoning, str | int):
        raise InvalidRequest(f"reasoning must be an effort word, a token budget or a Reasoning, not {reasoning!r}")
    return Reasoning(effort=reasoning) if isinstance(reasoning, str) else Reasoning(budget=reasoning)


def _plain(name: str, value: Any) -> Any:
    """A setting that goes out as it is.  NaN and infinity are no JSON, and a provider would be blamed for them."""
    if value is None:
        return value
    if name in _NUMBERS and (isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)):
        raise InvalidRequest(f"{name} must be a finite number or None, not {_short(value)}")
    least = _WHOLE.get(name)
    if least is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
        bound = f" of at least {least:.0f}" if math.isfinite(least) else ""
        raise InvalidRequest(f"{name} must be a whole number{bound} or None, not {_short(value)}")
    if name in _SWITCHES and not isinstance(value, bool):
        raise InvalidRequest(f"{name} must be True, False or None, not {_short(value)}")
    if name == "user" and not isinstance(value, str):
        raise InvalidRequest(f"user must be a string or None, not {_short(value)}")
    return value


def _count(name: str, value: int | None) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise InvalidRequest(f"{name} must be a whole number of at least 1 or None, not {_short(value)}")
    return value


def _stop(stop: str | Sequence[str] | None) -> tuple[str, ...]:
    if stop is None:
        return ()
    words = (stop,) if isinstance(stop, str) else tuple(stop) if isinstance(stop, Iterable) else (stop,)
    if not all(isinstance(word, str) and word for word in words):
        raise InvalidRequest(f"stop must be a string or a list of strings, none of them empty, not {_short(stop)}")
    return words


def _extra(extra: Mapping[str, Mapping[str, object]] | None) -> tuple[Extra, ...]:
    if not isinstance(extra, Mapping | None):
        raise InvalidRequest(f"extra must be a mapping of wire names to fields, not {_short(extra)}")
    for wire, fields in (extra or {}).items():
        if wire not in WIRES:
            raise InvalidRequest(f"extra has fields for {wire!r}; the wire names are {', '.join(sorted(WIRES))}")
        if not isinstance(fields, Mapping):
            raise InvalidRequest(f"extra[{wire!r}] must be a mapping of fields, not {_short(fields)}")
    return tuple(Extra(wire, fields) for wire, fields in (extra or {}).items())


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
