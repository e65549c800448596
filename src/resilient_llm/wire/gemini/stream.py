"""Gemini's streams: every event is a whole answer that holds what is new.

There is no terminator: an answer is complete when each of its candidates has given a ``finishReason``, or the prompt
was blocked.  An error may come as an event, or as bare JSON over several lines; without ``alt=sse`` everything comes as
one JSON array.
"""

from __future__ import annotations

import re
from typing import Any, cast

from resilient_llm import model as m
from resilient_llm.wire.framing import ndjson, sse
from resilient_llm.wire.gemini import parts as p
from resilient_llm.wire.gemini.answer import is_blocked
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.divided import added
from resilient_llm.wire.kit.streams import BlockCounter, JsonEvents, WholeCalls, told_message
from resilient_llm.wire.kit.tools import Namer

_PLAIN = (b"\n{", b"\n[", b"\r{", b"\r[")
_USUAL = frozenset({"candidates", "usageMetadata", "modelVersion", "responseId"})


class Decoder(JsonEvents):
    """Bytes of one streamed answer -> events.

    From the first line that begins like JSON on, the stream is bare objects.  No line of an event stream begins like
    that, so nothing is mistaken.
    """

    plain = b"<"

    def __init__(self) -> None:
        super().__init__()
        self._objects: ndjson.ObjectDecoder | None = None
        self._at_line_start = True
        self._candidates: dict[int, _Candidate] = {}
        self._namer: Namer | None = None  # there is one once the stream has begun
        self._counted: f.Fields | None = None  # the latest counts, if they were not reported
        self._reported = False
        self._rest: f.Fields = {}
        self._blocked = False
        self._token = ""  # asks for what follows the content that came so far
        self._asked = ""  # the one that the last part was asked for with
        self._follows = False
        self._before: m.Usage | None = None  # what the parts before this one cost
        self._cost: m.Usage | None = None
        self.divided: bool = False
        """This part ended, and the answer goes on in another one, for which :attr:`rest` asks."""

    def follow(self) -> None:
        """Whoever reads will ask for the parts of a divided answer: an end of a part is none of the answer."""
        self._follows = True

    @property
    def rest(self) -> m.Extra | None:
        """What is to be said beside the same request to get the rest of the stream; ``None``: it cannot be had."""
        return m.Extra(p.WIRE, {p.TOKEN: self._token}) if self._token else None

    def reopen(self) -> None:
        self._count()
        self._before = added(self._before, self._cost) if self._cost is not None else self._before
        self._asked, self._cost, self._objects, self._at_line_start = self._token, None, None, True
        self.divided = self._reported = False
        for candidate in self._candidates.values():
            candidate.finished = False
            candidate.rest.pop(p.TOKEN, None)
        super().reopen()

    def close(self) -> list[m.StreamEvent]:
        """The connection ended; the end of a part is none."""
        events = super().close()
        return [event for event in events if not isinstance(event, m.StreamEnd)] if self.divided else events

    def on_bytes(self, data: bytes) -> None:
        if self._objects is None:
            plain = self._plain_from(data)
            super().on_bytes(data if plain is None else data[:plain])
            if plain is None or self._over:
                return
            self._objects = ndjson.ObjectDecoder()
            data = data[plain:]
        for text in self._objects.feed(data):
            self.on_object("", f.parse_object(text, "a chunk"))
            if self._over:
                break

    def _plain_from(self, data: bytes) -> int | None:
        if self._at_line_start and data[:1] in {b"{", b"["}:
            return 0
        self._at_line_start = data[-1:] in {b"\r", b"\n"} or (self._at_line_start and not data)
        line = data.rstrip(b"\r\n")
        if b"\n" not in line and b"\r" not in line:
            return None  # one whole event, as nearly always
        found = [at for sign in _PLAIN if (at := data.find(sign)) >= 0]
        return min(found) + 1 if found else None

    def at_end(self) -> str | None:
        self.on_bytes(b"")  # what is wrong behind a good object is told at the next call
        self._count()
        finished = [candidate.finished for candidate in self._candidates.values()]
        whole = self._blocked or (finished and all(finished))
        return None if whole else "the stream ended without finishReason"

    def on_object(self, event: str, data: f.Fields) -> None:
        if (self._reported or "usageMetadata" not in data) and self._is_text(data):
            return
        chunk = p.camel(data)
        if chunk.get("error") is not None:
            self.end(m.StreamError(chunk))
            return
        id_, model = f.take_text(chunk, "responseId") or "", f.take_text(chunk, "modelVersion") or ""
        if self._namer is None:
            self._namer = Namer(p.MADE_UP, id_)
            self._out.append(m.StreamStart(id_, model))
        candidates, usage = f.take_list(chunk, "candidates"), f.take_object(chunk, "usageMetadata")
        self._rest.update(chunk)
        self._counted = usage or self._counted
        ended = False
        for item in candidates:
            ended |= self._on_candidate(p.camel(f.object_of(item, "a candidate")), self._namer)
        if "promptFeedback" in chunk:
            ended |= self._on_feedback(p.camel(f.object_of(chunk["promptFeedback"], "promptFeedback")))
        if ended or not self._reported:
            self._count()

    def _is_text(self, chunk: f.Fields) -> bool:
        """Whether a chunk is one piece of text and nothing else, as nearly all are; its event is emitted then."""
        candidates: Any = chunk.get("candidates")
        try:
            if len(candidates) != 1 or not chunk.keys() <= _USUAL:
                return False
            found: Any = candidates[0]
            parts: Any = found["content"]["parts"]
            text: Any = parts[0]["text"]
            index: Any = found.get("index", 0)
            alone: bool = len(parts) == 1 and len(parts[0]) == 1 and len(found) == 1 + ("index" in found)
        except (TypeError, KeyError, IndexError, AttributeError):
            return False
        candidate = self._candidates.get(index) if type(index) is int and isinstance(text, str) else None
        if not alone or not text or candidate is None:
            return False
        usage: Any = chunk.get("usageMetadata")
        if usage:
            self._counted = usage
        self._out.append(m.TextDelta(text, candidate.at(m.TextDelta), candidate.index))
        self._token = ""
        return True

    def _count(self) -> None:
        """Every chunk counts; the first and the last count are worth telling."""
        usage = p.decode_usage(f.object_of(self._counted, "usageMetadata")) if self._counted is not None else None
        self._counted = None
        if usage is not None:
            self._reported, self._cost = True, usage
            self._out.append(m.UsageUpdate(added(self._before, usage)))

    def _on_feedback(self, feedback: f.Fields) -> bool:
        reason = f.take_text(feedback, "blockReason")
        if reason is None or self._candidates or self._blocked:
            return False
        self._blocked = True
        self._out.append(m.Finish("content_filter", reason, extra=f.unread(p.WIRE, dict(self._rest))))
        return True

    def _on_candidate(self, fields: f.Fields, namer: Namer) -> bool:
        """Take a candidate; whether it ended."""
        index = fields.get("index")
        index = index if isinstance(index, int) and not isinstance(index, bool) else 0
        candidate = self._candidates.get(index)
        if candidate is None:
            candidate = self._candidates[index] = _Candidate(index, namer)
        content = f.take_object(fields, "content") or {}
        parts = f.take_list(content, "parts")
        for item in parts:
            self._out += candidate.part(p.camel(f.object_of(item, "a part")))
        reason = p.take_finish(fields)
        if index == 0 and self._goes_on(fields, reason, said=bool(parts)):
            candidate.finished = True
            return True
        for key, value in fields.items():
            if value:
                candidate.rest[key] = value
        if reason is not None:
            self._out += candidate.flush()
            candidate.finished = True
            rest: f.Fields = dict(self._rest) if index == 0 else {}
            f.put(rest, candidate=candidate.rest or None)
            word = p.REASONS.neutral(reason, candidate.called)
            self._out.append(m.Finish(word, reason, index, f.unread(p.WIRE, rest)))
        return reason is not None

    def _goes_on(self, fields: f.Fields, reason: str | None, *, said: bool) -> bool:
        """Whether this is the end of a part, and not of the answer.  What asks for the rest stands for what came before
        it and with it."""
        token = f.as_text(fields.get(p.TOKEN))
        if token or said or reason not in (None, p.DIVIDED):
            self._token = token if reason in (None, p.DIVIDED) else ""
        if reason is None:
            return False
        self.divided = self._follows and reason == p.DIVIDED and self._token not in ("", self._asked)
        return self.divided


