"""Chat Completions requests <-> the neutral model.

Field list and content parts: the vendor's API reference as of SDK 3.54.  Compatible vendors differ in small ways,
which a :class:`Dialect` names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import (
    ChatRequest,
    Extra,
    Json,
    JsonObject,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    Reasoning,
    Refusal,
    Role,
    Text,
    Thought,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from resilient_llm.wire._openai_json import (
    as_object,
    as_objects,
    as_text,
    dumps,
    get_bool,
    get_int,
    get_number,
    get_object,
    get_object_if_any,
    get_objects,
    get_text,
    get_texts,
    own_extra,
    request_object,
    rest,
)
from resilient_llm.wire.codec import JSON_HEADERS, HttpRequest
from resilient_llm.wire.fields import Fields, dump, dump_text, forwarded, merge, own, put
from resilient_llm.wire.notes import Notes, extras_for, fields_for

WIRE = "openai_chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a vendor's Chat Completions differ from OpenAI's own; the defaults are OpenAI's.

    ``vendor``
        ``""`` is OpenAI; part of the ``origin`` of thoughts, so that reasoning is never sent to another vendor.
    ``max_tokens_field``
        ``max_completion_tokens``, or ``max_tokens`` for vendors who never followed the renaming.
    ``seed_field``
        ``seed``, or Mistral's ``random_seed``.
    ``developer_role``
        Whether role ``developer`` is understood; else it becomes ``system``.
    ``reasoning_field``
        Where an assistant message carries its reasoning text; DeepSeek and vLLM: ``reasoning_content``, OpenRouter and
        Groq: ``reasoning``.
    ``reasoning_object``
        OpenRouter's ``reasoning: {effort, max_tokens}`` instead of ``reasoning_effort``.
    ``returns_reasoning``
        Whether reasoning of earlier turns may be sent back in the history.
    ``stream_usage``
        Whether ``stream_options.include_usage`` may be asked for.
    ``top_k``
        Whether ``top_k`` is a field.
    ``allowed_tools``, ``named_tool``
        Whether ``tool_choice`` can list tools or name one; else the list of tools is filtered instead.
    ``tool_id_length``
        Tool call ids must be exactly this many letters and digits (Mistral: 9); 0: anything goes.
    ``tool_media``
        Whether tool messages may hold images and files; else these follow in a user message.
    ``media``
        Content part types beyond OpenAI's own, of ``video_url``, ``audio_url`` and ``document_url``.
    ``rejects``
        Request fields the vendor answers with 400; left out with a degradation, or refused if the answer depends on
        them.
    """

    vendor: str = ""
    path: str = "/chat/completions"
    max_tokens_field: str = "max_completion_tokens"
    seed_field: str = "seed"
    developer_role: bool = True
    reasoning_field: str = "reasoning_content"
    reasoning_object: bool = False
    returns_reasoning: bool = True
    stream_usage: bool = True
    top_k: bool = False
    allowed_tools: bool = True
    named_tool: bool = True
    tool_id_length: int = 0
    tool_media: bool = False
    media: frozenset[str] = frozenset()
    rejects: frozenset[str] = frozenset()

    @property
    def origin(self) -> str:
        """What the thoughts of this vendor are marked with."""
        return f"{WIRE}/{self.vendor}" if self.vendor else WIRE


_NUMBERS = ("temperature", "top_p", "frequency_penalty", "presence_penalty")
_COUNTS = ("n", "top_logprobs")
_FLAGS = ("logprobs", "parallel_tool_calls")
_SAME = (*_NUMBERS, *_COUNTS, *_FLAGS, "user")
_MAX_TOKENS = ("max_completion_tokens", "max_tokens")
_SEEDS = ("seed", "random_seed")
_KNOWN = frozenset(
    {
        *(*_SAME, *_MAX_TOKENS, *_SEEDS, "model", "messages", "tools", "tool_choice", "response_format"),
        *("stop", "top_k", "stream", "stream_options", "reasoning_effort", "reasoning"),
    }
)
_HARD = frozenset({"n", "logprobs", "top_logprobs", "tools", "response_format"})
"""Fields whose absence gives another answer than the one asked for."""

