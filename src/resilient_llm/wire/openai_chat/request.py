"""Chat Completions requests <-> the neutral model (field list and content parts: API reference as of SDK 3.54).

Compatible vendors differ in small ways, which a :class:`Dialect` names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai as o
from resilient_llm.wire.kit.caching import MARK, sent_key
from resilient_llm.wire.kit.notes import Notes, extras_for, fields_for, lose_marks
from resilient_llm.wire.kit.tools import decode_tool, forced_tool, said
from resilient_llm.wire.openai_chat import parts as p
from resilient_llm.wire.protocol import JSON_HEADERS, HttpRequest
from resilient_llm.wire.settings import read_rest, write_settings

_HARD = frozenset({"n", "logprobs", "top_logprobs", "tools", "response_format"})
"""Fields whose absence gives another answer than the one asked for."""
_PLAIN = frozenset({"model", "stream"})
"""What stands beside the messages of most requests."""
_FEATURES = {"response_format": Feature.JSON_SCHEMA, "reasoning_effort": Feature.REASONING}


def decode_request(whole: f.Fields, dialect: p.Dialect) -> m.ChatRequest:
    """A caller's request.  Raises ``Malformed``."""
    fields = dict(whole)
    messages = f.take_list(fields, "messages", lone=False)
    if not messages:
        raise f.Malformed("messages must be a list with at least one message")
    turns = tuple([p.decode_message(f.object_of(message, "a message"), dialect) for message in messages])
    if _PLAIN.issuperset(fields):
        return m.ChatRequest(turns, **read_rest(p.WIRE, fields, whole))
    choice, options, wanted = (fields.pop(name, None) for name in ("tool_choice", "stream_options", "response_format"))
    options = f.object_of(options or {}, "stream_options")
    if options.get("include_usage") is not False:  # usage is asked for in any case
        options.pop("include_usage", None)
    f.put(fields, stream_options=options or None)
    tools = _decode_tools(f.take_list(fields, "tools", lone=False), fields)
    wanted = f.object_of(wanted or {}, "response_format")
    output = o.decode_format(wanted, f.object_of(wanted.get("json_schema") or {}, "json_schema"))
    reasoning = f.take_object(fields, "reasoning") or {}
    effort, budget = f.take_text(reasoning, "effort"), f.take_int(reasoning, "max_tokens")
    effort = f.take_text(fields, "reasoning_effort") or effort
    f.put(fields, response_format=None if output else wanted or None, reasoning=reasoning or None)
    return m.ChatRequest(
        messages=turns,
        tools=tools,
        tool_choice=o.decode_tool_choice(choice, fields, _decode_named),
        output=output,
        reasoning=None if effort is None and budget is None else m.Reasoning(effort, budget),
        **read_rest(p.WIRE, fields, whole),
    )


def _decode_tools(items: list[object], fields: f.Fields) -> tuple[m.Tool, ...]:
    """The functions; other tools stay behind in ``fields``."""
    tools = [f.object_of(item, "a tool") for item in items]
    f.put(fields, tools=[tool for tool in tools if not isinstance(tool.get("function"), dict)] or None)
    return tuple(decode_tool(tool, p.WIRE) for tool in tools if isinstance(tool.get("function"), dict))


def _decode_named(choice: f.Fields) -> m.ToolChoice | None:
    """A choice that names functions."""
    if choice.get("type") == "function":
        name = f.as_text(f.as_object(choice.get("function")).get("name"))
        return m.ToolChoice("required", (name,)) if name else None
    allowed = f.as_object(choice.get("allowed_tools"))
    mode = o.MODES.get(f.as_text(allowed.get("mode")))
    names = tuple(
        f.as_text(f.as_object(tool.get("function")).get("name")) for tool in f.as_objects(allowed.get("tools"))
    )
    return m.ToolChoice(mode, names) if mode is not None and names and all(names) else None


