"""OpenAI Responses streams <-> events.

A stream is complete at ``response.completed`` or ``response.incomplete``, which repeat the whole response; an encoder
therefore collects it.  Errors come as an ``error`` event, flat or nested, or as ``response.failed``.
"""

from __future__ import annotations

from urllib.parse import quote

from resilient_llm import model as m
from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.framing.sse import encode
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.accumulate import events_of
from resilient_llm.wire.kit.streams import JsonEvents, StreamEncoder, told_message
from resilient_llm.wire.openai_responses import answer as a
from resilient_llm.wire.openai_responses import parts as p

_NO_INDEX = frozenset({dict, list})


class Decoder(JsonEvents):
    """Decodes one stream."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = self._seen = False
        self._kept = ""  # the id of a response that the vendor keeps while it is written
        self._seen_number: int | None = None
        self._last = -1
        self._item: object = None  # the number of the output item that an event is about
        self._blocks: dict[tuple[object, object], int] = {}  # (output item, what of it) -> open block
        self._in_pieces: set[object] = set()  # items whose arguments came in pieces
        self._calls: list[m.ToolCall] = []

    def on_object(self, event: str, data: f.Fields) -> None:
        """One event; its type is repeated in the data, and vendors differ in which of the two they send."""
        for name in ("output_index", "content_index"):
            if type(data.get(name)) in _NO_INDEX:
                data[name] = None
        number = data.get("sequence_number")
        if type(number) is int:
            self._seen_number = number
        self._item, content, delta = data.get("output_index"), data.get("content_index"), f.as_text(data.get("delta"))
        match data.get("type", event):
            case "response.output_text.delta":
                self._out.append(m.TextDelta(delta, self._block(content)))
            case "response.function_call_arguments.delta":
                if (self._item, "call") in self._blocks:
                    self._in_pieces.add(self._item)
                    self._out.append(m.ToolCallDelta(delta, self._block("call")))
            case "response.reasoning_summary_text.delta" | "response.reasoning_text.delta":
                self._out.append(m.ThoughtDelta(delta, self._block("thought"), origin=p.WIRE))
            case "response.refusal.delta":
                self._out.append(m.RefusalDelta(delta, self._block(content)))
            case "response.created" | "response.in_progress" | "response.queued" if not self._begun:
                self._start(f.as_object(data.get("response")))
            case "response.completed" | "response.incomplete":
                self._end(data, f.as_object(data.get("response")))
            case "response.cancelled" | "response.failed" | "error":
                self.end(m.StreamError(data))
            case kind:
                self._on_item(kind, data, content, f.as_object(data.get("item")))
                if event == "error" or data.get("error"):
                    self.end(m.StreamError(data))

    def _on_item(self, kind: object, data: f.Fields, content: object, item: f.Fields) -> None:
        match kind:
            case "response.output_item.added" if item.get("type") == "function_call":
                self._begin_call(p.decode_call(item))
            case "response.output_item.done":
                self._item_done(item)
            case "response.output_text.done" if (self._item, content) not in self._blocks:
                # Some servers send a text in one piece.
                self._out.append(m.TextDelta(f.as_text(data.get("text")), self._block(content)))
            case "response.output_text.annotation.added":
                annotations = (f.as_object(data.get("annotation")),)
                self._out.append(m.TextDelta("", self._block(content), annotations=annotations))
            case "response.reasoning_summary_part.added" if (self._item, "thought") in self._blocks:  # not the first
                self._out.append(m.ThoughtDelta("\n\n", self._block("thought"), origin=p.WIRE))
            case _:
                pass

    def at_end(self) -> str | None:
        return "the stream ended before the response was completed"

    @property
    def rest(self) -> str | None:
        """The path at which the vendor keeps the rest of this stream; ``None``: nowhere.  Responses asked for with
        ``background`` and ``stream`` go on although nobody listens."""
        if not self._kept or self._seen_number is None:
            return None
        return f"/responses/{quote(self._kept, safe='')}?stream=true&starting_after={self._seen_number}"

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        return a.decode_response(body)

    def _block(self, what: object) -> int:
        block = self._blocks.get((self._item, what))
        return self._open(what) if block is None else block

    def _open(self, what: object) -> int:
        self._last = self._blocks[self._item, what] = self._last + 1
        self._seen = True
        return self._last

    def _begin_call(self, call: m.ToolCall) -> None:
        self._calls.append(call)
        self._out.append(m.ToolCallStart(call.id, call.name, self._open("call"), extra=call.extra))

    def _item_done(self, item: f.Fields) -> None:
        kind = item.get("type")
        if kind == "message":
            for index, part in enumerate(p.decode_item(item)):
                if (self._item, index) not in self._blocks:  # it did not come in pieces
                    self._out += events_of(part, self._block(index), 0)
        elif kind == "function_call":
            call = p.decode_call(item)
            if (self._item, "call") not in self._blocks:
                self._begin_call(call)
            if self._item not in self._in_pieces and call.arguments:
                self._out.append(m.ToolCallDelta(call.arguments, self._block("call")))
        elif kind == "reasoning":
            streamed = (self._item, "thought") in self._blocks
            self._close()
            self._out.append(m.PartAdded(p.decode_thought(item, streamed), self._block("item")))
        else:
            self._out.append(m.PartAdded(m.Opaque(p.WIRE, item), self._block("item")))
        self._close()

    def _close(self) -> None:
        for key in [key for key in self._blocks if key[0] == self._item]:
            self._out.append(m.BlockEnd(self._blocks.pop(key)))

    def _start(self, response: f.Fields) -> None:
        self._begun = True
        id_, created = f.as_text(response.get("id")), f.time_of(response.get("created_at"))
        if response.get("background") is True:
            self._kept = id_
        self._out.append(m.StreamStart(id_, f.as_text(response.get("model")), created))

    def _end(self, data: f.Fields, fields: f.Fields) -> None:
        try:
            response = a.decode_response(fields)
        except InvalidAnswer as error:
            self.end(m.StreamError(data) if fields.get("error") else m.StreamBroken(error.message))
            return
        if not self._seen:  # everything comes at the end
            for block, part in enumerate(response.parts):
                self._out += [*events_of(part, block, 0), m.BlockEnd(block)]
        reason, raw = a.finish_of(fields, self._calls or response.parts)
        self.finish(reason, raw, a.settings_of(fields), response.usage)


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
            if not isinstance(annotation.get("type"), str):  # another wire's citation
                continue
            item.annotations.append(annotation)
            place, said = len(item.annotations) - 1, dict(annotation)
            kind = "response.output_text.annotation.added"
            out += self._piece(kind, item, annotation_index=place, annotation=said)
        return out

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


def error_frame(error: f.Fields) -> bytes:
    """The frame that ends a stream with an error; the vendor's SDK raises it."""
    told = f.as_object(error.get("error")) or {name: error.get(name) for name in ("code", "message", "param")}
    return encode(f.dump({"type": "error", "sequence_number": 0, **a.error_fields(told)}), "error")
