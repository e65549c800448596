"""Ollama: streamed answers, in both directions."""

from __future__ import annotations

from collections.abc import Iterable

from resilient_llm import model as m
from resilient_llm.errors import InvalidAnswer
from resilient_llm.wire.framing import ndjson
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes
from resilient_llm.wire.kit.streams import BlockCounter, StreamDecoder, WholeCalls
from resilient_llm.wire.kit.tools import Namer, decode_call
from resilient_llm.wire.ollama import parts as p


class Decoder(StreamDecoder):
    """Lines -> events."""

    plain = b"<"

    def __init__(self) -> None:
        super().__init__()
        self._lines = ndjson.Decoder()
        self._namer: Namer | None = None  # of the first line's answer
        self._blocks = BlockCounter()
        self._called = False

    def on_bytes(self, data: bytes) -> None:
        self._take(self._lines.feed(data))

    def at_end(self) -> str | None:
        self._take(self._lines.close())
        return "the stream ended without done"

    def _take(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            try:
                fields = f.parse_object(line, "a line")
            except f.Malformed:
                raise InvalidAnswer(f"undecodable line: {line[:80]!r}") from None
            self._line(fields)
            if self._over:
                break

    def _line(self, fields: f.Fields) -> None:
        if "error" in fields:
            self.end(m.StreamError(fields))
            return
        if self._namer is None:
            created_at = fields.get("created_at")
            self._namer = Namer(p.MADE_UP, str(created_at))
            self._out.append(m.StreamStart("", str(fields.get("model") or ""), p.seconds_of(created_at)))
        if fields.get("done") is False and (text := _only_text(fields.get("message"))):
            self._out.append(m.TextDelta(text, self._blocks.at(m.TextDelta)))
            return
        self._content(f.take_object(fields, "message") or {}, self._namer)
        if f.take_bool(fields, "done"):
            raw, usage = f.take_text(fields, "done_reason"), p.take_usage(fields)
            fields.pop("model", None)
            self.finish(p.REASONS.neutral(raw or "stop", self._called), raw, f.unread(p.WIRE, fields), usage)

    def _content(self, message: f.Fields, namer: Namer) -> None:
        out, at = self._out, self._blocks.at
        if thinking := f.take_text(message, "thinking"):
            out.append(m.ThoughtDelta(thinking, at(m.ThoughtDelta), origin=p.WIRE))
        if text := f.take_text(message, "content"):
            out.append(m.TextDelta(text, at(m.TextDelta)))
        for image in f.take_texts(message, "images"):
            out.append(m.PartAdded(m.Media("image", data=f.decode_base64(image)), at(None)))
        for item in f.take_list(message, "tool_calls"):
            call, block = decode_call(item, p.WIRE, namer.call), at(None)
            self._called = True
            out.append(m.ToolCallStart(call.id, call.name, block, extra=call.extra))
            out += [m.ToolCallDelta(call.arguments, block), m.BlockEnd(block)]


_SAID = frozenset({"role", "content"})


def _only_text(message: object) -> str | None:
    """The text of a message that holds nothing else, as nearly all do: told apart for its speed alone."""
    text = message.get("content") if f.is_object(message) and message.keys() <= _SAID else None
    return text if isinstance(text, str) else None


class Encoder(WholeCalls):
    """Events -> lines.  Calls go out whole, as this wire wants them; the last line waits for the token counts."""

    choices = False

    def on_text(self, event: m.TextDelta) -> bytes:
        return self.flush() + self._line({"content": event.text}) if event.text else b""

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        return self.flush() + self._line({"content": "", "thinking": event.text}) if event.text else b""

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        return self.flush() + self._parts(p.showable([part]))

    def call(self, call: m.ToolCall, choice: int) -> bytes:
        return self._parts([call])

    def on_end(self, event: m.StreamEnd) -> bytes:
        finish = self.finish
        ending = p.tail(finish.reason, finish.raw, f.own_fields(finish.extra, p.WIRE), self.usage)
        return self.flush() + self._line({"content": ""}, ending)

    def failure(self, message: str) -> bytes:
        return ndjson.encode(f.dump({"error": message}))

    def _parts(self, parts: list[m.Part]) -> bytes:
        return self._line(p.encode_parts(parts, "assistant", Notes(p.WIRE))) if parts else b""

    def _line(self, message: f.Fields, ending: f.Fields | None = None) -> bytes:
        opening = p.head(self.start.model, self.start.created, None)
        said = {"message": {"role": "assistant", **message}}
        return ndjson.encode(f.dump(opening | said | (ending or {"done": False})))


def error_frame(error: f.Fields) -> bytes:
    """The line that reports an error inside a running stream."""
    return ndjson.encode(f.dump(error))
