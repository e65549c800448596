"""Gemini's streams: every event is a whole answer that holds what is new.

There is no terminator: an answer is complete when each of its candidates has given a ``finishReason``, or the prompt
was blocked.  An error may come as an event, or as bare JSON over several lines; without ``alt=sse`` everything comes as
one JSON array.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import cast

from resilient_llm.errors import InvalidAnswer
from resilient_llm.model import (
    BlockEnd,
    Finish,
    Part,
    PartAdded,
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
    Usage,
    UsageUpdate,
)
from resilient_llm.wire import ndjson, sse
from resilient_llm.wire._growing import Growing
from resilient_llm.wire.fields import (
    Fields,
    Malformed,
    dump,
    dump_text,
    fields_of,
    leftovers,
    own,
    parse_fields,
    put,
    take_bool,
    take_fields,
    take_items,
    take_text,
)
from resilient_llm.wire.gemini_parts import (
    MADE_UP,
    NAME,
    Ids,
    camel,
    decode_parts,
    decode_usage,
    encode_shown,
    encode_usage,
    finish_reason,
    finish_word,
    take_finish,
)
from resilient_llm.wire.notes import told_message
from resilient_llm.wire.toolcalls import Namer, Pairing

_PLAIN = (b"\n{", b"\n[", b"\r{", b"\r[")


class _Frames:
    """The JSON texts of a stream: data of events, and from the first line that begins like JSON on, bare objects.

    No line of an event stream begins like that, so nothing is mistaken.
    """

    def __init__(self) -> None:
        self._events = sse.Decoder()
        self._objects: ndjson.ObjectDecoder | None = None
        self._at_line_start = True

    def feed(self, data: bytes) -> Iterator[str | bytes]:
        """The texts these bytes complete.  Raises ``InvalidAnswer``, after those that were good."""
        if self._objects is None:
            plain = self._plain_from(data)
            for _, text in self._events.feed(data if plain is None else data[:plain]):
                yield text
            if plain is None:
                return
            self._objects = ndjson.ObjectDecoder()
            data = data[plain:]
        yield from self._objects.feed(data)

    def _plain_from(self, data: bytes) -> int | None:
        if self._at_line_start and data[:1] in {b"{", b"["}:
            return 0
        self._at_line_start = data[-1:] in {b"\r", b"\n"} or (self._at_line_start and not data)
        found = [at for sign in _PLAIN if (at := data.find(sign)) >= 0]
        return min(found) + 1 if found else None


class StreamDecoder:
    """Bytes of one streamed answer -> events."""

    def __init__(self) -> None:
        self._frames = _Frames()
        self._candidates: dict[int, _Candidate] = {}
        self._namer: Namer | None = None  # there is one once the stream has begun
        self._counted: Fields | None = None  # the latest counts, if they were not reported
        self._reported = False
        self._rest: Fields = {}
        self._blocked = False
        self._over = False

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Events completed by these bytes."""
        events: list[StreamEvent] = []
        if self._over:
            return events
        try:
            for text in self._frames.feed(data):
                self._on_text(text, events)
                if self._over:
                    break
        except InvalidAnswer as error:
            self._fail(StreamBroken(error.message), events)
        return events

    def close(self) -> list[StreamEvent]:
        """The connection ended."""
        events = self.feed(b"")  # what is wrong behind a good object is told at the next call
        if self._over:
            return events
        self._count(events)
        finished = [candidate.finished for candidate in self._candidates.values()]
        if self._blocked or (finished and all(finished)):
            self._fail(StreamEnd(), events)
        else:
            self._fail(StreamBroken("the stream ended without finishReason"), events)
        return events

    def _fail(self, event: StreamEnd | StreamError | StreamBroken, events: list[StreamEvent]) -> None:
        self._over = True
        events.append(event)

    def _on_text(self, text: str | bytes, events: list[StreamEvent]) -> None:
        try:
            fields = camel(parse_fields(text, "a chunk"))
            if fields.get("error") is not None:
                self._fail(StreamError(fields), events)
            else:
                self._on_chunk(fields, events)
        except Malformed as error:
            self._fail(StreamBroken(f"undecodable chunk: {error}"), events)

    def _on_chunk(self, chunk: Fields, events: list[StreamEvent]) -> None:
        id_, model = take_text(chunk, "responseId") or "", take_text(chunk, "modelVersion") or ""
        if self._namer is None:
            self._namer = Namer(MADE_UP, id_)
            events.append(StreamStart(id_, model))
        candidates, usage = take_items(chunk, "candidates"), take_fields(chunk, "usageMetadata")
        self._rest.update(chunk)
        self._counted = usage or self._counted
        ended = False
        for item in candidates:
            ended |= self._on_candidate(camel(fields_of(item, "a candidate")), self._namer, events)
        if "promptFeedback" in chunk:
            ended |= self._on_feedback(camel(fields_of(chunk["promptFeedback"], "promptFeedback")), events)
        if ended or not self._reported:
            self._count(events)

    def _count(self, events: list[StreamEvent]) -> None:
        """Every chunk counts; the first and the last count are worth telling."""
        usage = decode_usage(self._counted) if self._counted is not None else None
        self._counted = None
        if usage is not None:
            self._reported = True
            events.append(UsageUpdate(usage))

    def _on_feedback(self, feedback: Fields, events: list[StreamEvent]) -> bool:
        reason = take_text(feedback, "blockReason")
        if reason is None or self._candidates or self._blocked:
            return False
        self._blocked = True
        events.append(Finish("content_filter", reason, extra=leftovers(NAME, dict(self._rest))))
        return True

    def _on_candidate(self, fields: Fields, namer: Namer, events: list[StreamEvent]) -> bool:
        """The events of a candidate; whether it ended."""
        index = fields.get("index")
        index = index if isinstance(index, int) and not isinstance(index, bool) else 0
        candidate = self._candidates.get(index)
        if candidate is None:
            candidate = self._candidates[index] = _Candidate(index, namer)
        content = take_fields(fields, "content") or {}
        for item in take_items(content, "parts"):
            events += candidate.part(camel(fields_of(item, "a part")))
        reason = take_finish(fields)
        for key, value in fields.items():
            if value:
                candidate.rest[key] = value
        if reason is not None:
            events += candidate.flush()
            candidate.finished = True
            rest: Fields = dict(self._rest) if index == 0 else {}
            put(rest, candidate=candidate.rest or None)
            word = finish_reason(reason, candidate.called)
            events.append(Finish(word, reason, index, leftovers(NAME, rest)))
        return reason is not None


