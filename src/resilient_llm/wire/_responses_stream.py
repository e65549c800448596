"""OpenAI Responses streams <-> events.

A stream is complete at ``response.completed`` or ``response.incomplete``, which repeat the whole response; an encoder
therefore collects it.  Errors come as an ``error`` event, flat or nested, or as ``response.failed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import (
    BlockEnd,
    Finish,
    JsonObject,
    KeepAlive,
    Opaque,
    PartAdded,
    Refusal,
    RefusalDelta,
    Restarted,
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
    UsageUpdate,
)
from resilient_llm.wire._openai_json import as_object, as_text, dumps
from resilient_llm.wire._responses_answer import (
    decode_response,
    encode_usage,
    extra_of,
    finish_of,
    frame_of,
    response_of,
    status_of,
)
from resilient_llm.wire._responses_items import (
    FOREIGN,
    WIRE,
    contents,
    decode_call,
    decode_item,
    decode_thought,
    reasoning_item,
)
from resilient_llm.wire.accumulate import replay
from resilient_llm.wire.fields import Fields, own, time_of
from resilient_llm.wire.sse import JsonStream, encode

_NO_INDEX = frozenset({dict, list})


class ResponsesStreamDecoder(JsonStream):
    """Decodes one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._last = -1
        self._blocks: dict[tuple[object, object], int] = {}  # (output index, what of the item) -> open block
        self._told: set[tuple[object, object]] = set()  # texts and arguments that came in pieces
        self._calls: list[ToolCall] = []
        self._refused = self._seen = False
        self._handlers: Mapping[object, Callable[[Fields], None]] = {
            "response.output_text.delta": self._text,
            "response.function_call_arguments.delta": self._arguments,
            "response.reasoning_summary_text.delta": self._thought,
            "response.reasoning_text.delta": self._thought,
            "response.refusal.delta": self._refusal,
            "response.created": self._start,
            "response.in_progress": self._start,
            "response.queued": self._start,
            "response.output_item.added": self._item_added,
            "response.output_item.done": self._item_done,
            "response.output_text.annotation.added": self._annotation,
            "response.reasoning_summary_part.added": self._summary_part,
            "response.completed": self._end,
            "response.incomplete": self._end,
            "response.cancelled": self._error,
            "response.failed": self._error,
            "error": self._error,
        }

    def on_object(self, event: str, data: dict[str, object]) -> None:
        """One event; its type is repeated in the data, and vendors differ in which of the two they send."""
        for name in ("output_index", "content_index"):
            if type(data.get(name)) in _NO_INDEX:
                data[name] = None
        handler = self._handlers.get(str(data.get("type", event)))
        if handler is not None:
            handler(data)
        elif event == "error" or data.get("error"):
            self._error(data)

    def on_text(self, data: str) -> bool:
        """``[DONE]`` is no part of this wire, but some vendors cannot help it."""
        return data.strip() in {"", "[DONE]"}

    def at_end(self) -> str | None:
        return "the stream ended before the response was completed"

    def whole_answer(self, body: bytes) -> list[StreamEvent]:
        return replay(decode_response(body))

    # --- blocks --------------------------------------------------------------------------------------------

    def _block(self, data: Fields, what: object) -> int:
        key = (data.get("output_index"), what)
        block = self._blocks.get(key)
        return self._open(key) if block is None else block

    def _open(self, key: tuple[object, object]) -> int:
        self._last = self._blocks[key] = self._last + 1
        self._seen = True
        return self._last

    # --- pieces --------------------------------------------------------------------------------------------

    def _text(self, data: Fields) -> None:
        what = data.get("content_index")
        self._out.append(TextDelta(as_text(data.get("delta")), self._block(data, what)))

    def _annotation(self, data: Fields) -> None:
        block = self._block(data, data.get("content_index"))
        self._out.append(TextDelta("", block, annotations=(as_object(data.get("annotation")),)))

    def _refusal(self, data: Fields) -> None:
        self._out.append(RefusalDelta(as_text(data.get("delta")), self._block(data, data.get("content_index"))))

    def _arguments(self, data: Fields) -> None:
        key = (data.get("output_index"), "call")
        if key in self._blocks:
            self._told.add(key)
            self._out.append(ToolCallDelta(as_text(data.get("delta")), self._blocks[key]))

    def _thought(self, data: Fields) -> None:
        block = self._block(data, "thought")
        self._out.append(ThoughtDelta(as_text(data.get("delta")), block, origin=WIRE))

    def _summary_part(self, data: Fields) -> None:
        if (data.get("output_index"), "thought") in self._blocks:  # not the first
            self._out.append(ThoughtDelta("\n\n", self._block(data, "thought"), origin=WIRE))

    # --- items ---------------------------------------------------------------------------------------------

    def _item_added(self, data: Fields) -> None:
        item = as_object(data.get("item"))
        if item.get("type") == "function_call":
            self._begin_call(data, decode_call(item))

    def _begin_call(self, data: Fields, call: ToolCall) -> None:
        block = self._open((data.get("output_index"), "call"))
        self._calls.append(call)
        self._out.append(ToolCallStart(call.id, call.name, block, extra=call.extra))

    def _item_done(self, data: Fields) -> None:
        item = as_object(data.get("item"))
        kind = item.get("type")
        if kind == "message":
            self._message_done(data, item)
        elif kind == "function_call":
            self._call_done(data, decode_call(item))
        elif kind == "reasoning":
            told = (data.get("output_index"), "thought") in self._blocks
            self._close(data)
            self._out.append(PartAdded(decode_thought(item, told), self._block(data, "item")))
        else:
            self._out.append(PartAdded(Opaque(WIRE, item), self._block(data, "item")))
        self._close(data)

    def _message_done(self, data: Fields, item: Fields) -> None:
        for index, part in enumerate(decode_item(item)):
            if (data.get("output_index"), index) in self._blocks:  # it came in pieces
                continue
            if isinstance(part, Text):
                self._out.append(TextDelta(part.text, self._block(data, index), annotations=part.annotations))
            elif isinstance(part, Refusal):
                self._out.append(RefusalDelta(part.text, self._block(data, index)))
            else:
                self._out.append(PartAdded(part, self._block(data, index)))

    def _call_done(self, data: Fields, call: ToolCall) -> None:
        key = (data.get("output_index"), "call")
        if key not in self._blocks:
            self._begin_call(data, call)
        if key not in self._told and call.arguments:
            self._out.append(ToolCallDelta(call.arguments, self._blocks[key]))

    def _close(self, data: Fields) -> None:
        index = data.get("output_index")
        for key in [key for key in self._blocks if key[0] == index]:
            self._out.append(BlockEnd(self._blocks.pop(key)))

    # --- the response --------------------------------------------------------------------------------------

    def _start(self, data: Fields) -> None:
        if self._begun:
            return
        self._begun = True
        response = as_object(data.get("response"))
        created = time_of(response.get("created_at"))
        self._out.append(StreamStart(as_text(response.get("id")), as_text(response.get("model")), created))

    def _end(self, data: Fields) -> None:
        fields = as_object(data.get("response"))
        try:
            response = response_of(fields)
        except InvalidAnswer as error:
            if fields.get("error"):
                self._error(data)
            else:
                self.fail(StreamBroken(error.message))
            return
        if not self._seen and response.parts:  # everything comes at the end
            self._out += [event for event in replay(response) if not isinstance(event, StreamStart | UsageUpdate)]
            self._out = [event for event in self._out if not isinstance(event, Finish | StreamEnd)]
        reason, raw = finish_of(fields, self._calls or response.parts)
        self._out.append(Finish(reason, raw, extra=extra_of(fields)))
        if response.usage is not None:
            self._out.append(UsageUpdate(response.usage))
        self.fail(StreamEnd())

    def _error(self, data: Fields) -> None:
        self.fail(StreamError(data))


