"""Cohere's wire, ``/v2/chat`` and ``/v2/embed``.

Server-sent events with names, ``message-end`` last (``[DONE]`` follows, but not everywhere).  What the model says
before it calls tools, its ``tool_plan``, is a thought with an origin of its own, so that it goes back into its own
field.  Two token counts differ widely: ``tokens`` is what was processed, ``billed_units`` what is paid for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, cast

from typing_extensions import override

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import (
    BlockEnd,
    ChatRequest,
    ChatResponse,
    EmbedRequest,
    EmbedResponse,
    Extra,
    Finish,
    FinishReason,
    Json,
    JsonObject,
    Media,
    Message,
    Opaque,
    OutputFormat,
    Part,
    PartAdded,
    Reasoning,
    Refusal,
    RefusalDelta,
    Role,
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    ThoughtDelta,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolChoice,
    ToolResult,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import sse
from resilient_llm.wire._json_codec import JsonCodec
from resilient_llm.wire.accumulate import replay
from resilient_llm.wire.codec import JSON_HEADERS, HttpRequest
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    decode_base64,
    dump,
    encode_base64,
    fields_of,
    items_of,
    leftovers,
    merge,
    merge_own,
    own,
    put,
    reading_answer,
    reading_request,
    request_extras,
    take_bool,
    take_count,
    take_fields,
    take_float,
    take_int,
    take_items,
    take_text,
    take_texts,
    vector,
)
from resilient_llm.wire.notes import Notes, extras_for, fields_for, note_unsaid, reject
from resilient_llm.wire.toolcalls import arguments_text, decode_tool, encode_tool

NAME: Final = "cohere_v2"
PLAN: Final = f"{NAME}/tool_plan"
"""Origin of a thought that is a ``tool_plan``."""
PATH: Final = "/v2/chat"
EMBED_PATH: Final = "/v2/embed"

_ROLES: dict[str, Role] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}

_FINISH: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR": "error",
    "TIMEOUT": "error",
}
_WORDS: dict[FinishReason, str] = {"stop": "COMPLETE", "length": "MAX_TOKENS", "tool_calls": "TOOL_CALL"}


# --- requests: reading -------------------------------------------------------------------------------------


def _decode_request(whole: Fields, _path: str) -> ChatRequest:
    fields = dict(whole)
    messages = tuple(_decode_message(item) for item in take_items(fields, "messages"))
    tools = _decode_tools(fields)
    return ChatRequest(
        messages,
        take_text(fields, "model") or "",
        tools,
        tool_choice=_decode_choice(take_text(fields, "tool_choice")),
        output=_decode_format(take_fields(fields, "response_format")),
        reasoning=_decode_thinking(take_fields(fields, "thinking")),
        max_tokens=take_int(fields, "max_tokens"),
        temperature=take_float(fields, "temperature"),
        top_p=take_float(fields, "p"),
        top_k=take_int(fields, "k"),
        frequency_penalty=take_float(fields, "frequency_penalty"),
        presence_penalty=take_float(fields, "presence_penalty"),
        seed=take_int(fields, "seed"),
        stop=take_texts(fields, "stop_sequences"),
        logprobs=take_bool(fields, "logprobs"),
        stream=take_bool(fields, "stream") or False,
        extra=request_extras(NAME, fields),
        source=Extra(NAME, whole),
    )


def _decode_tools(fields: Fields) -> tuple[Tool, ...]:
    """The tools; the one switch for all of them, ``strict_tools``, belongs to each."""
    tools = [decode_tool(item, NAME) for item in take_items(fields, "tools")]
    if not tools:
        return ()
    strict = take_bool(fields, "strict_tools")
    return tuple(
        Tool(t.name, t.description, t.parameters, t.strict if strict is None else strict, t.extra) for t in tools
    )


def _decode_choice(word: str | None) -> ToolChoice | None:
    match word:
        case None:
            return None
        case "REQUIRED":
            return ToolChoice("required")
        case "NONE":
            return ToolChoice("none")
        case _:
            raise Malformed("tool_choice is neither REQUIRED nor NONE")


def _decode_format(fields: Fields | None) -> OutputFormat | None:
    if fields is None:
        return None
    kind = take_text(fields, "type")
    schema = take_fields(fields, "json_schema") or take_fields(fields, "schema")  # its name in earlier versions
    if kind == "json_object":
        return OutputFormat("json_schema", schema) if schema is not None else OutputFormat("json_object")
    if kind == "text":
        return OutputFormat("text")
    raise Malformed("response_format has no type Cohere knows")


def _decode_thinking(fields: Fields | None) -> Reasoning | None:
    if fields is None:
        return None
    kind, budget = take_text(fields, "type"), take_int(fields, "token_budget")
    return Reasoning("none" if kind == "disabled" else None, budget, leftovers(NAME, fields))


def _decode_message(value: object) -> Message:
    fields = fields_of(value, "a message")
    role = _ROLES.get(take_text(fields, "role") or "")
    if role is None:
        raise Malformed("a message has no role Cohere knows")
    if role == "tool":
        return Message(role, (_decode_result(fields),), extra=leftovers(NAME, fields))
    return Message(role, _message_parts(fields), extra=leftovers(NAME, fields))


def _message_parts(fields: Fields) -> tuple[Part, ...]:
    """Content, plan and calls, in the order the model makes them."""
    parts = _decode_content(fields.pop("content", None))
    if plan := take_text(fields, "tool_plan"):
        parts.append(Thought(plan, origin=PLAN))
    parts += [_decode_call(item) for item in take_items(fields, "tool_calls")]
    return tuple(_with_citations(parts, fields))


def _decode_content(value: object) -> list[Part]:
    if value is None:
        return []
    if isinstance(value, str):
        return [Text(value)]
    return [_decode_block(fields_of(item, "a content block")) for item in items_of(value, "content")]


def _decode_block(fields: Fields) -> Part:
    block = dict(fields)
    kind = fields.pop("type", None)
    if kind == "text":
        text = take_text(fields, "text") or ""
        return Text(text, extra=leftovers(NAME, fields))
    if kind == "thinking":
        thinking = take_text(fields, "thinking") or ""
        return Thought(thinking, origin=NAME, extra=leftovers(NAME, fields))
    if kind == "image_url":
        return _decode_image(take_fields(fields, "image_url") or {})
    return Opaque(NAME, block)


def _decode_image(fields: Fields) -> Media:
    url = take_text(fields, "url")
    extra = leftovers(NAME, fields)
    if url is None:
        raise Malformed("an image has no url")
    if not url.startswith("data:"):
        return Media("image", url=url, extra=extra)
    head, _, data = url.partition(",")
    if not head.endswith(";base64"):
        raise Malformed("an image's data is not in base64")
    mime = head.removeprefix("data:").removesuffix(";base64").partition(";")[0]
    return Media("image", mime or None, decode_base64(data), extra=extra)


def _decode_call(value: object) -> ToolCall:
    fields = fields_of(value, "a tool call")
    fields.pop("type", None)
    id_ = take_text(fields, "id") or ""
    function = take_fields(fields, "function") or {}
    name, arguments = take_text(function, "name") or "", arguments_text(function.pop("arguments", None))
    return ToolCall(id_, name, arguments, leftovers(NAME, put(fields, function=function or None)))


def _with_citations(parts: list[Part], fields: Fields) -> list[Part]:
    """Each citation goes to the text it cites for, by the number of the content block, else to the first text."""
    texts = [at for at, part in enumerate(parts) if isinstance(part, Text)]
    if not texts:
        return parts
    for item in take_items(fields, "citations"):
        citation = fields_of(item, "a citation")
        at = citation.get("content_index")
        at = at if isinstance(at, int) and at in texts else texts[0]
        text = cast("Text", parts[at])
        parts[at] = Text(text.text, (*text.annotations, citation), text.extra)
    return parts


def _decode_result(fields: Fields) -> ToolResult:
    """A tool's answer: text, or documents, whose data is what the tool found."""
    id_ = take_text(fields, "tool_call_id") or ""
    content = fields.pop("content", None)
    if content is None or isinstance(content, str):
        return ToolResult(id_, (Text(content or ""),))
    blocks = [fields_of(item, "a content block") for item in items_of(content, "content")]
    found = [_decode_found(block) for block in blocks]
    plain = all(_encode_found(part) == block for part, block in zip(found, blocks, strict=True))
    return ToolResult(id_, tuple(found), extra=None if plain else Extra(NAME, {"content": blocks}))