MODES: Mapping[str, Literal["auto", "none", "required"]] = {
    "auto": "auto",
    "none": "none",
    "required": "required",
    "any": "required",
}
"""Words for how freely the model may choose among tools; the last is Mistral's."""

REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where compatible vendors put reasoning text, in messages and deltas."""

_PLAIN_ROLES = frozenset({"system", "user"})
_ROLES: Mapping[str, Role] = {role: role for role in ("system", "developer", "user", "assistant", "tool")}


# --- decoding ----------------------------------------------------------------------------------------------


def decode_request(body: bytes, dialect: Dialect) -> ChatRequest:
    """A caller's request.  Raises ``InvalidRequest``."""
    fields = request_object(body)
    messages = get_objects(fields, "messages")
    if not messages:
        raise InvalidRequest("messages must be a list with at least one message")
    extra = rest(fields, _KNOWN)
    tools = _decode_tools(get_objects(fields, "tools"), extra)
    return ChatRequest(
        messages=tuple(decode_message(message, dialect) for message in messages),
        model=get_text(fields, "model") or "",
        tools=tools,
        tool_choice=decode_tool_choice(fields.get("tool_choice"), extra, _decode_named),
        output=_decode_format(get_object(fields, "response_format"), extra),
        reasoning=_decode_reasoning(fields, extra),
        max_tokens=_first_int(fields, _MAX_TOKENS),
        seed=_first_int(fields, _SEEDS),
        top_k=get_int(fields, "top_k"),
        temperature=get_number(fields, "temperature"),
        top_p=get_number(fields, "top_p"),
        frequency_penalty=get_number(fields, "frequency_penalty"),
        presence_penalty=get_number(fields, "presence_penalty"),
        n=get_int(fields, "n"),
        top_logprobs=get_int(fields, "top_logprobs"),
        logprobs=get_bool(fields, "logprobs"),
        parallel_tool_calls=get_bool(fields, "parallel_tool_calls"),
        user=get_text(fields, "user"),
        stop=_decode_stop(fields),
        stream=_decode_stream(fields, extra),
        extra=(Extra(WIRE, extra),) if extra else (),
        source=Extra(WIRE, fields),
    )


def _first_int(fields: Fields, names: Iterable[str]) -> int | None:
    return next((value for name in names if (value := get_int(fields, name)) is not None), None)


def _decode_stop(fields: Fields) -> tuple[str, ...]:
    stop = fields.get("stop")
    return (stop,) if isinstance(stop, str) else get_texts(fields, "stop")


def _decode_stream(fields: Fields, extra: Fields) -> bool:
    options = get_object(fields, "stream_options")
    if options.get("include_usage") is not False:  # usage is asked for in any case
        options = rest(options, ("include_usage",))
    if options:
        extra["stream_options"] = options
    return get_bool(fields, "stream") or False


def _decode_tools(tools: Sequence[Fields], extra: Fields) -> tuple[Tool, ...]:
    functions = [tool for tool in tools if isinstance(tool.get("function"), dict)]
    others = [tool for tool in tools if not isinstance(tool.get("function"), dict)]
    if others:
        extra["tools"] = others
    return tuple(map(decode_tool, functions))


def decode_tool(tool: Fields) -> Tool:
    """A function tool.  Raises ``InvalidRequest``."""
    function = get_object(tool, "function")
    name = get_text(function, "name")
    if not name:
        raise InvalidRequest(f"a tool has no function with a name: {dumps(tool)[:80]}")
    extra = rest(tool, ("type", "function"))
    unknown = rest(function, ("name", "description", "parameters", "strict"))
    if unknown:
        extra["function"] = unknown
    description, parameters = get_text(function, "description"), get_object_if_any(function, "parameters")
    return Tool(name, description, parameters, get_bool(function, "strict"), own_extra(WIRE, extra))