class _Candidate(Growing):
    """One of the answers while it grows."""

    def __init__(self, index: int, namer: Namer) -> None:
        super().__init__()
        self._index = index
        self._namer = namer
        self._ids = Ids(namer, Pairing(MADE_UP).result)
        self._call: _Patches | None = None
        self.called = False
        self.finished = False
        self.rest: Fields = {}

    def part(self, fields: Fields) -> list[StreamEvent]:
        """The events of a part."""
        if len(fields) == 1 and isinstance(text := fields.get("text"), str):  # nearly every part
            return [TextDelta(text, self._at(TextDelta), self._index)] if text else []
        call = fields.get("functionCall")
        if call is not None:
            said = camel(fields_of(call, "functionCall"))
            if self._call is not None or "willContinue" in said or "partialArgs" in said:
                return self._patch(said, fields)
        return [event for part in decode_parts([fields], self._ids) for event in self._events_of(part)]

    def _events_of(self, part: Part) -> list[StreamEvent]:
        match part:
            case Text(extra=None):
                return [TextDelta(part.text, self._at(TextDelta), self._index)] if part.text else []
            case Thought(redacted=False) if part.text:
                return self._thought(part)
            case Thought():
                return [ThoughtDelta("", self._at(None), self._index, part.signature, NAME)]
            case ToolCall():
                self.called = True
                block = self._at(None)
                start = ToolCallStart(part.id, part.name, block, self._index, part.extra)
                return [start, ToolCallDelta(part.arguments, block, self._index), BlockEnd(block, self._index)]
            case _:
                return [PartAdded(part, self._at(None), self._index)]

    def _thought(self, part: Thought) -> list[StreamEvent]:
        block = self._at(ThoughtDelta)
        delta = ThoughtDelta(part.text, block, self._index, part.signature, NAME)
        if part.signature is not None:
            self._growing = None  # what follows is another thought
        return [delta]

    # --- arguments that come as patches --------------------------------------------------------------------

    def _patch(self, call: Fields, fields: Fields) -> list[StreamEvent]:
        events: list[StreamEvent] = []
        if self._call is None:
            name = take_text(call, "name") or ""
            self._call, self.called = _Patches(self._at(None)), True
            id_ = self._namer(take_text(call, "id"), name)
            extra = leftovers(NAME, {key: value for key, value in fields.items() if key != "functionCall"})
            events.append(ToolCallStart(id_, name, self._call.block, self._index, extra))
        self._call.value.update(take_fields(call, "args") or {})
        for item in take_items(call, "partialArgs"):
            self._call.apply(camel(fields_of(item, "a partial argument")))
        return events if take_bool(call, "willContinue") else events + self.flush()

    def flush(self) -> list[StreamEvent]:
        """The arguments of the call that is open, if one is."""
        if self._call is None:
            return []
        call, self._call = self._call, None
        arguments = ToolCallDelta(dump_text(call.value), call.block, self._index)
        return [arguments, BlockEnd(call.block, self._index)]


