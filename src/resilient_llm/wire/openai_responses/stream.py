"""OpenAI Responses streams <-> events.

A stream is complete at ``response.completed`` or ``response.incomplete``, which repeat the whole response; an encoder
therefore collects it.  Errors come as an ``error`` event, flat or nested, or as ``response.failed``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from urllib.parse import quote

from resilient_llm import model as m
from resilient_llm.errors import Fault, InvalidAnswer
from resilient_llm.wire.framing.sse import encode
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.accumulate import replay
from resilient_llm.wire.kit.openai import encode_error
from resilient_llm.wire.kit.streams import JsonEvents, StreamEncoder, told_message
from resilient_llm.wire.openai_responses import answer as a
from resilient_llm.wire.openai_responses import parts as p

_NO_INDEX = frozenset({dict, list})


class Decoder(JsonEvents):
    """Decodes one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = False
        self._kept = ""  # the id of a response that the vendor keeps while it is written
        self._seen_number: int | None = None
        self._last = -1
        self._blocks: dict[tuple[object, object], int] = {}  # (output index, what of the item) -> open block
        self._in_pieces: set[tuple[object, object]] = set()  # texts and arguments that came in pieces
        self._calls: list[m.ToolCall] = []
        self._refused = self._seen = False
        self._handlers: Mapping[object, Callable[[f.Fields], None]] = {
            "response.output_text.delta": self._text,
            "response.function_call_arguments.delta": self._arguments,
            "response.reasoning_summary_text.delta": self._thought,
            "response.reasoning_text.delta": self._thought,
            "response.refusal.delta": self._refusal,
            "response.created": self._start,
            "response.in_progress": self._start,
            "response.queued": self._start,
            "response.output_text.done": self._text_done,
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

    def on_object(self, event: str, data: f.Fields) -> None:
        """One event; its type is repeated in the data, and vendors differ in which of the two they send."""
        for name in ("output_index", "content_index"):
            if type(data.get(name)) in _NO_INDEX:
                data[name] = None
        number = data.get("sequence_number")
        if type(number) is int:
            self._seen_number = number
        handler = self._handlers.get(str(data.get("type", event)))
        if handler is not None:
            handler(data)
        elif event == "error" or data.get("error"):
            self._error(data)

    def at_end(self) -> str | None:
        return "the stream ended before the response was completed"

    @property
    def rest(self) -> str | None:
        """The path at which the vendor keeps the rest of this stream; ``None``: nowhere.  Responses asked for with
        ``background`` and ``stream`` go on although nobody listens."""
        if not self._kept or self._seen_number is None:
            return None
        return f"/responses/{quote(self._kept, safe='')}?stream=true&starting_after={self._seen_number}"

    def reopen(self) -> None:
        """The rest of the stream follows, over another connection."""
        self.begin_anew()

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        return a.decode_response(body)

    def _block(self, data: f.Fields, what: object) -> int:
        key = (data.get("output_index"), what)
        block = self._blocks.get(key)
        return self._open(key) if block is None else block

    def _open(self, key: tuple[object, object]) -> int:
        self._last = self._blocks[key] = self._last + 1
        self._seen = True
        return self._last

    def _text(self, data: f.Fields) -> None:
        what = data.get("content_index")
        self._out.append(m.TextDelta(f.as_text(data.get("delta")), self._block(data, what)))

    def _text_done(self, data: f.Fields) -> None:
        """The whole of a text; some servers send it in one piece."""
        if (data.get("output_index"), data.get("content_index")) not in self._blocks:
            self._text(data | {"delta": data.get("text")})

    def _annotation(self, data: f.Fields) -> None:
        block = self._block(data, data.get("content_index"))
        self._out.append(m.TextDelta("", block, annotations=(f.as_object(data.get("annotation")),)))

    def _refusal(self, data: f.Fields) -> None:
        self._out.append(m.RefusalDelta(f.as_text(data.get("delta")), self._block(data, data.get("content_index"))))

    def _arguments(self, data: f.Fields) -> None:
        key = (data.get("output_index"), "call")
        if key in self._blocks:
            self._in_pieces.add(key)
            self._out.append(m.ToolCallDelta(f.as_text(data.get("delta")), self._blocks[key]))

    def _thought(self, data: f.Fields) -> None:
        block = self._block(data, "thought")
        self._out.append(m.ThoughtDelta(f.as_text(data.get("delta")), block, origin=p.WIRE))

    def _summary_part(self, data: f.Fields) -> None:
        if (data.get("output_index"), "thought") in self._blocks:  # not the first
            self._out.append(m.ThoughtDelta("\n\n", self._block(data, "thought"), origin=p.WIRE))

    def _item_added(self, data: f.Fields) -> None:
        item = f.as_object(data.get("item"))
        if item.get("type") == "function_call":
            self._begin_call(data, p.decode_call(item))

    def _begin_call(self, data: f.Fields, call: m.ToolCall) -> None:
        block = self._open((data.get("output_index"), "call"))
        self._calls.append(call)
        self._out.append(m.ToolCallStart(call.id, call.name, block, extra=call.extra))

    def _item_done(self, data: f.Fields) -> None:
        item = f.as_object(data.get("item"))
        kind = item.get("type")
        if kind == "message":
            self._message_done(data, item)
        elif kind == "function_call":
            self._call_done(data, p.decode_call(item))
        elif kind == "reasoning":
            streamed = (data.get("output_index"), "thought") in self._blocks
            self._close(data)
            self._out.append(m.PartAdded(p.decode_thought(item, streamed), self._block(data, "item")))
        else:
            self._out.append(m.PartAdded(m.Opaque(p.WIRE, item), self._block(data, "item")))
        self._close(data)

    def _message_done(self, data: f.Fields, item: f.Fields) -> None:
        for index, part in enumerate(p.decode_item(item)):
            if (data.get("output_index"), index) in self._blocks:  # it came in pieces
                continue
            if isinstance(part, m.Text):
                self._out.append(m.TextDelta(part.text, self._block(data, index), annotations=part.annotations))
            elif isinstance(part, m.Refusal):
                self._out.append(m.RefusalDelta(part.text, self._block(data, index)))
            else:
                self._out.append(m.PartAdded(part, self._block(data, index)))

    def _call_done(self, data: f.Fields, call: m.ToolCall) -> None:
        key = (data.get("output_index"), "call")
        if key not in self._blocks:
            self._begin_call(data, call)
        if key not in self._in_pieces and call.arguments:
            self._out.append(m.ToolCallDelta(call.arguments, self._blocks[key]))

    def _close(self, data: f.Fields) -> None:
        index = data.get("output_index")
        for key in [key for key in self._blocks if key[0] == index]:
            self._out.append(m.BlockEnd(self._blocks.pop(key)))

    def _start(self, data: f.Fields) -> None:
        if self._begun:
            return
        self._begun = True
        response = f.as_object(data.get("response"))
        created = f.time_of(response.get("created_at"))
        if response.get("background") is True:
            self._kept = f.as_text(response.get("id"))
        self._out.append(m.StreamStart(f.as_text(response.get("id")), f.as_text(response.get("model")), created))

    def _end(self, data: f.Fields) -> None:
        fields = f.as_object(data.get("response"))
        try:
            response = a.decode_response(fields)
        except InvalidAnswer as error:
            if fields.get("error"):
                self._error(data)
            else:
                self.end(m.StreamBroken(error.message))
            return
        if not self._seen and response.parts:  # everything comes at the end
            self._out += [event for event in replay(response) if not isinstance(event, m.StreamStart | m.UsageUpdate)]
            self._out = [event for event in self._out if not isinstance(event, m.Finish | m.StreamEnd)]
        reason, raw = a.finish_of(fields, self._calls or response.parts)
        self._out.append(m.Finish(reason, raw, extra=a.settings_of(fields)))
        if response.usage is not None:
            self._out.append(m.UsageUpdate(response.usage))
        self.end(m.StreamEnd())

    def _error(self, data: f.Fields) -> None:
        self.end(m.StreamError(data))


class Encoder(StreamEncoder):
    """Encodes one stream as the vendor's SDK wants it: every block as an item of its own, the whole response at the
    end, and all events numbered."""

    def __init__(self) -> None:
        super().__init__()
        self._number = -1
        self._response: f.Fields = a.frame_of("", "", None)
        self._output: list[f.Fields] = []
        self._item: p.StreamedItem | None = None
        self._closing: p.StreamedItem | None = None  # reasoning, which may yet learn its name

    def _frame(self, kind: str, **fields: object) -> bytes:
        self._number += 1
        return encode(f.dump({"type": kind, "sequence_number": self._number, **fields}), kind)

    def _piece(self, kind: str, item: p.StreamedItem, **fields: object) -> bytes:
        return self._frame(kind, item_id=item.body["id"], output_index=item.index, **item.place, **fields)

    def opening(self) -> bytes:
        self._response = a.frame_of(self.start.id, self.start.model, self.start.created)
        created = self._frame("response.created", response=self._response)
        return created + self._frame("response.in_progress", response=self._response)

    def on_end(self, event: m.StreamEnd) -> bytes:
        out = self.opened() + self._close()
        counted = {} if self.usage is None else {"usage": a.encode_usage(self.usage)}
        finish = self.finish
        body = self._response | counted | {"output": self._output} | a.status_of(finish.reason, finish.raw)
        body |= f.own_fields(finish.extra, p.WIRE)
        status = body["status"]
        kind = f"response.{status}" if status in {"completed", "incomplete", "failed"} else "response.completed"
        return out + self._frame(kind, response=body)

    def on_error(self, event: m.StreamError | m.StreamBroken) -> bytes:
        payload = f.as_object(event.payload) if isinstance(event, m.StreamError) else {}
        failed = f.as_object(f.as_object(payload.get("response")).get("error"))
        inner = f.as_object(payload.get("error")) or failed or payload
        error = {"message": told_message(event), "code": inner.get("code"), "type": inner.get("type")}
        return self._frame("error", **a.error_fields(error))

    def on_restart(self, event: m.Restarted) -> bytes:
        """A marker that helpers pass through; what came before it is not in the final response."""
        out = self._close()
        self._output.clear()
        return out + self._frame("resilient_llm.restart", provider=event.provider, reason=event.reason)

    def on_keep_alive(self, event: m.KeepAlive) -> bytes:
        return b": keep-alive\n\n"

    def _begin(self, kind: p.Kind, block: int, more: f.Fields) -> tuple[bytes, p.StreamedItem]:
        """A new item, which ends the one before it."""
        out = self.opened() + self._close()
        item = self._item = p.StreamedItem(kind, block, len(self._output), more)
        self._output.append(item.body)
        out += self._frame("response.output_item.added", output_index=item.index, item=item.body)
        return out + self._part(item, "added", kind.part), item

    def _part(self, item: p.StreamedItem, what: str, part: f.Fields | None) -> bytes:
        return self._piece(f"{item.kind.part_event}.{what}", item, part=part) if part else b""

    def _close(self) -> bytes:
        """The open item is complete."""
        out = b""
        for item in (self._closing, self._item):
            if item is not None:
                out += self._done(item)
                item.body["status"] = "completed"
                if item.kind is p.THOUGHT:
                    del item.body["status"]
                out += self._frame("response.output_item.done", output_index=item.index, item=item.body)
        self._item = self._closing = None
        return out

    def on_block_end(self, event: m.BlockEnd) -> bytes:
        item = self._item
        if item is None or item.block != event.block:
            return b""
        if item.kind is p.THOUGHT:
            self._item, self._closing = None, item
            return b""
        return self._close()

    def _open(self, kind: p.Kind, block: int) -> tuple[bytes, p.StreamedItem]:
        """The item of a block, begun if it is not open."""
        item = self._item
        if item is not None and item.kind is kind and item.block == block:
            return b"", item
        return self._begin(kind, block, {})

    def _grow(self, item: p.StreamedItem, text: str) -> bytes:
        item.pieces.append(text)
        return self._piece(f"{item.kind.event}.delta", item, delta=text, **item.kind.beside)

    def _done(self, item: p.StreamedItem) -> bytes:
        """The last events of an item's content, which its body holds from now on."""
        kind, text = item.kind, "".join(item.pieces)
        if kind.part is None:
            item.body[kind.grows] = text = text or "{}"
            return self._piece(f"{kind.event}.done", item, **{kind.grows: text})
        part = kind.part | {kind.grows: text}
        if item.annotations:
            part["annotations"] = [dict(annotation) for annotation in item.annotations]
        out = self._piece(f"{kind.event}.done", item, **{kind.grows: text}, **kind.beside)
        out += self._part(item, "done", part)
        item.body |= {kind.holds: [part]} | item.about
        return out

    def on_text(self, event: m.TextDelta) -> bytes:
        out, item = self._open(p.TEXT, event.block)
        if event.text:
            out += self._grow(item, event.text)
        for annotation in event.annotations:
            out += self._annotate(item, annotation)
        return out

    def _annotate(self, item: p.StreamedItem, annotation: m.JsonObject) -> bytes:
        if not isinstance(annotation.get("type"), str):  # another wire's citation
            return b""
        index = len(item.annotations)
        item.annotations.append(annotation)
        kind = "response.output_text.annotation.added"
        return self._piece(kind, item, annotation_index=index, annotation=dict(annotation))

    def on_refusal(self, event: m.RefusalDelta) -> bytes:
        out, item = self._open(p.REFUSAL, event.block)
        return out + self._grow(item, event.text)

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        if not event.text:
            return b""
        out, item = self._open(p.THOUGHT, event.block)
        return out + self._grow(item, event.text)

    def on_call(self, event: m.ToolCallStart) -> bytes:
        call: f.Fields = {"call_id": event.id, "name": event.name, "arguments": ""}
        return self._begin(p.CALL, event.block, call | f.own_fields(event.extra, p.WIRE))[0]

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        item = self._item
        if item is None or item.kind is not p.CALL or item.block != event.block:
            return b""
        return self._grow(item, event.arguments)

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        match part:
            case m.Thought():
                return self._whole_thought(part, block)
            case m.Opaque(wire="openai_responses"):
                return self.opened() + self._close() + self._whole(dict(part.data))
            case _:
                return b""

    def _whole_thought(self, part: m.Thought, block: int) -> bytes:
        """A thought with its identity; its text may have been streamed just before."""
        own_id = part.origin == p.WIRE and "id" in f.own_fields(part.extra, p.WIRE)
        if not own_id:
            return self.on_thought(m.ThoughtDelta(part.text, block)) if part.text else b""
        streamed = self._closing
        if streamed is None or part.text:
            return self.opened() + self._close() + self._whole(p.reasoning_item(part))
        streamed.about = p.reasoning_item(part)
        return self._close()

    def _whole(self, item: f.Fields) -> bytes:
        index = len(self._output)
        self._output.append(item)
        added = self._frame("response.output_item.added", output_index=index, item=item)
        return added + self._frame("response.output_item.done", output_index=index, item=item)


def error_frame(fault: Fault, message: str) -> bytes:
    """The frame that ends a stream with an error; the vendor's SDK raises it."""
    error = f.as_object(encode_error(fault, message)["error"])
    return encode(f.dump({"type": "error", "sequence_number": 0, **a.error_fields(error)}), "error")