def decode_tool_choice(
    choice: object, extra: Fields, named: Callable[[Fields], ToolChoice | None]
) -> ToolChoice | None:
    """A choice among tools: a word, or an object that ``named`` reads.  One only the vendor knows goes to ``extra``.

    Raises ``InvalidRequest``.
    """
    found: ToolChoice | None = None
    if choice is None:
        return None
    if isinstance(choice, str):
        mode = MODES.get(choice)
        found = ToolChoice(mode) if mode is not None else None
    elif isinstance(choice, dict):
        found = named(cast(Fields, choice))
    else:
        raise InvalidRequest(f"tool_choice has the wrong type: {dumps(choice)[:80]}")
    if found is None:  # a custom or built-in tool, say
        extra["tool_choice"] = choice
    return found


def _decode_named(choice: Fields) -> ToolChoice | None:
    """A choice that names functions."""
    if choice.get("type") == "function":
        name = as_text(as_object(choice.get("function")).get("name"))
        return ToolChoice("required", (name,)) if name else None
    allowed = as_object(choice.get("allowed_tools"))
    mode = MODES.get(as_text(allowed.get("mode")))
    names = tuple(as_text(as_object(tool.get("function")).get("name")) for tool in as_objects(allowed.get("tools")))
    return ToolChoice(mode, names) if mode is not None and names and all(names) else None


def _decode_format(wanted: Fields, extra: Fields) -> OutputFormat | None:
    known = decode_format(wanted, get_object(wanted, "json_schema") if wanted.get("type") == "json_schema" else {})
    if known is None and wanted:
        extra["response_format"] = wanted
    return known


def decode_format(wanted: Fields, schema: Fields) -> OutputFormat | None:
    """The shape an answer shall have; ``schema`` is the object that says more about a ``json_schema``."""
    match wanted.get("type"):
        case "json_schema":
            name, description = get_text(schema, "name"), get_text(schema, "description")
            given, strict = get_object_if_any(schema, "schema"), get_bool(schema, "strict")
            return OutputFormat("json_schema", given, name, description, strict)
        case "json_object":
            return OutputFormat("json_object")
        case "text":
            return OutputFormat("text")
        case _:
            return None


def _decode_reasoning(fields: Fields, extra: Fields) -> Reasoning | None:
    settings = get_object(fields, "reasoning")
    unknown = rest(settings, ("effort", "max_tokens"))
    if unknown:
        extra["reasoning"] = unknown
    effort = get_text(fields, "reasoning_effort") or get_text(settings, "effort")
    budget = get_int(settings, "max_tokens")
    return None if effort is None and budget is None else Reasoning(effort, budget)


def decode_message(message: Fields, dialect: Dialect) -> Message:
    """One message.  Raises ``InvalidRequest``."""
    role = _ROLES.get(as_text(message.get("role")))
    if role is None:  # "function", or a role only this vendor knows
        return Message("user", (Opaque(WIRE, message),))
    if role == "tool":
        return _decode_tool_message(message)
    known = {"role", "content", "name"}
    parts: list[Part] = []
    if role == "assistant":
        known |= {"refusal", "tool_calls", "reasoning_details", *REASONING_FIELDS}
        parts = assistant_parts(message, dialect.origin)
    else:
        parts = _decode_content(message.get("content"))
    return Message(role, tuple(parts), get_text(message, "name"), own_extra(WIRE, rest(message, known)))


def _decode_tool_message(message: Fields) -> Message:
    parts = tuple(
        part if isinstance(part, Text | Media) else Json(part.data if isinstance(part, Opaque) else None)
        for part in _decode_content(message.get("content"))
    )
    known = ("role", "content", "name", "tool_call_id")
    result = ToolResult(as_text(message.get("tool_call_id")), parts, get_text(message, "name"))
    return Message("tool", (result,), extra=own_extra(WIRE, rest(message, known)))


def assistant_parts(message: Mapping[str, object], origin: str) -> list[Part]:
    """What the model said, thought and called; also the parts of an answer's message."""
    parts: list[Part] = []
    thought = _decode_thought(message, origin)
    if thought is not None:
        parts.append(thought)
    content = message.get("content")
    parts += _decode_content(content or None, origin)
    refusal = as_text(message.get("refusal"))
    if refusal:
        parts.append(Refusal(refusal))
    parts += [_decode_call(call) for call in as_objects(message.get("tool_calls"))]
    return parts