class _Candidate(BlockCounter):
    """One of the answers while it grows."""

    def __init__(self, index: int, namer: Namer) -> None:
        super().__init__()
        self.index = index
        self._namer = namer
        self._call: _Patches | None = None
        self.called = False
        self.finished = False
        self.rest: f.Fields = {}

    def part(self, fields: f.Fields) -> list[m.StreamEvent]:
        """The events of a part."""
        call = fields.get("functionCall")
        if call is not None:
            said = p.camel(f.object_of(call, "functionCall"))
            if self._call is not None or "willContinue" in said or "partialArgs" in said:
                return self._patch(said, fields)
        return [event for part in p.decode_parts([fields], self._namer) for event in self._events_of(part)]

    def _events_of(self, part: m.Part) -> list[m.StreamEvent]:
        match part:
            case m.Text(extra=None):
                return [m.TextDelta(part.text, self.at(m.TextDelta), self.index)] if part.text else []
            case m.Thought():
                block = self.at(m.ThoughtDelta if part.text else None)
                if part.signature is not None:
                    self.growing = None  # what follows is another thought
                return [m.ThoughtDelta(part.text, block, self.index, part.signature, p.WIRE)]
            case m.ToolCall():
                self.called = True
                block = self.at(None)
                start = m.ToolCallStart(part.id, part.name, block, self.index, part.extra)
                return [start, m.ToolCallDelta(part.arguments, block, self.index), m.BlockEnd(block, self.index)]
            case _:
                return [m.PartAdded(part, self.at(None), self.index)]

    def _patch(self, call: f.Fields, fields: f.Fields) -> list[m.StreamEvent]:
        events: list[m.StreamEvent] = []
        if self._call is None:
            name = f.take_text(call, "name") or ""
            self._call, self.called = _Patches(self.at(None)), True
            id_ = self._namer.call(f.take_text(call, "id"), name)
            extra = f.unread(p.WIRE, {key: value for key, value in fields.items() if key != "functionCall"})
            events.append(m.ToolCallStart(id_, name, self._call.block, self.index, extra))
        self._call.value.update(f.take_object(call, "args") or {})
        for item in f.take_list(call, "partialArgs"):
            self._call.apply(p.camel(f.object_of(item, "a partial argument")))
        return events if f.take_bool(call, "willContinue") else events + self.flush()

    def flush(self) -> list[m.StreamEvent]:
        """The arguments of the call that is open, if one is."""
        if self._call is None:
            return []
        call, self._call = self._call, None
        arguments = m.ToolCallDelta(f.dump_text(call.value), call.block, self.index)
        return [arguments, m.BlockEnd(call.block, self.index)]