def _decode_found(block: Fields) -> Text | Json:
    if block.get("type") == "text" and isinstance(block.get("text"), str):
        return Text(cast("str", block["text"]))
    document = block.get("document")
    return Json(fields_of(document, "a document").get("data") if document is not None else block)


def _encode_found(part: Text | Json) -> Fields:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    data = part.value
    if not isinstance(data, Mapping):
        data = {"result": data}
    return {"type": "document", "document": {"data": cast("object", data)}}


# --- requests: writing -------------------------------------------------------------------------------------


def _encode_request(request: ChatRequest) -> HttpRequest:
    if request.source is not None and request.source.wire == NAME:
        forwarded = {**request.source.fields, "model": request.model}
        if request.stream is not bool(forwarded.get("stream")):
            forwarded["stream"] = request.stream
        return HttpRequest(PATH, dump(forwarded), JSON_HEADERS)
    reject(request, NAME, "n", "parallel_tool_calls", "top_logprobs")
    notes = Notes(NAME)
    note_unsaid(request, notes)
    extras_for(NAME, request.extra, notes)
    body: Fields = {"model": request.model, "messages": _encode_messages(request.messages, notes)}
    body["stream"] = request.stream
    body |= _encode_tools(request, notes)
    put(body, **_encode_settings(request))
    thinking = _encode_thinking(request.reasoning, notes)
    put(body, response_format=_encode_format(request.output), thinking=thinking)
    merge_own(body, request.extra, NAME)
    return HttpRequest(PATH, dump(body), JSON_HEADERS, notes.all())