# --- encoding ----------------------------------------------------------------------------------------------


class ResponsesStreamEncoder:
    """Encodes one stream as the vendor's SDK wants it: every block as an item of its own, the whole response at the
    end, and all events numbered."""

    def __init__(self) -> None:
        self._number = -1
        self._started = False
        self._response: Fields = frame_of("", "", None)
        self._output: list[Fields] = []
        self._item: _Item | None = None
        self._closing: _Item | None = None  # reasoning, which may yet learn its name
        self._finish: Finish | None = None
        self._counted: Fields = {}
        self._begins: Mapping[str, Callable[[int], bytes]] = {
            "text": self._begin_text,
            "refusal": self._begin_refusal,
            "thought": self._begin_thought,
        }
        self._dones: Mapping[str, Callable[[_Item], bytes]] = {
            "text": self._text_done,
            "refusal": self._refusal_done,
            "thought": self._thought_done,
            "call": self._call_done,
        }
        self._handlers: Mapping[type, Callable[[object], bytes]] = cast(
            "Mapping[type, Callable[[object], bytes]]",
            {
                TextDelta: self._text,
                ToolCallDelta: self._arguments,
                ThoughtDelta: self._thought,
                RefusalDelta: self._refusal,
                ToolCallStart: self._tool,
                PartAdded: self._part,
                BlockEnd: self._block_end,
                StreamStart: self._start,
                UsageUpdate: self._usage,
                Finish: self._finished,
                StreamEnd: self._end,
                StreamError: self._error,
                StreamBroken: self._broken,
                Restarted: self._restarted,
                KeepAlive: self._keep_alive,
            },
        )

    def feed(self, event: StreamEvent) -> bytes:
        """The frames this event completes."""
        if getattr(event, "choice", 0):  # this wire has one answer
            return b""
        handler = self._handlers.get(type(event))
        return handler(event) if handler is not None else b""

    def _frame(self, kind: str, **fields: object) -> bytes:
        self._number += 1
        return encode(dumps({"type": kind, "sequence_number": self._number, **fields}).encode(), kind)

    def _piece(self, kind: str, item: _Item, **fields: object) -> bytes:
        return self._frame(kind, item_id=item.id, output_index=item.index, **item.place, **fields)

    # --- the response --------------------------------------------------------------------------------------

    def _start(self, event: StreamStart) -> bytes:
        if self._started:
            return b""
        self._started = True
        self._response = frame_of(event.id, event.model, event.created)
        created = self._frame("response.created", response=self._response)
        return created + self._frame("response.in_progress", response=self._response)

    def _finished(self, event: Finish) -> bytes:
        self._finish = self._finish or event
        return b""

    def _usage(self, event: UsageUpdate) -> bytes:
        self._counted = {"usage": encode_usage(event.usage)}
        return b""

    def _end(self, _event: StreamEnd) -> bytes:
        out = self._start(StreamStart()) + self._close()
        finish = self._finish or Finish("stop")
        body = self._response | self._counted | {"output": self._output} | status_of(finish.reason, finish.raw)
        body |= own(finish.extra, WIRE)
        status = body["status"]
        kind = f"response.{status}" if status in {"completed", "incomplete", "failed"} else "response.completed"
        return out + self._frame(kind, response=body)

    def _error(self, event: StreamError) -> bytes:
        payload = event.payload
        return self._failure(as_object(payload) if isinstance(payload, Mapping) else {}, str(payload))

    def _broken(self, event: StreamBroken) -> bytes:
        return self._failure({}, event.reason)

    def _failure(self, payload: Fields, text: str) -> bytes:
        failed = as_object(as_object(payload.get("response")).get("error"))
        inner = as_object(payload.get("error")) or failed or payload
        message = as_text(inner.get("message")) or text
        code = inner.get("code")
        return self._frame("error", **error_fields({"message": message, "code": code, "type": inner.get("type")}))

    def _restarted(self, event: Restarted) -> bytes:
        """A marker that helpers pass through; what came before it is not in the final response."""
        out = self._close()
        self._output.clear()
        return out + self._frame("resilient_llm.restart", provider=event.provider, reason=event.reason)

    def _keep_alive(self, _event: KeepAlive) -> bytes:
        return b": keep-alive\n\n"

    # --- items ---------------------------------------------------------------------------------------------

    def _begin(self, kind: str, block: int, about: Fields) -> bytes:
        """A new item, which ends the one before it."""
        out = self._start(StreamStart()) + self._close()
        item = _Item(kind, block, len(self._output), about)
        self._item = item
        self._output.append(item.body)
        return out + self._frame("response.output_item.added", output_index=item.index, item=item.body)

    def _close(self) -> bytes:
        """The open item is complete."""
        out = b""
        for item in (self._closing, self._item):
            if item is not None:
                out += self._dones[item.kind](item)
                item.body["status"] = "completed"
                if item.kind == "thought":
                    del item.body["status"]
                out += self._frame("response.output_item.done", output_index=item.index, item=item.body)
        self._item = self._closing = None
        return out

    def _block_end(self, event: BlockEnd) -> bytes:
        item = self._item
        if item is None or item.block != event.block:
            return b""
        if item.kind == "thought":
            self._item, self._closing = None, item
            return b""
        return self._close()

    def _open(self, kind: str, block: int) -> tuple[bytes, _Item]:
        """The item of a block, begun if it is not open."""
        item = self._item
        if item is not None and item.kind == kind and item.block == block:
            return b"", item
        out = self._begins[kind](block)
        assert self._item is not None
        return out, self._item

    def _begin_message(self, block: int, part: Fields) -> bytes:
        kind = "text" if part["type"] == "output_text" else "refusal"
        message: Fields = {"type": "message", "role": "assistant", "content": []}
        out = self._begin(kind, block, message)
        assert self._item is not None
        out += self._piece("response.content_part.added", self._item, part=part)
        contents(self._item.body).append(part)
        return out

    def _begin_text(self, block: int) -> bytes:
        return self._begin_message(block, {"type": "output_text", "text": "", "annotations": [], "logprobs": []})

    def _begin_refusal(self, block: int) -> bytes:
        return self._begin_message(block, {"type": "refusal", "refusal": ""})

    def _begin_thought(self, block: int) -> bytes:
        out = self._begin("thought", block, {"type": "reasoning", "summary": []})
        assert self._item is not None
        part = {"type": "summary_text", "text": ""}
        return out + self._piece("response.reasoning_summary_part.added", self._item, part=part)

    def _text(self, event: TextDelta) -> bytes:
        out, item = self._open("text", event.block)
        if event.text:
            item.pieces.append(event.text)
            out += self._piece("response.output_text.delta", item, delta=event.text, logprobs=[])
        for annotation in event.annotations:
            out += self._annotate(item, annotation)
        return out

    def _annotate(self, item: _Item, annotation: JsonObject) -> bytes:
        if not isinstance(annotation.get("type"), str):  # another wire's citation
            return b""
        index = len(item.annotations)
        item.annotations.append(annotation)
        kind = "response.output_text.annotation.added"
        return self._piece(kind, item, annotation_index=index, annotation=dict(annotation))

    def _refusal(self, event: RefusalDelta) -> bytes:
        out, item = self._open("refusal", event.block)
        item.pieces.append(event.text)
        return out + self._piece("response.refusal.delta", item, delta=event.text)

    def _thought(self, event: ThoughtDelta) -> bytes:
        if not event.text:
            return b""
        out, item = self._open("thought", event.block)
        item.pieces.append(event.text)
        return out + self._piece("response.reasoning_summary_text.delta", item, delta=event.text)

    def _tool(self, event: ToolCallStart) -> bytes:
        call: Fields = {"type": "function_call", "call_id": event.id, "name": event.name, "arguments": ""}
        return self._begin("call", event.block, call | own(event.extra, WIRE))

    def _arguments(self, event: ToolCallDelta) -> bytes:
        item = self._item
        if item is None or item.kind != "call" or item.block != event.block:
            return b""
        item.pieces.append(event.arguments)
        return self._piece("response.function_call_arguments.delta", item, delta=event.arguments)

    def _part(self, event: PartAdded) -> bytes:
        part, block = event.part, event.block
        match part:
            case Text():
                return self._text(TextDelta(part.text, block, annotations=part.annotations))
            case Refusal():
                return self._refusal(RefusalDelta(part.text, block))
            case ToolCall():
                start = self._tool(ToolCallStart(part.id, part.name, block, extra=part.extra))
                return start + self._arguments(ToolCallDelta(part.arguments, block))
            case Thought():
                return self._whole_thought(part, block)
            case Opaque(wire="openai_responses"):
                return self._start(StreamStart()) + self._close() + self._whole(dict(part.data))
            case _:
                return b""

    def _whole_thought(self, part: Thought, block: int) -> bytes:
        """A thought with its identity; its text may have been streamed just before."""
        own_id = part.origin == WIRE and "id" in own(part.extra, WIRE)
        if not own_id:
            return self._thought(ThoughtDelta(part.text, block)) if part.text else b""
        streamed = self._closing
        if streamed is None or part.text:
            return self._start(StreamStart()) + self._close() + self._whole(reasoning_item(part))
        streamed.about = reasoning_item(part)
        return self._close()

    def _whole(self, item: Fields) -> bytes:
        index = len(self._output)
        self._output.append(item)
        added = self._frame("response.output_item.added", output_index=index, item=item)
        return added + self._frame("response.output_item.done", output_index=index, item=item)

    # --- ends of items -------------------------------------------------------------------------------------

    def _text_done(self, item: _Item) -> bytes:
        text, annotations = "".join(item.pieces), [dict(annotation) for annotation in item.annotations]
        part: Fields = {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}
        return self._message_done(item, part, self._piece("response.output_text.done", item, text=text, logprobs=[]))

    def _refusal_done(self, item: _Item) -> bytes:
        text = "".join(item.pieces)
        done = self._piece("response.refusal.done", item, refusal=text)
        return self._message_done(item, {"type": "refusal", "refusal": text}, done)

    def _message_done(self, item: _Item, part: Fields, done: bytes) -> bytes:
        item.body["content"] = [part]
        return done + self._piece("response.content_part.done", item, part=part)

    def _thought_done(self, item: _Item) -> bytes:
        text = "".join(item.pieces)
        part: Fields = {"type": "summary_text", "text": text}
        out = self._piece("response.reasoning_summary_text.done", item, text=text)
        out += self._piece("response.reasoning_summary_part.done", item, part=part)
        item.body["summary"] = [part]
        item.body |= item.about
        return out

    def _call_done(self, item: _Item) -> bytes:
        item.body["arguments"] = arguments = "".join(item.pieces) or "{}"
        return self._piece("response.function_call_arguments.done", item, arguments=arguments)


class _Item:
    """An output item while it is being written."""

    __slots__ = ("about", "annotations", "block", "body", "id", "index", "kind", "pieces", "place")

    def __init__(self, kind: str, block: int, index: int, body: Fields) -> None:
        self.kind, self.block, self.index = kind, block, index
        self.place: Mapping[str, object] = _PLACES[kind]
        self.body: Fields = {"id": f"{_PREFIXES[kind]}{index}", "status": "in_progress"} | body
        self.id = self.body["id"]
        self.about: Fields = {}
        self.pieces: list[str] = []
        self.annotations: list[JsonObject] = []


_PREFIXES = {"text": "msg_", "refusal": "msg_", "thought": FOREIGN, "call": "fc_"}
_PLACES: Mapping[str, Mapping[str, object]] = {
    "text": {"content_index": 0},
    "refusal": {"content_index": 0},
    "thought": {"summary_index": 0},
    "call": {},
}


def error_fields(error: Fields) -> Fields:
    """An error in both shapes: the documented one is flat, the one the SDK raises has it nested."""
    nested = {"type": "server_error", "param": None, "code": None} | {k: v for k, v in error.items() if v is not None}
    return {"code": nested["code"], "message": nested.get("message", ""), "param": None, "error": nested}
