"""Ollama's own wire, ``/api/chat`` and ``/api/embed``.

One JSON object a line in streams, the last with ``done: true``; an error is a line that holds nothing else.  A request
without ``stream`` asks for a stream.  Tool calls have no identifiers (newer servers send some; they are kept).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Final

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
    StreamBroken,
    StreamEnd,
    StreamError,
    StreamEvent,
    StreamStart,
    Text,
    TextDelta,
    Thought,
    ThoughtDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolResult,
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import ndjson
from resilient_llm.wire._growing import Growing
from resilient_llm.wire._json_codec import JsonCodec
from resilient_llm.wire._rolewise import encode_message, result_extra, take_role
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
    parse_fields,
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
from resilient_llm.wire.notes import Notes, extras_for, fields_for, notes_on, told_message
from resilient_llm.wire.toolcalls import (
    Namer,
    Pairing,
    arguments_object,
    arguments_text,
    decode_tool,
    encode_tool,
    offered_tools,
    tool_names,
)

NAME: Final = "ollama"
PATH: Final = "/api/chat"
EMBED_PATH: Final = "/api/embed"

_MADE_UP: Final = "ollama_call_"

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "load": "other",
    "unload": "other",
    "content_filter": "content_filter",  # this and the next are never sent by Ollama, only written for others
    "error": "error",
}
_DONE: dict[FinishReason, str] = {"stop": "stop", "tool_calls": "stop"}

_EFFORTS = {"minimal": "low", "low": "low", "medium": "medium", "high": "high", "xhigh": "high", "max": "high"}


# --- requests: reading -------------------------------------------------------------------------------------


def _decode_request(whole: Fields, _path: str) -> ChatRequest:
    fields = dict(whole)
    options = take_fields(fields, "options") or {}
    pairing = Pairing(_MADE_UP)
    messages = tuple(_decode_message(item, pairing) for item in take_items(fields, "messages"))
    tools = tuple(decode_tool(item, NAME) for item in take_items(fields, "tools"))
    model, stream = take_text(fields, "model") or "", take_bool(fields, "stream")
    output, reasoning = _decode_format(fields.pop("format", None)), _decode_think(fields.pop("think", None))
    logprobs, top_logprobs = take_bool(fields, "logprobs"), take_int(fields, "top_logprobs")
    return ChatRequest(
        messages,
        model,
        tools,
        output=output,
        reasoning=reasoning,
        max_tokens=take_int(options, "num_predict"),
        temperature=take_float(options, "temperature"),
        top_p=take_float(options, "top_p"),
        top_k=take_int(options, "top_k"),
        frequency_penalty=take_float(options, "frequency_penalty"),
        presence_penalty=take_float(options, "presence_penalty"),
        seed=take_int(options, "seed"),
        stop=take_texts(options, "stop"),
        logprobs=logprobs,
        top_logprobs=top_logprobs,
        stream=stream is not False,
        extra=request_extras(NAME, put(fields, options=options or None)),
        source=Extra(NAME, whole),
    )


def _decode_format(value: object) -> OutputFormat | None:
    if value in (None, ""):
        return None
    if value == "json":
        return OutputFormat("json_object")
    return OutputFormat("json_schema", fields_of(value, "format"))


def _decode_think(value: object) -> Reasoning | None:
    if value is None:
        return None
    if isinstance(value, bool):
        return Reasoning() if value else Reasoning(effort="none")
    if not isinstance(value, str):
        raise Malformed("think is neither a boolean nor a word")
    return Reasoning(effort=value)


def _decode_message(value: object, pairing: Pairing) -> Message:
    fields = fields_of(value, "a message")
    role = take_role(fields)
    text = take_text(fields, "content") or ""
    if role == "tool":
        id_, name = pairing.result(take_text(fields, "tool_call_id"), take_text(fields, "tool_name"))
        parts: tuple[Part, ...] = (ToolResult(id_, (Text(text),), name),)
    else:
        parts = _message_parts(fields, text, pairing)
    return Message(role, parts, extra=leftovers(NAME, fields))


def _message_parts(fields: Fields, text: str, pairing: Pairing) -> tuple[Part, ...]:
    thinking = take_text(fields, "thinking")
    thoughts = (Thought(thinking, origin=NAME),) if thinking else ()
    texts = (Text(text),) if text else ()
    images = tuple(Media("image", data=decode_base64(image)) for image in take_texts(fields, "images"))
    calls = tuple(_decode_call(item, pairing.call) for item in take_items(fields, "tool_calls"))
    return (*thoughts, *texts, *images, *calls)


def _decode_call(value: object, identify: Callable[[str | None, str], str]) -> ToolCall:
    fields = fields_of(value, "a tool call")
    fields.pop("type", None)
    id_ = take_text(fields, "id")
    function = take_fields(fields, "function")
    if function is None:
        raise Malformed("a tool call without a function")
    name = take_text(function, "name") or ""
    arguments = arguments_text(function.pop("arguments", None))
    return ToolCall(identify(id_, name), name, arguments, leftovers(NAME, put(fields, function=function or None)))


# --- requests: writing -------------------------------------------------------------------------------------


def _encode_request(request: ChatRequest) -> HttpRequest:
    if request.source is not None and request.source.wire == NAME:
        return HttpRequest(PATH, dump(_forwarded(request, request.source.fields)), JSON_HEADERS)
    notes = notes_on(request, NAME, "n", "parallel_tool_calls", "tool_choice")
    body: Fields = {"model": request.model, "messages": _encode_messages(request, notes), "stream": request.stream}
    if tools := _encode_tools(request, notes):
        body["tools"] = tools
    put(body, format=_encode_format(request.output), think=_encode_think(request.reasoning, notes))
    put(body, logprobs=request.logprobs, top_logprobs=request.top_logprobs, options=_encode_options(request))
    merge_own(body, request.extra, NAME)
    return HttpRequest(PATH, dump(body), JSON_HEADERS, notes.all())


def _forwarded(request: ChatRequest, source: JsonObject) -> Fields:
    """The caller's own body; a stream is the default, so its switch is only written where it says otherwise."""
    body: Fields = {**source, "model": request.model}
    if request.stream is not (body.get("stream") is not False):
        body["stream"] = request.stream
    return body