def _encode_settings(request: ChatRequest) -> Fields:
    return {
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "p": request.top_p,
        "k": request.top_k,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "seed": request.seed,
        "stop_sequences": list(request.stop) or None,
        "logprobs": request.logprobs,
    }


def _encode_tools(request: ChatRequest, notes: Notes) -> Fields:
    """Tools and the choice among them.  No tool can be named, so a named one is the only one offered."""
    choice, tools = request.tool_choice, request.tools
    if choice is not None and choice.mode == "required" and choice.names:
        tools = tuple(tool for tool in tools if tool.name in choice.names)
        notes.add("tool_choice.names", "only these tools were offered")
    if not tools:
        return {}
    extras_for(NAME, (tool.extra for tool in tools), notes)
    body: Fields = {"tools": [encode_tool(tool, NAME) for tool in tools]}
    flags = {tool.strict for tool in tools}
    if len(flags) > 1:
        notes.add("tool.strict", "sent for all tools or none")
    if flags != {None}:
        body["strict_tools"] = flags == {True}
    word = {"required": "REQUIRED", "none": "NONE"}.get(choice.mode) if choice is not None else None
    return put(body, tool_choice=word)


def _encode_format(output: OutputFormat | None) -> Fields | None:
    if output is None:
        return None
    kind = "text" if output.kind == "text" else "json_object"
    return put({"type": kind}, json_schema=output.schema if output.kind == "json_schema" else None)


def _encode_thinking(reasoning: Reasoning | None, notes: Notes) -> Fields | None:
    if reasoning is None:
        return None
    extra = fields_for(NAME, reasoning.extra, notes)
    if reasoning.effort == "none":
        return put({"type": "disabled"}, token_budget=reasoning.budget, **extra)
    if reasoning.effort is not None and reasoning.budget is None:
        notes.add("reasoning.effort", "thinking enabled, without a level")
    return put({"type": "enabled"}, token_budget=reasoning.budget, **extra)


