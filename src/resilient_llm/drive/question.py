"""What the caller asked, checked and put into the neutral model before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypedDict, cast, get_args

from resilient_llm.capability import OnUnsupported
from resilient_llm.errors import CallFailed, InvalidRequest
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    Extra,
    Message,
    OutputFormat,
    Part,
    Reasoning,
    Role,
    Text,
    Tool,
    ToolChoice,
)
from resilient_llm.wire import WIRES
from resilient_llm.wire.openai_chat import decode_message, decode_tool

Messages: TypeAlias = str | Sequence[Message | Mapping[str, object]]
"""A prompt, or a conversation of ``Message`` objects and dicts in OpenAI's shape."""

Fallback: TypeAlias = (
    str
    | ChatResponse
    | Callable[[CallFailed], str | ChatResponse]
    | Callable[[CallFailed], Awaitable[str | ChatResponse]]
)
"""A last answer when no provider gave one, or a function (async for the async client) that makes one from the error."""

Validator: TypeAlias = Callable[[ChatResponse], object]
"""Checks an answer: returning ``False`` or raising ``ValueError`` rejects it."""


class CallOptions(TypedDict, total=False):
    """How a call is carried out, whatever it asks.

    ``deadline``: seconds for everything, queueing and failover included; ``None``: no limit (default: the client's).
    ``route``: which provider list (default: the first).  ``providers``: only these ids.  ``require``: only providers
    with all these tags. ``idempotent=False``: the call may have effects, so nothing runs beside it and it is not
    repeated once a provider may have acted on it.  ``conversation``: keeps calls with the same key at the same
    provider while that is healthy.  ``on_unsupported``: what to do about a provider that lacks a feature the
    call needs (default: the client's).
    """

    deadline: float | None
    route: str | None
    providers: Iterable[str] | None
    require: Iterable[str]
    idempotent: bool
    conversation: str | None
    on_unsupported: OnUnsupported


class ChatSettings(TypedDict, total=False):
    """What to ask of the model; ``None`` or absent means the vendor's default.

    ``tools`` are ``Tool`` objects or dicts in OpenAI's shape, ``tool_choice`` is ``"auto"``, ``"none"``,
    ``"required"``, a tool's name or a ``ToolChoice``.  ``output``: ``"text"``, ``"json_object"``, a JSON schema, or
    an ``OutputFormat``.  ``reasoning``: an effort word, a token budget, or a ``Reasoning``.  ``extra``: fields for
    one wire's body, as ``{"anthropic_messages": {...}}``.
    """

    system: str | None
    tools: Sequence[Tool | Mapping[str, object]] | None
    tool_choice: str | ToolChoice | None
    parallel_tool_calls: bool | None
    output: str | Mapping[str, object] | OutputFormat | None
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


class ChatOptions(ChatSettings, CallOptions, total=False):
    """Everything ``chat`` and ``stream`` take by keyword.  ``validate`` and ``fallback`` are for ``chat`` alone."""

    validate: Validator | None
    fallback: Fallback | None


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
    _check_names(options, _CHAT_OPTIONS)
    if isinstance(messages, ChatRequest):
        return _whole_request(messages, options, stream=stream)
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
        extra=_extra(options.get("extra")),
        stream=stream,
        **plain,
    )


def _whole_request(request: ChatRequest, options: ChatOptions, *, stream: bool) -> ChatRequest:
    for name in options:
        if name in ChatSettings.__annotations__:
            raise InvalidRequest(f"{name}= must be set in the ChatRequest itself, not beside it")
    return request if request.stream is stream else replace(request, stream=stream)


def embed_request(inputs: str | Sequence[str], dimensions: int | None, options: CallOptions) -> EmbedRequest:
    """The request these arguments mean.  Raises ``InvalidRequest`` naming what is wrong with them."""
    _check_names(options, _CALL_OPTIONS)
    texts = (inputs,) if isinstance(inputs, str) else tuple(inputs) if isinstance(inputs, Iterable) else ()
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise InvalidRequest(f"embed needs a non-empty text or a sequence of them, not {_short(inputs)}")
    return EmbedRequest(texts, dimensions=_count("dimensions", dimensions))


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