def _encode_tools(request: ChatRequest, notes: Notes) -> list[Fields]:
    if request.tools and request.tool_choice is not None and request.tool_choice.mode == "none":
        notes.add("tool_choice", "none: the tools were left out")
        return []
    tools = offered_tools(request, notes)
    extras_for(NAME, (tool.extra for tool in tools), notes)
    if any(tool.strict for tool in tools):
        notes.add("tool.strict", "left out")
    return [encode_tool(tool, NAME) for tool in tools]


def _encode_options(request: ChatRequest) -> Fields | None:
    options = put(
        {},
        num_predict=request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        frequency_penalty=request.frequency_penalty,
        presence_penalty=request.presence_penalty,
        seed=request.seed,
        stop=list(request.stop) or None,
    )
    return options or None


def _encode_format(output: OutputFormat | None) -> object:
    if output is None or output.kind == "text":
        return None
    return output.schema if output.kind == "json_schema" and output.schema is not None else "json"


def _encode_think(reasoning: Reasoning | None, notes: Notes) -> bool | str | None:
    if reasoning is None:
        return None
    fields_for(NAME, reasoning.extra, notes)
    effort = reasoning.effort
    if effort == "none" or reasoning.budget == 0:
        return False
    if reasoning.budget is not None:
        notes.add("reasoning.budget", "left out: the model decides")
    if effort is None:
        return True
    word = _EFFORTS.get(effort, "medium")
    if word != effort:
        notes.add("reasoning.effort", f"{effort} sent as {word}")
    return word


def _encode_messages(request: ChatRequest, notes: Notes) -> list[Fields]:
    names = tool_names(request.messages)
    return [each for message in request.messages for each in _encode_message(message, names, notes)]


def _encode_message(message: Message, names: dict[str, str], notes: Notes) -> list[Fields]:
    return encode_message(
        message,
        fields_for(NAME, message.extra, notes),
        lambda result: _encode_result(result, names, notes),
        lambda parts, role: _encode_parts(parts, role, notes),
    )


def _encode_result(result: ToolResult, names: dict[str, str], notes: Notes) -> Fields:
    result_extra(result, NAME, notes)  # nothing of it is written back here
    fields: Fields = {"role": "tool", "content": result.text}
    name = result.name or names.get(result.tool_call_id)
    return put(fields, tool_name=name, tool_call_id=_sent_id(result.tool_call_id))