def _encode_messages(messages: Iterable[Message], notes: Notes) -> list[Fields]:
    return [each for message in messages for each in _encode_message(message, notes)]


def _encode_message(message: Message, notes: Notes) -> list[Fields]:
    """One message, or several: every tool result is one of its own, and text beside results follows them."""
    extra = fields_for(NAME, message.extra, notes)
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    rest = [part for part in message.parts if not isinstance(part, ToolResult)]
    written: list[Fields] = [{**_encode_result(part, notes), **extra} for part in results]
    if rest or not written:
        role = {"developer": "system", "tool": "user"}.get(message.role, message.role)
        written.append({"role": role, **_encode_parts(_ours(rest, notes)), **extra})
    return written


def _encode_result(result: ToolResult, notes: Notes) -> Fields:
    extra = fields_for(NAME, result.extra, notes)
    if any(isinstance(part, Media) for part in result.parts):
        raise notes.unsupported("media_in_tool_result")
    if result.is_error:
        notes.add("tool_result.is_error", "left out: the text has to say it")
    content: object = extra.get("content")
    if content is None:
        found = [part for part in result.parts if not isinstance(part, Media)]
        alone = len(found) == 1 and isinstance(found[0], Text)
        content = [_encode_found(part) for part in found] if found and not alone else result.text
    return {"role": "tool", "tool_call_id": result.tool_call_id, "content": content}


def _ours(parts: Iterable[Part], notes: Notes) -> list[Part]:
    """The parts that may be sent; what must not be left out raises ``UnsupportedFeature``."""
    kept: list[Part] = []
    for part in parts:
        if isinstance(part, Thought) and part.origin not in {NAME, PLAN}:
            notes.add("reasoning", "left out: another model's thoughts")
            continue
        if isinstance(part, Opaque) and part.wire != NAME:
            raise notes.unsupported("builtin_tools")
        if isinstance(part, Media) and part.kind != "image":
            raise notes.unsupported(part.kind)
        if isinstance(part, Media) and part.data is None and part.url is None:
            raise notes.unsupported("file_id")
        fields_for(NAME, getattr(part, "extra", None), notes)
        if isinstance(part, Text) and len(part.annotations) > len(_citations([part])):
            notes.add("annotations", "left out")
        kept.append(part)
    return kept


def _encode_parts(parts: Sequence[Part]) -> Fields:
    """The fields of a message made of these parts."""
    content = [block for part in parts if (block := _encode_block(part)) is not None]
    alone = len(content) == 1 and content[0].keys() == {"type", "text"}
    plans = [part.text for part in parts if isinstance(part, Thought) and part.origin == PLAN]
    calls = [_encode_call(part) for part in parts if isinstance(part, ToolCall)]
    fields: Fields = {"content": content[0]["text"] if alone else content} if content else {}
    return put(fields, tool_plan="".join(plans) or None, tool_calls=calls or None, citations=_citations(parts) or None)


def _encode_block(part: Part) -> Fields | None:
    """A part as a content block; ``None`` for those that are no content."""
    match part:
        case Text():
            return {"type": "text", "text": part.text, **own(part.extra, NAME)}
        case Refusal():
            return {"type": "text", "text": part.text}
        case Thought() if part.origin != PLAN:
            return {"type": "thinking", "thinking": part.text, **own(part.extra, NAME)}
        case Media():
            return {"type": "image_url", "image_url": {"url": _image_url(part), **own(part.extra, NAME)}}
        case Opaque():
            return dict(part.data)
        case _:
            return None


def _image_url(media: Media) -> str:
    if media.data is None:
        return media.url or ""
    return f"data:{media.mime_type or 'image/png'};base64,{encode_base64(media.data)}"


def _encode_call(call: ToolCall) -> Fields:
    extra = own(call.extra, NAME)
    function: Fields = {"name": call.name, "arguments": call.arguments or "{}"}
    merge(function, fields_of(extra.pop("function", {}), "function"))
    return {"id": call.id, "type": "function", "function": function, **extra}