_STEP = re.compile(r"""\.([^.\[\]'"]+)|\[(\d{1,4})\]|\['([^']*)'\]|\["([^"]*)"\]""")
_DEPTH = 64


class _Patches:
    """The arguments of a call, put together from values at JSON paths (RFC 9535, names and numbers only)."""

    def __init__(self, block: int) -> None:
        self.block = block
        self.value: Fields = {}
        self._unfinished: set[str] = set()  # paths whose string goes on

    def apply(self, patch: Fields) -> None:
        """Put one value in its place.  Raises ``Malformed``."""
        path = take_text(patch, "jsonPath") or ""
        for key in ("stringValue", "numberValue", "boolValue", "nullValue"):
            if key in patch:
                value = None if key == "nullValue" else patch[key]
                self.value = fields_of(_put_at(self.value, _steps(path), value, path in self._unfinished), "args")
        if take_bool(patch, "willContinue"):
            self._unfinished.add(path)
        else:
            self._unfinished.discard(path)


def _steps(path: str) -> list[str | int]:
    steps: list[str | int] = []
    at = 1
    while at < len(path) and len(steps) < _DEPTH and (found := _STEP.match(path, at)) is not None:
        name, number, *quoted = found.groups()
        steps.append(int(number) if number is not None else next(each for each in (name, *quoted) if each is not None))
        at = found.end()
    if not path.startswith("$") or at < len(path):
        raise Malformed(f"no path to an argument: {path[:80]!r}")
    return steps


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
    fields = cast("Fields", place) if isinstance(place, dict) else {}
    fields[step] = _put_at(fields.get(step), rest, value, goes_on)
    return fields


# --- the other way -----------------------------------------------------------------------------------------