def _decode_thought(message: Mapping[str, object], origin: str) -> Thought | None:
    """``extra`` says which field the text was in, so that it goes back into the same."""
    name = next((name for name in REASONING_FIELDS if as_text(message.get(name))), None)
    details = as_objects(message.get("reasoning_details"))
    if name is None and not details:
        return None
    extra: Fields = {"field": name} if name is not None else {}
    if details:
        extra["reasoning_details"] = details
    return Thought(as_text(message.get(name or "")), origin=origin, extra=own_extra(WIRE, extra))


def _decode_call(call: Fields) -> Part:
    function = call.get("function")
    if not isinstance(function, dict) or as_object(call.get("custom")).get("name"):
        return Opaque(WIRE, call)  # a custom tool, whose input is free text
    call_id = call.get("id")
    return ToolCall(
        call_id if isinstance(call_id, str) else "" if call_id is None else str(call_id),
        as_text(as_object(call["function"]).get("name")),
        argument_text(as_object(call["function"]).get("arguments")),
        own_extra(WIRE, rest(call, ("id", "type", "function"))),
    )


def argument_text(arguments: object) -> str:
    """Arguments as JSON text; some vendors send the object itself."""
    if isinstance(arguments, str):
        return arguments
    return "" if arguments is None else dump_text(arguments)


def _decode_content(content: object, origin: str = WIRE) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)]
    return [_decode_part(part, origin) for part in as_objects(content)]


def _decode_part(part: Fields, origin: str) -> Part:
    kind = as_text(part.get("type"))
    extra = rest(part, ("type", kind))
    found: Part | None = None
    if kind in {"text", "refusal"} and isinstance(part.get(kind), str):
        text = as_text(part[kind])
        found = Text(text, extra=own_extra(WIRE, extra)) if kind == "text" else Refusal(text)
    elif kind in _URL_KINDS:
        found = _decode_url(kind, part.get(kind), extra)
    elif kind == "input_audio":
        found = _decode_audio(as_object(part.get(kind)), extra)
    elif kind == "file":
        found = _decode_file(as_object(part.get(kind)), extra)
    elif kind == "thinking":
        pieces = as_objects(part.get(kind))
        found = Thought(
            "".join(as_text(piece.get("text")) for piece in pieces), origin=origin, extra=own_extra(WIRE, extra)
        )
    return Opaque(WIRE, part) if found is None else found


_Kind = Literal["image", "audio", "video", "document"]
_URL_KINDS: Mapping[str, _Kind] = {
    "image_url": "image",
    "video_url": "video",
    "audio_url": "audio",
    "document_url": "document",
}
_DATA_URL = re.compile(r"data:([^;,]*);base64,(.*)", re.DOTALL)


def _decode_url(kind: str, value: object, extra: Fields) -> Media | None:
    """``{"url": ...}``, or the bare string that Mistral also takes."""
    link = {"url": value} if isinstance(value, str) else as_object(value)
    url = link.get("url")
    if not isinstance(url, str):
        return None
    own = own_extra(WIRE, extra | rest(link, ("url",)))
    mime, data = inline(url)
    if data is not None:
        return Media(_URL_KINDS[kind], mime, data, extra=own)
    return Media(_URL_KINDS[kind], url=url, extra=own)


def inline(url: str) -> tuple[str | None, bytes | None]:
    """Type and content of a base64 data URL."""
    match = _DATA_URL.fullmatch(url)
    if match is None:
        return None, None
    try:
        return match[1] or None, base64.b64decode(match[2], validate=True)
    except binascii.Error:
        return None, None


def _decode_audio(audio: Fields, extra: Fields) -> Media | None:
    try:
        data = base64.b64decode(as_text(audio.get("data")), validate=True)
    except ValueError:
        return None
    return Media("audio", f"audio/{as_text(audio.get('format'))}", data, extra=own_extra(WIRE, extra))