def _citations(parts: Iterable[Part]) -> list[JsonObject]:
    """The annotations that are Cohere's: a span with its sources."""
    texts = (part for part in parts if isinstance(part, Text))
    return [each for text in texts for each in text.annotations if _is_citation(each)]


def _is_citation(annotation: JsonObject) -> bool:
    return "sources" in annotation and "start" in annotation and "end" in annotation


# --- answers -----------------------------------------------------------------------------------------------


def _decode_response(raw: Fields) -> ChatResponse:
    fields = dict(raw)
    message = take_fields(fields, "message")  # an error's message is text, and is no object
    if message is None or not (message or fields.get("finish_reason")):
        raise InvalidAnswer("the answer has no message", raw)
    parts = _message_parts(message)
    message.pop("role", None)
    reason, usage = take_text(fields, "finish_reason"), _take_usage(fields)
    id_ = take_text(fields, "id") or ""
    extra = leftovers(NAME, put(fields, message=leftovers(NAME, message) and message))
    return ChatResponse(parts, _finish(reason, parts), reason, usage, id_, extra=extra, raw=raw)


def _finish(reason: str | None, parts: Iterable[Part]) -> FinishReason:
    if reason is None:
        return "tool_calls" if any(isinstance(part, ToolCall) for part in parts) else "stop"
    return _FINISH.get(reason, "other")


def _take_usage(fields: Fields) -> Usage | None:
    """Processed tokens; billed ones stay beside them, and stand in where nothing else is said."""
    usage = take_fields(fields, "usage")
    if usage is None:
        return None
    cached = take_count(usage, "cached_tokens")
    tokens = take_fields(usage, "tokens") or fields_of(usage.get("billed_units") or {}, "billed_units")
    counts = take_count(tokens, "input_tokens"), take_count(tokens, "output_tokens")
    return Usage(*counts, cached, extra=leftovers(NAME, usage))


def _encode_usage(usage: Usage | None) -> Fields | None:
    if usage is None:
        return None
    tokens = {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens}
    return {"tokens": tokens, "cached_tokens": usage.cache_read_tokens, **own(usage.extra, NAME)}


def _word(reason: FinishReason, raw: str | None) -> str:
    """Cohere's own word where it means the same.  It has none for a filter, and anything else is no success."""
    return raw if raw is not None and _FINISH.get(raw) == reason else _WORDS.get(reason, "ERROR")


def _encode_response(response: ChatResponse) -> Fields:
    extra = own(response.extra, NAME)
    message = _encode_parts(_showable(response.parts))
    if isinstance(message.get("content"), str):
        message["content"] = [{"type": "text", "text": message["content"]}]
    body: Fields = {
        "id": response.id,
        "message": {"role": "assistant", **message},
        "finish_reason": _word(response.finish_reason, response.raw_finish_reason),
    }
    put(body, usage=_encode_usage(response.usage))
    merge(body, extra)
    return body


def _showable(parts: Iterable[Part]) -> list[Part]:
    """The parts of anybody's answer that can be shown here: thoughts as thoughts of ours, no blocks of others."""
    shown: list[Part] = []
    for part in parts:
        if isinstance(part, Thought) and part.origin not in {NAME, PLAN}:
            shown += [Thought(part.text, origin=NAME)] if part.text else []
        elif not isinstance(part, Media | Opaque) or (isinstance(part, Opaque) and part.wire == NAME):
            shown.append(part)
    return shown


# --- streams -----------------------------------------------------------------------------------------------