class StreamEncoder:
    """Events -> events, for clients that are no parsers of event streams: nothing but ``data: `` lines.

    Function calls go out whole; reasons wait for the token counts, which belong into the last chunk.
    """

    def __init__(self) -> None:
        self._start = StreamStart()
        self._calls: dict[tuple[int, int], tuple[ToolCallStart, list[str]]] = {}
        self._finishes: dict[int, Finish] = {}
        self._usage: Usage | None = None

    def feed(self, event: StreamEvent) -> bytes:
        """The frames this event completes."""
        match event:
            case StreamStart():
                self._start = event
            case TextDelta() | RefusalDelta():
                return self._parts([Text(event.text)], event.choice) if event.text else b""
            case ThoughtDelta():
                if not event.text and (event.signature is None or event.origin != NAME):
                    return b""
                return self._parts([Thought(event.text, event.signature, origin=event.origin)], event.choice)
            case PartAdded():
                return self._parts([event.part], event.choice)
            case ToolCallStart():
                self._calls[event.choice, event.block] = (event, [])
            case ToolCallDelta():
                if (event.choice, event.block) in self._calls:
                    self._calls[event.choice, event.block][1].append(event.arguments)
            case _:
                return self._closing(event)
        return b""

    def _closing(self, event: StreamEvent) -> bytes:
        match event:
            case BlockEnd():
                return self._flush(event.choice, event.block)
            case UsageUpdate():
                self._usage = event.usage
            case Finish():
                self._finishes[event.choice] = event
                return self._flush(event.choice)
            case StreamEnd():
                return b"".join(self._flush(choice) for choice in {choice for choice, _ in self._calls}) + self._last()
            case StreamError() | StreamBroken():
                return _error_frame(event)
            case _:
                pass
        return b""

    def _parts(self, parts: Iterable[Part], choice: int) -> bytes:
        shown = encode_shown(parts)
        if not shown:
            return b""
        return self._flush(choice) + self._chunk([{"content": {"role": "model", "parts": shown}, "index": choice}])

    def _flush(self, choice: int, block: int | None = None) -> bytes:
        """The calls of a choice that are complete: the one of ``block``, or all."""
        ready = [each for each in self._calls if each[0] == choice and block in (None, each[1])]
        written = b""
        for start, pieces in [self._calls.pop(each) for each in ready]:
            parts = encode_shown([ToolCall(start.id, start.name, "".join(pieces), start.extra)])
            written += self._chunk([{"content": {"role": "model", "parts": parts}, "index": choice}])
        return written

    def _last(self) -> bytes:
        """One chunk with every reason and the token counts."""
        finishes = self._finishes or {0: Finish("stop")}
        rest = own(finishes[min(finishes)].extra, NAME)
        rest.pop("candidate", None)
        candidates = [] if is_blocked(rest) else [_ended(finish) for _, finish in sorted(finishes.items())]
        return self._chunk(candidates, rest)

    def _chunk(self, candidates: list[Fields], rest: Fields | None = None) -> bytes:
        chunk: Fields = {"candidates": candidates} if candidates else {}
        put(chunk, usageMetadata=encode_usage(self._usage))
        put(chunk, modelVersion=self._start.model or None, responseId=self._start.id or None)
        return sse.encode(dump({**chunk, **(rest or {})}))


def _ended(finish: Finish) -> Fields:
    more = fields_of(own(finish.extra, NAME).get("candidate") or {}, "candidate")
    content = {"role": "model", "parts": [{"text": ""}]}
    ended = {"content": content, "finishReason": finish_word(finish.reason, finish.raw), "index": finish.choice}
    return {**ended, **more}


def is_blocked(rest: Fields) -> bool:
    """Whether the prompt was blocked, so that there are no candidates."""
    feedback = rest.get("promptFeedback")
    return isinstance(feedback, dict) and "blockReason" in feedback


def _error_frame(event: StreamError | StreamBroken) -> bytes:
    """The vendor's own error object if it is Google's, else one in its shape."""
    payload = event.payload if isinstance(event, StreamError) else ""
    if not isinstance(payload, str) and isinstance(payload.get("error"), Mapping):
        error = cast("Mapping[str, object]", payload["error"])
        if isinstance(error.get("status"), str) and isinstance(error.get("code"), int):
            return sse.encode(dump(payload))
    return sse.encode(dump({"error": {"code": 500, "message": told_message(event), "status": "INTERNAL"}}))