def encode_request(request: m.ChatRequest, dialect: p.Dialect) -> HttpRequest:
    """The request for a vendor of this dialect; a body that came in on this wire is forwarded.  Raises
    ``UnsupportedFeature``."""
    notes = Notes(dialect.origin)
    source = None if request.source is None else f.own_fields(request.source, p.WIRE)
    body = f.forwarded(request, source) if source else _fresh(request, dialect, notes)
    # Usage comes only if asked for, an error without a stream.  A caller who said that it is not wanted is obeyed.
    if request.stream and dialect.stream_usage:
        body["stream_options"] = {"include_usage": True} | f.others(f.as_object(body.get("stream_options")), ())
    else:
        body.pop("stream_options", None)
    if source and dialect.tool_id_length:
        body["messages"] = [_with_short_ids(message, dialect) for message in f.as_objects(body.get("messages"))]
    for name in () if source or not dialect.rejects else sorted(dialect.rejects & body.keys()):
        del body[name]
        notes.lose(_FEATURES.get(name, name), hard=name in _HARD)
    return HttpRequest(dialect.path, f.dump_forwarded(body, request), JSON_HEADERS, notes.all())


def wants_usage(request: m.ChatRequest) -> bool:
    """Whether the caller of a decoded request asked for a chunk with the token counts: it has no choices, and clients
    that did not ask for it need not expect it."""
    source = f.own_fields(request.source, p.WIRE)
    return f.as_object(source.get("stream_options")).get("include_usage") is True


def _with_short_ids(message: f.Fields, dialect: p.Dialect) -> f.Fields:
    message = dict(message)
    if isinstance(message.get("tool_call_id"), str):
        message["tool_call_id"] = p.tool_id(f.as_text(message["tool_call_id"]), dialect)
    if isinstance(message.get("tool_calls"), list):
        calls = f.as_objects(message["tool_calls"])
        message["tool_calls"] = [{**call, "id": p.tool_id(f.as_text(call.get("id")), dialect)} for call in calls]
    return message


def _fresh(request: m.ChatRequest, dialect: p.Dialect, notes: Notes) -> f.Fields:
    body: f.Fields = {"model": request.model} if request.model else {}
    body["messages"] = encode_messages(request.messages, dialect, notes)
    write_settings(dialect.settings, request, body, notes)
    lose_marks(request, notes, of_messages=not dialect.cache_marks)
    if request.cache_key and dialect.cache_key:
        body["prompt_cache_key"] = sent_key(request.cache_key)
    if request.tools or request.tool_choice is not None:
        _encode_tools(request, body, dialect, notes)
    if request.output is not None:
        wanted = o.encode_format(request.output)
        kind = wanted.pop("type")
        body["response_format"] = {"type": kind, "json_schema": wanted} if wanted else {"type": kind}
    if request.reasoning is not None:
        _encode_reasoning(request.reasoning, body, dialect, notes)
    if request.stream:
        body["stream"] = True
    if request.extra:
        f.merge(body, extras_for(p.WIRE, request.extra, notes))
    return body


def _encode_tools(request: m.ChatRequest, body: f.Fields, dialect: p.Dialect, notes: Notes) -> None:
    tools, choice = request.tools, request.tool_choice
    can_name = dialect.allowed_tools if choice is None or forced_tool(choice) is None else dialect.named_tool
    if choice is not None and choice.mode != "none" and choice.names and not can_name:
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        choice = m.ToolChoice(choice.mode)
        notes.add(Feature.TOOL_CHOICE_ALLOWED, "the other tools are left out instead")
    if tools:
        body["tools"] = [_encode_tool(tool, notes) for tool in tools]
    if choice is not None:
        body["tool_choice"] = o.encode_tool_choice(
            choice,
            lambda name: {"type": "function", "function": {"name": name}},
            lambda allowed: {"type": "allowed_tools", "allowed_tools": allowed},
        )