class _StreamDecoder(sse.JsonStream):
    """Events -> events.  Content blocks and tool calls are numbered apart here and together there."""

    def __init__(self) -> None:
        super().__init__()
        self._blocks: dict[tuple[str, object], int] = {}
        self._text: int | None = None  # the latest text, which citations without a place belong to
        self._logprobs: list[object] = []
        self._called = False

    @override
    def on_text(self, data: str) -> bool:
        return data == "[DONE]"  # without a message-end before it, still no end

    @override
    def on_object(self, event: str, data: Fields) -> None:
        kind = data.get("type", event)
        delta = data.get("delta")
        try:
            if kind == "message-end":
                self._ended(fields_of(delta or {}, "delta"))
            elif kind == "message-start":
                self._out.append(StreamStart(str(data.get("id") or "")))
            elif "message" in data and "delta" not in data:
                self.fail(StreamError(data))  # the shape of an error's body
            else:
                self._piece(str(kind), data.get("index"), _message_of(delta))
                if isinstance(data.get("logprobs"), dict):
                    self._logprobs.append(data["logprobs"])
        except Malformed as error:
            self.fail(StreamBroken(f"undecodable event: {error}"))

    @override
    def at_end(self) -> str | None:
        return "the stream ended without message-end"

    @override
    def whole_answer(self, body: bytes) -> list[StreamEvent]:
        return replay(CODEC.decode_response(body))

    def _piece(self, kind: str, index: object, message: Fields) -> None:
        match kind:
            case "content-start":
                self._content_start(index, take_fields(message, "content") or {})
            case "content-delta":
                self._content(self._place("content", index), take_fields(message, "content") or {})
            case "tool-plan-delta":
                if plan := take_text(message, "tool_plan"):
                    self._out.append(ThoughtDelta(plan, self._place("plan", 0), origin=PLAN))
            case "tool-call-start":
                self._call_start(self._place("tool", index), message)
            case "tool-call-delta":
                self._call(self._place("tool", index), message)
            case "citation-start":
                citations = tuple(fields_of(item, "a citation") for item in take_items(message, "citations"))
                if citations:
                    self._out.append(TextDelta("", self._cited(citations[0]), annotations=citations))
            case "content-end" | "tool-call-end":
                self._out.append(BlockEnd(self._place(kind.split("-", maxsplit=1)[0], index)))
            case _:  # citation-end, debug and what may come
                pass

    def _place(self, kind: str, index: object) -> int:
        """The block of a content block, call or plan; a new one when it is first seen."""
        key = kind, index if isinstance(index, int) else 0
        return self._blocks.setdefault(key, len(self._blocks))

    def _cited(self, citation: JsonObject) -> int:
        index = citation.get("content_index")
        block = self._blocks.get(("content", index), self._text) if isinstance(index, int) else self._text
        return self._place("cited", 0) if block is None else block

    def _content_start(self, index: object, content: Fields) -> None:
        kind, block = content.get("type", "text"), self._place("content", index)
        if kind in ("text", "thinking"):
            self._text = block if kind == "text" else self._text
            self._content(block, content)
        else:
            self._out.append(PartAdded(_decode_block(content), block))

    def _content(self, block: int, content: Fields) -> None:
        thinking, text = take_text(content, "thinking"), take_text(content, "text")
        if thinking:
            self._out.append(ThoughtDelta(thinking, block, origin=NAME))
        if text:
            self._out.append(TextDelta(text, block))

    def _call_start(self, block: int, message: Fields) -> None:
        self._called = True
        for item in take_items(message, "tool_calls")[:1]:
            fields = fields_of(item, "a tool call")
            function = take_fields(fields, "function") or {}
            name, arguments = take_text(function, "name") or "", take_text(function, "arguments")
            self._out.append(ToolCallStart(take_text(fields, "id") or "", name, block))
            if arguments:
                self._out.append(ToolCallDelta(arguments, block))

    def _call(self, block: int, message: Fields) -> None:
        for item in take_items(message, "tool_calls")[:1]:
            function = take_fields(fields_of(item, "a tool call"), "function") or {}
            if arguments := take_text(function, "arguments"):
                self._out.append(ToolCallDelta(arguments, block))

    def _ended(self, delta: Fields) -> None:
        if delta.get("error") is not None:
            self.fail(StreamError(delta))
            return
        reason, usage = take_text(delta, "finish_reason"), _take_usage(delta)
        put(delta, logprobs=self._logprobs or None)
        finish = _finish(reason, [ToolCall("", "")] if self._called else [])
        self._out.append(Finish(finish, reason, extra=leftovers(NAME, delta)))
        if usage is not None:
            self._out.append(UsageUpdate(usage))
        self.fail(StreamEnd())