def _decode_file(file: Fields, extra: Fields) -> Media | None:
    own = own_extra(WIRE, extra | rest(file, ("file_data", "file_id", "filename")))
    name, file_id, content = (as_text(file.get(key)) or None for key in ("filename", "file_id", "file_data"))
    if file_id is not None:
        return Media("document", file_id=file_id, name=name, extra=own)
    mime, data = inline(content or "")
    if data is None:
        return None
    return Media("document", mime, data, name=name, extra=own)


# --- encoding ----------------------------------------------------------------------------------------------


def encode_request(request: ChatRequest, dialect: Dialect) -> HttpRequest:
    """The request for a vendor of this dialect.  Raises ``UnsupportedFeature``.

    A body that came in on this wire is forwarded: what we do not know may still mean something to the vendor.
    """
    notes = Notes(dialect.origin)
    source = request.source
    if source is not None and source.wire == WIRE:
        body = _forwarded(request, source.fields, dialect)
    else:
        body = _fresh(request, dialect, notes)
    return HttpRequest(dialect.path, dump(body), JSON_HEADERS, notes.all())


def _forwarded(request: ChatRequest, fields: JsonObject, dialect: Dialect) -> Fields:
    body = forwarded(request, fields)
    _ask_for_usage(body, request.stream, dialect)
    if dialect.tool_id_length:
        body["messages"] = [_with_short_ids(message, dialect) for message in as_objects(body.get("messages"))]
    return body


def _ask_for_usage(body: Fields, stream: bool, dialect: Dialect) -> None:
    """Usage comes with a stream only if asked for, and asking without a stream is an error.  A caller who said that it
    is not wanted is obeyed."""
    if not stream or not dialect.stream_usage:
        body.pop("stream_options", None)
    else:
        body["stream_options"] = {"include_usage": True} | rest(as_object(body.get("stream_options")), ())


def wants_usage(request: ChatRequest) -> bool:
    """Whether the caller of a decoded request asked for a chunk with the token counts: it has no choices, and clients
    that did not ask for it need not expect it."""
    source = own(request.source, WIRE)
    return as_object(source.get("stream_options")).get("include_usage") is True


def _with_short_ids(message: Fields, dialect: Dialect) -> Fields:
    message = dict(message)
    if isinstance(message.get("tool_call_id"), str):
        message["tool_call_id"] = _tool_id(as_text(message["tool_call_id"]), dialect)
    if isinstance(message.get("tool_calls"), list):
        calls = as_objects(message["tool_calls"])
        message["tool_calls"] = [{**call, "id": _tool_id(as_text(call.get("id")), dialect)} for call in calls]
    return message


def _tool_id(original: str, dialect: Dialect) -> str:
    """The id, or a hash of it: the same for the call and its result, now and in later requests."""
    length = dialect.tool_id_length
    if not length or (len(original) == length and original.isascii() and original.isalnum()):
        return original
    return hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:length]


def _fresh(request: ChatRequest, dialect: Dialect, notes: Notes) -> Fields:
    body: Fields = {"model": request.model} if request.model else {}
    body["messages"] = _encode_messages(request.messages, dialect, notes)
    _encode_settings(request, body, dialect, notes)
    if request.tools or request.tool_choice is not None:
        _encode_tools(request, body, dialect, notes)
    if request.output is not None:
        body["response_format"] = _encode_format(request.output)
    if request.reasoning is not None:
        _encode_reasoning(request.reasoning, body, dialect, notes)
    if request.stream:
        body["stream"] = True
    if request.extra:
        merge(body, extras_for(WIRE, request.extra, notes))
    _ask_for_usage(body, request.stream, dialect)
    for name in sorted(dialect.rejects & body.keys()) if dialect.rejects else ():
        if name in _HARD:
            raise notes.unsupported(name)
        del body[name]
        notes.add(name, "left out")
    return body


def _encode_settings(request: ChatRequest, body: Fields, dialect: Dialect, notes: Notes) -> None:
    for name in _SAME:
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.max_tokens is not None:
        body[dialect.max_tokens_field] = request.max_tokens
    if request.seed is not None:
        body[dialect.seed_field] = request.seed
    if request.stop:
        body["stop"] = list(request.stop)
    if request.top_k is not None:
        if dialect.top_k:
            body["top_k"] = request.top_k
        else:
            notes.add("top_k", "left out")