_STEP = re.compile(r"""\.([^.\[\]'"]+)|\[(\d{1,4})\]|\['([^']*)'\]|\["([^"]*)"\]""")
_PATH = re.compile(rf"\$(?:{_STEP.pattern})*")
_DEPTH = 64


class _Patches:
    """The arguments of a call, put together from values at JSON paths (RFC 9535, names and numbers only)."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.value: f.Fields = {}
        self._unfinished: set[str] = set()  # paths whose string goes on

    def apply(self, patch: f.Fields) -> None:
        """Put one value in its place.  Raises ``Malformed``."""
        path = f.take_text(patch, "jsonPath") or ""
        for key in ("stringValue", "numberValue", "boolValue", "nullValue"):
            if key in patch:
                value = None if key == "nullValue" else patch[key]
                self.value = f.object_of(_put_at(self.value, _steps(path), value, path in self._unfinished), "args")
        if f.take_bool(patch, "willContinue"):
            self._unfinished.add(path)
        else:
            self._unfinished.discard(path)


def _steps(path: str) -> list[str | int]:
    steps = _STEP.findall(path)
    if not _PATH.fullmatch(path) or len(steps) > _DEPTH:
        raise f.Malformed(f"no path to an argument: {path[:80]!r}")
    return [int(number) if number else name or single or double for name, number, single, double in steps]


def _put_at(place: object, steps: list[str | int], value: object, goes_on: bool) -> object:
    """``place`` with ``value`` put where ``steps`` lead; objects and lists are made where there are none."""
    if not steps:
        return place + value if goes_on and isinstance(place, str) and isinstance(value, str) else value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        items = cast("list[object]", place) if isinstance(place, list) else []
        items += [None] * (step + 1 - len(items))
        items[step] = _put_at(items[step], rest, value, goes_on)
        return items
    fields = cast("f.Fields", place) if isinstance(place, dict) else {}
    fields[step] = _put_at(fields.get(step), rest, value, goes_on)
    return fields


class Encoder(WholeCalls):
    """Events -> ``data: `` lines and nothing else, as clients want them that are no parsers of event streams.  Function
    calls go out whole; reasons wait for the token counts, which belong into the last chunk."""

    def on_text(self, event: m.TextDelta) -> bytes:
        return self._parts(m.Text(event.text), event.choice) if event.text else b""

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        if not event.text and (event.signature is None or event.origin != p.WIRE):
            return b""
        return self._parts(m.Thought(event.text, event.signature, origin=event.origin), event.choice)

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        return self._parts(part, choice)

    def call(self, call: m.ToolCall, choice: int) -> bytes:
        return self._shown(p.encode_shown([call]), choice)

    def on_end(self, event: m.StreamEnd) -> bytes:
        """One chunk with every reason and the token counts."""
        written = self.flush()
        finishes = self.finishes or {0: m.Finish("stop")}
        rest = f.own_fields(finishes[min(finishes)].extra, p.WIRE)
        rest.pop("candidate", None)
        candidates: list[f.Fields] = []
        for _, finish in [] if is_blocked(rest) else sorted(finishes.items()):
            more = f.object_of(f.own_fields(finish.extra, p.WIRE).get("candidate") or {}, "candidate")
            word = p.REASONS.word(finish.reason, finish.raw)
            content = {"role": "model", "parts": [{"text": ""}]}
            candidates.append({"content": content, "finishReason": word, "index": finish.choice, **more})
        return written + self._chunk(candidates, rest)

    def on_error(self, event: m.StreamError | m.StreamBroken) -> bytes:
        """The vendor's own error object if it is Google's, else one in its shape."""
        payload = f.as_object(event.payload) if isinstance(event, m.StreamError) else {}
        error = f.as_object(payload.get("error"))
        if not (isinstance(error.get("status"), str) and isinstance(error.get("code"), int)):
            error = {"code": 500, "message": told_message(event), "status": "INTERNAL"}
        return sse.encode(f.dump({"error": error}))

    def _parts(self, part: m.Part, choice: int) -> bytes:
        shown = p.encode_shown([part])
        return self.flush(choice) + self._shown(shown, choice) if shown else b""

    def _shown(self, parts: list[f.Fields], choice: int) -> bytes:
        return self._chunk([{"content": {"role": "model", "parts": parts}, "index": choice}])

    def _chunk(self, candidates: list[f.Fields], rest: f.Fields | None = None) -> bytes:
        chunk: f.Fields = {"candidates": candidates} if candidates else {}
        f.put(chunk, usageMetadata=p.encode_usage(self.usage))
        f.put(chunk, modelVersion=self.start.model or None, responseId=self.start.id or None)
        return sse.encode(f.dump({**chunk, **(rest or {})}))


def error_frame(error: f.Fields) -> bytes:
    """The frame that reports an error inside a running stream."""
    return sse.encode(f.dump(error))