def _encode_parts(parts: Sequence[Part], role: str, notes: Notes) -> Fields:
    texts: list[str] = []
    thoughts: list[str] = []
    images: list[str] = []
    calls: list[Fields] = []
    for part in parts:
        match part:
            case Text() | Refusal():
                texts.append(part.text)
            case Thought():
                thoughts += _own_thought(part, notes)
            case Media():
                images.append(_encode_image(part, notes))
            case ToolCall():
                calls.append(_encode_call(part, notes))
            case _:  # a vendor's own block; results were taken out before
                raise notes.unsupported("builtin_tools")
        fields_for(NAME, getattr(part, "extra", None), notes)
    content = ("" if role == "assistant" else "\n").join(texts)
    return put(
        {"content": content}, thinking="".join(thoughts) or None, images=images or None, tool_calls=calls or None
    )


def _own_thought(thought: Thought, notes: Notes) -> list[str]:
    if thought.origin == NAME:
        return [thought.text]
    notes.add("reasoning", "left out: another model's thoughts")
    return []


def _encode_image(media: Media, notes: Notes) -> str:
    if media.kind != "image":
        raise notes.unsupported(media.kind)
    if media.data is None:
        raise notes.unsupported("image_url" if media.url else "file_id")
    return encode_base64(media.data)


def _encode_call(call: ToolCall, notes: Notes) -> Fields:
    extra = own(call.extra, NAME)
    function: Fields = {"name": call.name, "arguments": arguments_object(call, notes)}
    merge(function, fields_of(extra.pop("function", {}), "function"))
    return put({"function": function, **extra}, id=_sent_id(call.id))


def _sent_id(id_: str) -> str | None:
    """An identifier goes out if somebody gave it; servers that have none ignore it."""
    return None if id_.startswith(_MADE_UP) else id_


# --- answers -----------------------------------------------------------------------------------------------


def _decode_response(raw: Fields) -> ChatResponse:
    fields = dict(raw)
    if "error" in fields:
        raise InvalidAnswer(f"the answer is an error: {fields['error']!s:.200}", raw)
    message = take_fields(fields, "message")
    if message is None:
        raise InvalidAnswer("the answer has no message", raw)
    if take_bool(fields, "done") is False:
        raise InvalidAnswer("the answer is not complete", raw)
    parts = _answer_parts(message, str(fields.get("created_at")))
    model, reason, usage = take_text(fields, "model") or "", take_text(fields, "done_reason"), _take_usage(fields)
    extra = leftovers(NAME, fields)
    created = _seconds(fields.get("created_at"))
    return ChatResponse(parts, _finish(reason, parts), reason, usage, "", model, created, extra=extra, raw=raw)


def _answer_parts(message: Fields, answer: str) -> tuple[Part, ...]:
    thinking, text = take_text(message, "thinking"), take_text(message, "content")
    identify = Namer(_MADE_UP, answer)
    calls = [_decode_call(item, identify) for item in take_items(message, "tool_calls")]
    images = [Media("image", data=decode_base64(image)) for image in take_texts(message, "images")]
    thoughts = [Thought(thinking, origin=NAME)] if thinking else []
    return (*thoughts, *([Text(text)] if text else []), *images, *calls)


def _finish(reason: str | None, parts: Iterable[Part]) -> FinishReason:
    """``stop`` is also what ends an answer that asks for tools; servers before 2024-08 gave no reason."""
    finish = _FINISH.get(reason or "stop", "other")
    called = any(isinstance(part, ToolCall) for part in parts)
    return "tool_calls" if finish == "stop" and called else finish


def _take_usage(fields: Fields) -> Usage | None:
    """Token counts; the prompt's is absent where the prompt was cached."""
    if fields.get("prompt_eval_count") is None and fields.get("eval_count") is None:
        return None
    return Usage(take_count(fields, "prompt_eval_count"), take_count(fields, "eval_count"))


def _seconds(created_at: object) -> int | None:
    try:
        return int(datetime.fromisoformat(str(created_at)).timestamp())
    except (ValueError, OverflowError):
        return None


def _encode_response(response: ChatResponse) -> Fields:
    message = _encode_parts(_showable(response.parts), "assistant", Notes(NAME))
    head = _head(response.model, response.created, response.extra)
    return {**head, "message": {"role": "assistant", **message}, **_tail(response, response.usage)}