def _encode_tool(tool: m.Tool, notes: Notes) -> f.Fields:
    function = f.put({"name": tool.name}, description=tool.description, parameters=tool.parameters, strict=tool.strict)
    body: f.Fields = {"type": "function", "function": function}
    f.merge(body, fields_for(p.WIRE, tool.extra, notes))
    return body


def _encode_reasoning(reasoning: m.Reasoning, body: f.Fields, dialect: p.Dialect, notes: Notes) -> None:
    if dialect.reasoning_object:
        body["reasoning"] = f.put({}, effort=reasoning.effort, max_tokens=reasoning.budget)
    else:
        f.put(body, reasoning_effort=o.effort_of(reasoning, notes))
    f.merge(body, fields_for(p.WIRE, reasoning.extra, notes))


_PLAIN_ROLES = frozenset({"system", "user"})


def encode_messages(messages: Iterable[m.Message], dialect: p.Dialect, notes: Notes) -> list[f.Fields]:
    """Messages in the order they stand, except that media out of tool results follow the last result of the turn:
    nothing may stand between an assistant's calls and their results."""
    out: list[f.Fields] = []
    late: list[f.Fields] = []
    for message in messages:
        text = _only_text(message)
        if text is not None:  # nearly every message
            if late:
                out += _pop_all(late)
            out.append({"role": message.role, "content": text})
            continue
        encoder = _MessageEncoder(dialect, notes)
        results = [encoder.result(part, late) for part in message.parts if isinstance(part, m.ToolResult)]
        if results and message.role == "tool":  # what only this wire knows about the message belongs to its result
            results[0] |= fields_for(p.WIRE, message.extra, notes)
        out += results
        remaining = [part for part in message.parts if not isinstance(part, m.ToolResult)]
        if remaining or not results:
            out += _pop_all(late)
            out.append(encoder.message(message, remaining))
        if message.cache and dialect.cache_marks:
            _mark(out[-1], notes)
    return out + _pop_all(late) if late else out


def _only_text(message: m.Message) -> str | None:
    """The text of a message that is nothing else, said by somebody every dialect knows; ``None`` for any other."""
    if len(message.parts) != 1 or message.extra is not None or message.name is not None or message.cache:
        return None
    part = message.parts[0]
    if not isinstance(part, m.Text) or part.annotations or part.extra is not None or message.role not in _PLAIN_ROLES:
        return None
    return part.text


def _mark(message: f.Fields, notes: Notes) -> None:
    """Marks a message as worth caching up to its end."""
    content = message.get("content")
    items = [{"type": "text", "text": content}] if content and isinstance(content, str) else f.as_objects(content)
    if items:
        message["content"] = [*items[:-1], MARK | items[-1]]
    else:
        notes.add(Feature.CACHE, "left out")


def _pop_all(late: list[f.Fields]) -> list[f.Fields]:
    waiting: list[f.Fields] = [{"role": "user", "content": list(late)}] if late else []
    late.clear()
    return waiting