def _encode_tools(request: ChatRequest, body: Fields, dialect: Dialect, notes: Notes) -> None:
    tools, choice = request.tools, request.tool_choice
    if choice is not None and choice.mode != "none" and choice.names and not _can_name(choice, dialect):
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        choice = ToolChoice(choice.mode)
        notes.add("tool_choice", "the other tools are left out instead")
    if tools:
        body["tools"] = [_encode_tool(tool, notes) for tool in tools]
    if choice is not None:
        body["tool_choice"] = _encode_tool_choice(choice)


def _can_name(choice: ToolChoice, dialect: Dialect) -> bool:
    single = choice.mode == "required" and len(choice.names) == 1
    return dialect.named_tool if single else dialect.allowed_tools


def _encode_tool(tool: Tool, notes: Notes) -> Fields:
    function = put({"name": tool.name}, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    body: Fields = {"type": "function", "function": function}
    merge(body, fields_for(WIRE, tool.extra, notes))
    return body


def _encode_tool_choice(choice: ToolChoice) -> object:
    if not choice.names or choice.mode == "none":
        return choice.mode
    named = [{"type": "function", "function": {"name": name}} for name in choice.names]
    if choice.mode == "required" and len(named) == 1:
        return named[0]
    return {"type": "allowed_tools", "allowed_tools": {"mode": choice.mode, "tools": named}}


def _encode_format(output: OutputFormat) -> Fields:
    if output.kind != "json_schema":
        return {"type": output.kind}
    schema: Fields = {"name": output.name or "answer"}  # the vendor wants a name
    put(schema, description=output.description, schema=output.schema, strict=output.strict)
    return {"type": "json_schema", "json_schema": schema}


_EFFORTS = ((0, "none"), (2048, "low"), (8192, "medium"))
"""Highest thinking budget in tokens that still counts as this effort; above them all it is "high"."""


def effort_of(reasoning: Reasoning, notes: Notes) -> str | None:
    """The effort asked for, guessed from the budget if need be."""
    effort, budget = reasoning.effort, reasoning.budget
    if budget is None:
        return effort
    if effort is None:
        effort = next((word for limit, word in _EFFORTS if budget <= limit), "high")
    notes.add("reasoning.budget", f"sent as effort {effort}")
    return effort


def _encode_reasoning(reasoning: Reasoning, body: Fields, dialect: Dialect, notes: Notes) -> None:
    if dialect.reasoning_object:
        settings: Fields = {"effort": reasoning.effort} if reasoning.effort is not None else {}
        if reasoning.budget is not None:
            settings["max_tokens"] = reasoning.budget
        body["reasoning"] = settings
    else:
        effort = effort_of(reasoning, notes)
        if effort is not None:
            body["reasoning_effort"] = effort
    merge(body, fields_for(WIRE, reasoning.extra, notes))


# --- messages ----------------------------------------------------------------------------------------------


def _encode_messages(messages: Iterable[Message], dialect: Dialect, notes: Notes) -> list[Fields]:
    """Messages in the order they stand, except that media out of tool results follow the last result of the turn:
    nothing may stand between an assistant's calls and their results."""
    out: list[Fields] = []
    late: list[Fields] = []
    for message in messages:
        if _is_plain(message):  # nearly every message
            out += _released(late) if late else ()
            out.append({"role": message.role, "content": cast(Text, message.parts[0]).text})
            continue
        encoder = _MessageEncoder(dialect, notes)
        results = [encoder.result(part, late) for part in message.parts if isinstance(part, ToolResult)]
        if results and message.role == "tool":  # what only this wire knows about the message belongs to its result
            results[0] |= fields_for(WIRE, message.extra, notes)
        out += results
        others = [part for part in message.parts if not isinstance(part, ToolResult)]
        if others or not results:
            out += _released(late)
            out.append(encoder.message(message, others))
    return out + _released(late)


def _is_plain(message: Message) -> bool:
    """Whether a message is a text and nothing else, said by somebody every dialect knows."""
    if len(message.parts) != 1 or message.extra is not None or message.name is not None:
        return False
    part = message.parts[0]
    return isinstance(part, Text) and not part.annotations and part.extra is None and message.role in _PLAIN_ROLES


def _released(late: list[Fields]) -> list[Fields]:
    waiting: list[Fields] = [{"role": "user", "content": list(late)}] if late else []
    late.clear()
    return waiting


class _MessageEncoder:
    """Writes the parts of one message."""

    def __init__(self, dialect: Dialect, notes: Notes) -> None:
        self._dialect = dialect
        self._notes = notes

    def message(self, message: Message, parts: Sequence[Part]) -> Fields:
        """A message without its tool results."""
        if len(parts) == 1 and isinstance(parts[0], Opaque) and parts[0].wire == WIRE and "role" in parts[0].data:
            return dict(parts[0].data)
        role = "user" if message.role == "tool" else message.role
        if role == "developer" and not self._dialect.developer_role:
            role = "system"
            self._notes.add("developer", "sent as system")
        body: Fields = {"role": role}
        if role == "assistant":
            body |= self._assistant(parts)
        else:
            body["content"] = _content([item for part in parts if (item := self._part(part)) is not None]) or ""
        if message.name is not None:
            body["name"] = message.name
        return body | fields_for(WIRE, message.extra, self._notes)

    def _assistant(self, parts: Sequence[Part]) -> Fields:
        thoughts = [part for part in parts if isinstance(part, Thought)]
        calls = [call for part in parts if (call := self._call(part)) is not None]
        said = [part for part in parts if not isinstance(part, Thought | ToolCall | Refusal) and not _is_call(part)]
        items = [item for part in said if (item := self._spoken(part)) is not None]
        refusal = "".join(part.text for part in parts if isinstance(part, Refusal))
        body = assistant_body(items, self._sendable(thoughts), self._dialect)
        if refusal:
            body["refusal"] = refusal
        if calls:
            body["tool_calls"] = calls
        if not calls and not refusal and body["content"] is None:
            body["content"] = ""
        return body

    def _spoken(self, part: Part) -> Fields | None:
        if isinstance(part, Media):  # the wire has no place for it
            self._notes.add(f"{part.kind} of the assistant", "left out")
            return None
        return self._part(part)

    def _sendable(self, thoughts: Sequence[Thought]) -> list[Thought]:
        own = [part for part in thoughts if part.origin == self._dialect.origin and self._dialect.returns_reasoning]
        if len(own) != len(thoughts):
            self._notes.add("thought", "left out")
        return own

    def _call(self, part: Part) -> Fields | None:
        if isinstance(part, ToolCall):
            call = encode_call(part) | fields_for(WIRE, part.extra, self._notes)
            call["id"] = _tool_id(part.id, self._dialect)
            return call
        return dict(part.data) if isinstance(part, Opaque) and _is_call(part) else None

    def result(self, result: ToolResult, late: list[Fields]) -> Fields:
        """A tool message; media it may not hold go to ``late``."""
        items = [self._result_item(part) for part in result.parts]
        media = [item for item in items if item["type"] != "text"]
        if media and not self._dialect.tool_media:
            items = [item for item in items if item["type"] == "text"]
            late.append({"type": "text", "text": f"Content returned by tool call {result.tool_call_id}:"})
            late += media
            self._notes.add("media in a tool result", "sent in a user message after it")
        if result.is_error:
            self._notes.add("tool_result.is_error", "left out")
        body: Fields = {"role": "tool", "tool_call_id": _tool_id(result.tool_call_id, self._dialect)}
        body["content"] = _content(items) or ("(content follows)" if media else "")
        if result.name is not None:
            body["name"] = result.name
        return body | fields_for(WIRE, result.extra, self._notes)

    def _result_item(self, part: Text | Media | Json) -> Fields:
        match part:
            case Text():
                return self._text(part)
            case Media():
                return self._media(part)
            case _:
                return {"type": "text", "text": dump_text(part.value)}

    def _part(self, part: Part) -> Fields | None:
        match part:
            case Text():
                return self._text(part)
            case Media():
                return self._media(part)
            case Opaque(wire="openai_chat"):
                return dict(part.data)
            case Refusal():
                return {"type": "text", "text": part.text}
            case _:
                self._notes.add(feature(part), "left out")
                return None

    def _text(self, part: Text) -> Fields:
        if part.annotations:
            self._notes.add("annotations", "left out")
        return {"type": "text", "text": part.text} | fields_for(WIRE, part.extra, self._notes)

    def _media(self, part: Media) -> Fields:
        extra = fields_for(WIRE, part.extra, self._notes)
        if part.kind == "audio" and part.data is not None:
            audio = {"data": base64.b64encode(part.data).decode(), "format": audio_format(part.mime_type)}
            return {"type": "input_audio", "input_audio": audio} | extra
        kind = f"{part.kind}_url"
        if part.kind == "document" and part.url is None and kind not in self._dialect.media:
            return {"type": "file", "file": self._file(part)} | extra
        url = part.url if part.url is not None else data_url(part, self._notes)
        if kind != "image_url" and kind not in self._dialect.media:
            raise self._notes.unsupported(kind)
        if kind == "document_url":  # Mistral's, and a bare string
            return {"type": kind, kind: url} | extra
        link: Fields = {"url": url}
        for name in _LINK_FIELDS & extra.keys():
            link[name] = extra.pop(name)
        return {"type": kind, kind: link} | extra

    def _file(self, part: Media) -> Fields:
        file: Fields = (
            {"file_id": part.file_id} if part.file_id is not None else {"file_data": data_url(part, self._notes)}
        )
        if part.name is not None:
            file["filename"] = part.name
        return file


def data_url(part: Media, notes: Notes) -> str:
    """Inline content as a URL."""
    if part.data is None:
        raise notes.unsupported(f"{part.kind} by file id")
    return f"data:{part.mime_type or _FALLBACK_TYPES[part.kind]};base64,{base64.b64encode(part.data).decode()}"


_LINK_FIELDS = frozenset({"detail"})
_FALLBACK_TYPES = {"audio": "audio/wav", "image": "image/png", "video": "video/mp4", "document": "application/pdf"}
"""For media whose type nobody named."""

_AUDIO_FORMATS = {"mpeg": "mp3", "x-wav": "wav", "wave": "wav", "vnd.wave": "wav"}


def audio_format(mime_type: str | None) -> str:
    """The vendor's word for a type of sound."""
    name = (mime_type or "audio/wav").partition("/")[2]
    return _AUDIO_FORMATS.get(name, name)


def _content(items: list[Fields]) -> object:
    """Parts as the wire wants them: one plain text is a string, nothing is nothing."""
    if len(items) == 1 and items[0].keys() == {"type", "text"} and items[0]["type"] == "text":
        return items[0]["text"]
    return items or None


def _is_call(part: Part) -> bool:
    return isinstance(part, Opaque) and part.wire == WIRE and part.data.get("type") == "custom"


def feature(part: Part) -> str:
    """A part's name in a degradation."""
    return f"{part.wire}.{part.data.get('type')}" if isinstance(part, Opaque) else type(part).__name__.lower()


def encode_call(call: ToolCall) -> Fields:
    """A tool call of a message, in a request or an answer."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def assistant_body(items: list[Fields], thoughts: Sequence[Thought], dialect: Dialect) -> Fields:
    """Content and reasoning of an assistant message."""
    if dialect.reasoning_field == "content":  # Mistral: reasoning is a kind of content
        chunks = [_thinking(thought) for thought in thoughts]
        return {"content": [*chunks, *items] if chunks else _content(items)}
    body: Fields = {"content": _content(items)}
    for thought in thoughts:
        extra = own(thought.extra, WIRE)
        name = as_text(extra.get("field")) or dialect.reasoning_field
        if thought.text:
            body[name] = as_text(body.get(name)) + thought.text
        if "reasoning_details" in extra:
            merge(body, {"reasoning_details": extra["reasoning_details"]})
    return body


def _thinking(thought: Thought) -> Fields:
    chunk: Fields = {"type": "thinking", "thinking": [{"type": "text", "text": thought.text}]}
    return chunk | rest(own(thought.extra, WIRE), ("field", "reasoning_details"))