def _showable(parts: Iterable[Part]) -> list[Part]:
    """The parts of anybody's answer that can be shown here: thoughts as thoughts of ours, no blocks of others."""
    shown: list[Part] = []
    for part in parts:
        if isinstance(part, Thought):
            shown.append(Thought(part.text, origin=NAME))
        elif not isinstance(part, Media | Opaque) or (isinstance(part, Media) and part.kind == "image" and part.data):
            shown.append(part)
    return shown


def _head(model: str, created: int | None, extra: Extra | None) -> Fields:
    """What opens every line: clients demand a time, and there is no clock here."""
    when = datetime.fromtimestamp(created or 0, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {"model": model, "created_at": own(extra, NAME).get("created_at", when)}


def _tail(end: ChatResponse | Finish, usage: Usage | None) -> Fields:
    """What closes an answer: why, how long and how much."""
    if isinstance(end, Finish):
        reason, raw = end.reason, end.raw
    else:
        reason, raw = end.finish_reason, end.raw_finish_reason
    word = raw if raw in _FINISH else _DONE.get(reason, reason)
    counts = {"prompt_eval_count": usage.input_tokens, "eval_count": usage.output_tokens} if usage else {}
    return {"done_reason": word, "done": True, **own(end.extra, NAME), **counts}


# --- streams -----------------------------------------------------------------------------------------------


class _StreamDecoder(Growing):
    """Lines -> events."""

    def __init__(self) -> None:
        super().__init__()
        self._lines = ndjson.Decoder()
        self._identify: Namer | None = None  # of the first line's answer
        self._over = False
        self._called = False

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Events completed by these bytes."""
        if self._over:
            return []
        try:
            return self._events(self._lines.feed(data))
        except InvalidAnswer as error:
            return self._fail(StreamBroken(error.message))

    def close(self) -> list[StreamEvent]:
        """The connection ended."""
        if self._over:
            return []
        events = self._events(self._lines.close())
        if not self._over:
            events += self._fail(StreamBroken("the stream ended without done"))
        return events

    def _fail(self, event: StreamBroken | StreamError | StreamEnd) -> list[StreamEvent]:
        self._over = True
        return [event]

    def _events(self, lines: Iterable[bytes]) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        for line in lines:
            try:
                events += self._line(parse_fields(line, "a line"))
            except Malformed:
                events += self._fail(StreamBroken(f"undecodable line: {line[:80]!r}"))
            if self._over:
                break
        return events

    def _line(self, fields: Fields) -> list[StreamEvent]:
        if "error" in fields:
            return self._fail(StreamError(fields))
        events: list[StreamEvent] = []
        if self._identify is None:
            created_at = fields.get("created_at")
            self._identify = Namer(_MADE_UP, str(created_at))
            events.append(StreamStart("", str(fields.get("model") or ""), _seconds(created_at)))
        events += self._content(take_fields(fields, "message") or {}, self._identify)
        if take_bool(fields, "done"):
            events += self._end(fields)
        return events

    def _content(self, message: Fields, identify: Namer) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if thinking := take_text(message, "thinking"):
            events.append(ThoughtDelta(thinking, self._at(ThoughtDelta), origin=NAME))
        if text := take_text(message, "content"):
            events.append(TextDelta(text, self._at(TextDelta)))
        for image in take_texts(message, "images"):
            events.append(PartAdded(Media("image", data=decode_base64(image)), self._at(None)))
        for item in take_items(message, "tool_calls"):
            call, block = _decode_call(item, identify), self._at(None)
            self._called = True
            events.append(ToolCallStart(call.id, call.name, block, extra=call.extra))
            events += [ToolCallDelta(call.arguments, block), BlockEnd(block)]
        return events

    def _end(self, fields: Fields) -> list[StreamEvent]:
        reason, usage = take_text(fields, "done_reason"), _take_usage(fields)
        fields.pop("model", None)
        finish = _finish(reason, [ToolCall("", "")] if self._called else [])
        events: list[StreamEvent] = [Finish(finish, reason, extra=leftovers(NAME, fields))]
        if usage is not None:
            events.append(UsageUpdate(usage))
        return events + self._fail(StreamEnd())


class _StreamEncoder:
    """Events -> lines.  Calls go out whole, as this wire wants them; the last line waits for the token counts."""

    def __init__(self) -> None:
        self._start = StreamStart()
        self._calls: dict[int, tuple[ToolCallStart, list[str]]] = {}
        self._finish = Finish("stop")
        self._usage: Usage | None = None

    def feed(self, event: StreamEvent) -> bytes:
        """The lines this event completes."""
        match event:
            case StreamStart():
                self._start = event
            case TextDelta() | RefusalDelta() if event.text:
                return self._flushed() + self._line({"content": event.text})
            case ThoughtDelta() if event.text:
                return self._flushed() + self._line({"content": "", "thinking": event.text})
            case PartAdded():
                return self._flushed() + self._part(event.part)
            case ToolCallStart():
                self._calls[event.block] = (event, [])
            case ToolCallDelta() if event.block in self._calls:
                self._calls[event.block][1].append(event.arguments)
            case _:
                return self._closing(event)
        return b""

    def _closing(self, event: StreamEvent) -> bytes:
        match event:
            case BlockEnd():
                return self._flushed(event.block)
            case UsageUpdate():
                self._usage = event.usage
            case Finish(choice=0):
                self._finish = event
                return self._flushed()
            case StreamEnd():
                return self._flushed() + self._line({"content": ""}, _tail(self._finish, self._usage))
            case StreamError() | StreamBroken():
                return _error_line(told_message(event))
            case _:
                pass
        return b""

    def _part(self, part: Part) -> bytes:
        shown = _showable([part])
        return self._line(_encode_parts(shown, "assistant", Notes(NAME))) if shown else b""

    def _flushed(self, block: int | None = None) -> bytes:
        """The calls that are complete: the one of ``block``, or all."""
        ready = [each for each in self._calls if block in (None, each)]
        calls = [self._calls.pop(each) for each in ready]
        return b"".join(
            self._line(_encode_parts([ToolCall(s.id, s.name, "".join(pieces), s.extra)], "assistant", Notes(NAME)))
            for s, pieces in calls
        )

    def _line(self, message: Fields, tail: Fields | None = None) -> bytes:
        head = _head(self._start.model, self._start.created, None)
        whole = {**head, "message": {"role": "assistant", **message}, **(tail or {"done": False})}
        return ndjson.encode(dump(whole))


def _error_line(message: str) -> bytes:
    return ndjson.encode(dump({"error": message}))


# --- embeddings --------------------------------------------------------------------------------------------


def decode_embed_request(body: bytes) -> EmbedRequest:
    """A request to ``/api/embed``.  Raises ``InvalidRequest``."""

    def read(fields: Fields) -> EmbedRequest:
        inputs, model = take_texts(fields, "input"), take_text(fields, "model") or ""
        dimensions = take_int(fields, "dimensions")
        return EmbedRequest(inputs, model, dimensions, request_extras(NAME, fields))

    return reading_request(NAME, body, read)


def encode_embed_request(request: EmbedRequest) -> HttpRequest:
    """The request for ``/api/embed``."""
    body = put({"model": request.model, "input": list(request.inputs)}, dimensions=request.dimensions)
    notes = Notes(NAME)
    extras_for(NAME, request.extra, notes)
    merge_own(body, request.extra, NAME)
    return HttpRequest(EMBED_PATH, dump(body), JSON_HEADERS, notes.all())


def decode_embed_response(body: bytes) -> EmbedResponse:
    """The vectors.  Raises ``InvalidAnswer``."""

    def read(raw: Fields) -> EmbedResponse:
        fields = dict(raw)
        vectors = tuple(vector(item) for item in items_of(fields.pop("embeddings", None), "embeddings"))
        count = take_count(fields, "prompt_eval_count")
        return EmbedResponse(vectors, take_text(fields, "model") or "", Usage(count) if count else None, raw)

    return reading_answer(NAME, body, read)


def encode_embed_response(response: EmbedResponse) -> bytes:
    """The vectors as a client of ``/api/embed`` expects them."""
    body: Fields = {"model": response.model, "embeddings": [list(each) for each in response.vectors]}
    return dump(put(body, prompt_eval_count=response.usage.input_tokens if response.usage else None))


# --- the codec ---------------------------------------------------------------------------------------------


CODEC: Final = JsonCodec(
    name=NAME,
    read_request=_decode_request,
    write_request=_encode_request,
    read_answer=_decode_response,
    write_answer=_encode_response,
    write_error=lambda _fault, message: {"error": message},  # the status says the rest
    write_stream_error=lambda _fault, message: _error_line(message),
    stream_decoder=_StreamDecoder,
    make_stream_encoder=_StreamEncoder,
)