def _message_of(delta: object) -> Fields:
    return take_fields(fields_of(delta or {}, "delta"), "message") or {}


class _StreamEncoder:
    """Events -> events.  Content blocks follow one another; calls may be open side by side."""

    def __init__(self) -> None:
        self._begun = False
        self._content: tuple[int, int, str] | None = None  # neutral block, number here, kind
        self._contents = 0
        self._calls: dict[int, int] = {}
        self._called = 0
        self._cited = 0
        self._finish = Finish("stop")
        self._usage: Usage | None = None

    def feed(self, event: StreamEvent) -> bytes:
        """The frames this event completes."""
        match event:
            case StreamStart():
                return self._start(event.id)
            case TextDelta(choice=0):
                text = self._grow(event.block, "text", event.text) if event.text else b""
                return text + b"".join(self._citation(each) for each in event.annotations if _is_citation(each))
            case RefusalDelta(choice=0) if event.text:
                return self._grow(event.block, "text", event.text)
            case ThoughtDelta(choice=0) if event.text:
                return self._thought(event)
            case PartAdded(choice=0):
                return self._part(event)
            case ToolCallStart(choice=0):
                return self._call_start(event)
            case ToolCallDelta(choice=0) if event.block in self._calls and event.arguments:
                calls = {"function": {"arguments": event.arguments}}
                return _frame("tool-call-delta", self._calls[event.block], {"tool_calls": calls})
            case _:
                return self._closing(event)

    def _closing(self, event: StreamEvent) -> bytes:
        match event:
            case BlockEnd(choice=0):
                return self._end(event.block)
            case UsageUpdate():
                self._usage = event.usage
            case Finish(choice=0):
                self._finish = event
            case StreamEnd():
                return self._start("") + self._end_all() + self._message_end()
            case StreamError():
                return _error_frames(_error_text(event.payload))
            case StreamBroken():
                return _error_frames(event.reason)
            case _:
                pass
        return b""

    def _start(self, id_: str) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message: Fields = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        data: Fields = {"id": id_, "type": "message-start", "delta": {"message": message}}
        return sse.encode(dump(data), "message-start")

    def _grow(self, block: int, kind: str, text: str) -> bytes:
        """A piece of a content block, which begins if it is not the one that grows."""
        begun = b""
        if self._content is None or (self._content[0], self._content[2]) != (block, kind):
            begun = self._start("") + self._end_content() + self._begin(block, kind, {"type": kind, kind: ""})
        return begun + _frame("content-delta", self._contents - 1, {"content": {kind: text}})

    def _begin(self, block: int, kind: str, content: Fields) -> bytes:
        self._content = block, self._contents, kind
        self._contents += 1
        return _frame("content-start", self._contents - 1, {"content": content})

    def _thought(self, event: ThoughtDelta) -> bytes:
        if event.origin == PLAN:
            return self._start("") + _frame("tool-plan-delta", None, {"tool_plan": event.text})
        return self._grow(event.block, "thinking", event.text)

    def _part(self, event: PartAdded) -> bytes:
        blocks = [block for part in _showable([event.part]) if (block := _encode_block(part)) is not None]
        return b"".join(
            self._start("") + self._end_content() + self._begin(event.block, "whole", block) + self._end_content()
            for block in blocks
        )

    def _call_start(self, event: ToolCallStart) -> bytes:
        self._calls[event.block] = self._called
        self._called += 1
        calls = {"id": event.id, "type": "function", "function": {"name": event.name, "arguments": ""}}
        begun = self._start("") + self._end_content()
        return begun + _frame("tool-call-start", self._called - 1, {"tool_calls": calls})

    def _citation(self, citation: JsonObject) -> bytes:
        self._cited += 1
        start = _frame("citation-start", self._cited - 1, {"citations": citation})
        return start + _frame("citation-end", self._cited - 1)

    def _end(self, block: int) -> bytes:
        if block in self._calls:
            return _frame("tool-call-end", self._calls.pop(block))
        return self._end_content() if self._content is not None and self._content[0] == block else b""

    def _end_content(self) -> bytes:
        if self._content is None:
            return b""
        index = self._content[1]
        self._content = None
        return _frame("content-end", index)

    def _end_all(self) -> bytes:
        return self._end_content() + b"".join(self._end(block) for block in list(self._calls))

    def _message_end(self) -> bytes:
        delta: Fields = {"finish_reason": _word(self._finish.reason, self._finish.raw)}
        put(delta, usage=_encode_usage(self._usage))
        return _message_end(delta)