def prompt_tokens(request: ChatRequest) -> int:
    """About how long the prompt is: a quarter of its characters, which is near enough for timeouts and limits."""
    size = 0
    for message in request.messages:
        for part in message.parts:
            size += len(part.text) if isinstance(part, Text) else 64
    return size // 4


# --- the pieces --------------------------------------------------------------------------------------------


def _check_names(options: Mapping[str, object], known: frozenset[str]) -> None:
    for name in options:
        if name not in known:
            raise InvalidRequest(f"there is no option {name!r}; there are {', '.join(sorted(known))}")


def _messages(messages: Messages, system: str | None) -> tuple[Message, ...]:
    if isinstance(messages, str):
        if not messages.strip():
            raise InvalidRequest("the prompt is empty; give some text")
        turns: tuple[Message, ...] = (Message("user", (Text(messages),)),)
    else:
        if isinstance(messages, Message | Mapping | bytes) or not isinstance(messages, Iterable):
            raise InvalidRequest(f"messages must be a string or a sequence of messages, not {_short(messages)}")
        turns = tuple(_message(message, index) for index, message in enumerate(messages))
        if not turns:
            raise InvalidRequest("messages is empty; give at least one message")
    if system is None:
        return turns
    if not isinstance(system, str):
        raise InvalidRequest(f"system must be a string, not {_short(system)}")
    return (Message("system", (Text(system),)), *turns)


def _message(message: Message | Mapping[str, object], index: int) -> Message:
    if isinstance(message, Message):
        if message.role not in _ROLES:
            raise InvalidRequest(
                f"messages[{index}] has the role {message.role!r}; it must be one of {', '.join(sorted(_ROLES))}"
            )
        if not isinstance(message.parts, tuple) or not all(isinstance(part, Part) for part in message.parts):
            raise InvalidRequest(f"messages[{index}] must have a tuple of parts, not {_short(message.parts)}")
        return message
    if not isinstance(message, Mapping):
        raise InvalidRequest(f"messages[{index}] must be a Message or a dict, not {_short(message)}")
    role = message.get("role")
    if role not in _ROLES:
        raise InvalidRequest(f"messages[{index}] has the role {role!r}; it must be one of {', '.join(sorted(_ROLES))}")
    content = message.get("content")
    if not isinstance(content, str | list | tuple) and not (content is None and role == "assistant"):
        raise InvalidRequest(f"messages[{index}] must have text or a list of parts as content, not {_short(content)}")
    if not isinstance(content, str):
        _check_parts(cast("Sequence[object]", content or ()), f"messages[{index}]")
    if role == "assistant":
        _check_calls(message.get("tool_calls"), f"messages[{index}]")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise InvalidRequest(f"messages[{index}] has the role 'tool' and needs a tool_call_id")
    try:
        return decode_message(message)
    except (TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(f"messages[{index}] is malformed: {error}") from error


def _check_parts(parts: Sequence[object], where: str) -> None:
    for part in parts:
        if not isinstance(part, Mapping):
            raise InvalidRequest(f"{where} has a part that is no dict: {_short(part)}")
        fields = cast("Mapping[str, object]", part)
        if fields.get("type") == "text" and not isinstance(fields.get("text"), str):
            raise InvalidRequest(f"{where} has a part of type 'text' without a text: {_short(fields)}")
        if fields.get("type") == "image_url" and not _text_in(fields.get("image_url"), "url"):
            raise InvalidRequest(f"{where} has a part of type 'image_url' without a url: {_short(fields)}")


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


def _output(output: str | Mapping[str, object] | OutputFormat | None) -> OutputFormat | None:
    if output is None or isinstance(output, OutputFormat):
        return output
    if isinstance(output, Mapping):
        return OutputFormat("json_schema", schema=output, name="answer")
    if output in _FORMATS:
        return _FORMATS[output]
    raise InvalidRequest(f"output must be 'text', 'json_object', a JSON schema or an OutputFormat, not {output!r}")


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