class _MessageEncoder:
    """Writes the parts of one message."""

    def __init__(self, dialect: p.Dialect, notes: Notes) -> None:
        self._dialect = dialect
        self._notes = notes

    def message(self, message: m.Message, parts: Sequence[m.Part]) -> f.Fields:
        """A message without its tool results."""
        if len(parts) == 1 and isinstance(parts[0], m.Opaque) and parts[0].wire == p.WIRE and "role" in parts[0].data:
            return dict(parts[0].data)
        role = "user" if message.role == "tool" else message.role
        if role == "developer" and not self._dialect.developer_role:
            role = "system"
            self._notes.add(Feature.DEVELOPER, "sent as system")
        body: f.Fields = {"role": role}
        if role == "assistant":
            body |= self._assistant(parts)
        else:
            body["content"] = p.content_of([item for part in parts if (item := self._part(part)) is not None]) or ""
        return f.put(body, name=message.name) | fields_for(p.WIRE, message.extra, self._notes)

    def _assistant(self, parts: Sequence[m.Part]) -> f.Fields:
        thoughts = [part for part in parts if isinstance(part, m.Thought)]
        calls: list[f.Fields] = []
        items: list[f.Fields] = []
        for part in parts:
            if isinstance(part, m.ToolCall):
                call = p.encode_call(part) | fields_for(p.WIRE, part.extra, self._notes)
                calls.append(call | {"id": p.tool_id(part.id, self._dialect)})
            elif p.is_call(part):
                calls.append(dict(part.data))
            elif isinstance(part, m.Media):
                o.left_out(part, self._notes)
            elif not isinstance(part, m.Thought | m.Refusal) and (item := self._part(part)) is not None:
                items.append(item)
        origin = self._dialect.origin if self._dialect.returns_reasoning else None
        sendable = [part for part in thoughts if part.origin == origin]
        if len(sendable) != len(thoughts):
            self._notes.add(Feature.REASONING, "left out")
        body = p.assistant_body(items, sendable, parts, self._dialect)
        if calls:
            body["tool_calls"] = calls
            if self._dialect.wants_reasoning and not body.get(self._dialect.reasoning_field):
                body[self._dialect.reasoning_field] = " "
        if not calls and "refusal" not in body and body["content"] is None:
            body["content"] = ""
        return body

    def result(self, result: m.ToolResult, late: list[f.Fields]) -> f.Fields:
        """A tool message; media it may not hold go to ``late``."""
        items = [item for part in said(result) if (item := self._part(part)) is not None]
        media = [item for item in items if item["type"] != "text"]
        if media and not self._dialect.tool_media:
            items = [item for item in items if item["type"] == "text"]
            late.append({"type": "text", "text": f"Content returned by tool call {result.tool_call_id}:"})
            late += media
            self._notes.add(Feature.MEDIA_IN_TOOL_RESULT, "sent in a user message after it")
        if result.is_error:
            self._notes.add(Feature.TOOL_RESULT_IS_ERROR, "left out")
        body: f.Fields = {"role": "tool", "tool_call_id": p.tool_id(result.tool_call_id, self._dialect)}
        body["content"] = p.content_of(items) or ("(content follows)" if media else "")
        return f.put(body, name=result.name) | fields_for(p.WIRE, result.extra, self._notes)

    def _part(self, part: m.Part) -> f.Fields | None:
        match part:
            case m.Text():
                if part.annotations:
                    self._notes.add(Feature.ANNOTATIONS, "left out")
                return {"type": "text", "text": part.text} | fields_for(p.WIRE, part.extra, self._notes)
            case m.Media():
                return self._media(part)
            case m.Opaque(wire="openai_chat"):
                return dict(part.data)
            case m.Refusal():
                return {"type": "text", "text": part.text}
            case _:
                o.left_out(part, self._notes)
                return None

    def _media(self, part: m.Media) -> f.Fields:
        extra = fields_for(p.WIRE, part.extra, self._notes)
        if part.kind == "audio" and part.data is not None:
            return o.encode_audio(part.data, part.mime_type) | extra
        kind = f"{part.kind}_url"
        media = self._dialect.media
        if part.kind == "document" and kind not in media and (part.url is None or "file_url" in media):
            data = part.url or o.data_url(part, self._notes) if part.file_id is None else None
            return {"type": "file", "file": f.put({}, file_id=part.file_id, file_data=data, filename=part.name)} | extra
        url = part.url if part.url is not None else o.data_url(part, self._notes)
        if kind != "image_url" and kind not in media:
            raise self._notes.unsupported(kind if part.data is None else part.kind)
        if kind == "document_url":  # Mistral's, and a bare string
            return {"type": kind, kind: url} | extra
        return {"type": kind, kind: f.put({"url": url}, detail=extra.pop("detail", None))} | extra