def _frame(kind: str, index: int | None, message: Fields | None = None) -> bytes:
    data: Fields = {"type": kind}
    put(data, index=index, delta={"message": message} if message is not None else None)
    return sse.encode(dump(data), kind)


def _message_end(delta: Fields) -> bytes:
    return sse.encode(dump({"type": "message-end", "delta": delta}), "message-end") + sse.encode(b"[DONE]")


def _error_frames(message: str) -> bytes:
    return _message_end({"error": message, "finish_reason": "ERROR"})


def _error_text(payload: JsonObject | str) -> str:
    if isinstance(payload, str):
        return payload
    said = next((payload[key] for key in ("error", "message") if key in payload), payload)
    return said if isinstance(said, str) else dump(said).decode()


# --- embeddings --------------------------------------------------------------------------------------------


def decode_embed_request(body: bytes) -> EmbedRequest:
    """A request to ``/v2/embed``.  Raises ``InvalidRequest``."""

    def read(fields: Fields) -> EmbedRequest:
        if fields.get("texts") is None:
            raise Malformed("there are no texts to embed")
        texts, model = take_texts(fields, "texts"), take_text(fields, "model") or ""
        return EmbedRequest(texts, model, take_int(fields, "output_dimension"), request_extras(NAME, fields))

    return reading_request(NAME, body, read)


def encode_embed_request(request: EmbedRequest) -> HttpRequest:
    """The request for ``/v2/embed``.  ``input_type``, which it demands, is ``search_document`` unless given."""
    body: Fields = {"model": request.model, "texts": list(request.inputs), "input_type": "search_document"}
    put(body, output_dimension=request.dimensions)
    notes = Notes(NAME)
    extras_for(NAME, request.extra, notes)
    merge_own(body, request.extra, NAME)
    body["embedding_types"] = ["float"]
    return HttpRequest(EMBED_PATH, dump(body), JSON_HEADERS, notes.all())


def decode_embed_response(body: bytes) -> EmbedResponse:
    """The vectors.  Raises ``InvalidAnswer``."""

    def read(raw: Fields) -> EmbedResponse:
        fields = dict(raw)
        found = take_fields(fields, "embeddings") or {}
        vectors = tuple(vector(item) for item in items_of(found.get("float"), "embeddings.float"))
        meta = take_fields(fields, "meta") or {}
        counts = take_fields(meta, "tokens") or take_fields(meta, "billed_units") or {}
        count = take_count(counts, "input_tokens")
        return EmbedResponse(vectors, usage=Usage(count) if count else None, raw=raw)

    return reading_answer(NAME, body, read)


def encode_embed_response(response: EmbedResponse) -> bytes:
    """The vectors as a client of ``/v2/embed`` expects them."""
    units = {"input_tokens": response.usage.input_tokens} if response.usage else {}
    return dump(
        {
            "id": "",
            "embeddings": {"float": [list(each) for each in response.vectors]},
            "texts": [],
            "meta": {"api_version": {"version": "2"}, "billed_units": units},
            "response_type": "embeddings_by_type",
        }
    )


# --- the codec ---------------------------------------------------------------------------------------------


CODEC: Final = JsonCodec(
    name=NAME,
    read_request=_decode_request,
    write_request=_encode_request,
    read_answer=_decode_response,
    write_answer=_encode_response,
    write_error=lambda _fault, message: {"message": message},  # the status says the rest
    write_stream_error=lambda _fault, message: _error_frames(message),
    stream_decoder=_StreamDecoder,
    stream_encoder=_StreamEncoder,
)
