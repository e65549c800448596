"""Chat Completions streams <-> events.

A stream is complete when every choice seen has a ``finish_reason``; ``[DONE]`` need not follow.  ``[DONE]`` alone
proves nothing: gateways put it after upstreams that broke off.  Where no reason was given, token counts in a chunk of
their own, which come after the last choice, prove it instead (Snowflake Cortex ends its streams so).  An error frame
wins over all of this.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import cast

from resilient_llm import model as m
from resilient_llm.wire.framing import sse
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.openai import TEXT_FRAME
from resilient_llm.wire.kit.streams import JsonEvents, StreamEncoder, told_message
from resilient_llm.wire.kit.tools import arguments_text
from resilient_llm.wire.openai_chat import answer as a
from resilient_llm.wire.openai_chat.parts import WIRE, Dialect, StreamedCall

_CHUNK = ("id", "object", "created", "model", "choices", "usage", "obfuscation", "p")
"""Fields of a chunk that are no news; the last two are padding against guessing tokens from their length."""


@dataclass(slots=True)
class _ChoiceState:
    """Where one choice of the stream is."""

    index: int
    block: int = -1
    kind: str = ""  # of the open block; "" if none is
    finished: bool = False
    calls: list[StreamedCall] = field(default_factory=list[StreamedCall])
    by_index: dict[int, StreamedCall] = field(default_factory=dict[int, StreamedCall])
    details: list[f.Fields] = field(default_factory=list[f.Fields])
    logprobs: dict[str, list[object]] = field(default_factory=dict[str, list[object]])


class Decoder(JsonEvents):
    """Decodes one stream."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._dialect = dialect
        self._origin = dialect.origin
        self._begun = False
        self._counted = False  # token counts came in a chunk without choices
        self._choices: dict[int, _ChoiceState] = {}
        self._text: _ChoiceState | None = None  # the first choice, once it has begun with a text
        self._around: tuple[bytes, bytes, int] | None = None
        """What the last frame was before and after its text, if it had nothing else in it, and the block of it."""

    def feed(self, data: bytes) -> list[m.StreamEvent]:
        """Events completed by these bytes.  A frame with nothing but text in it, as nearly all are, is known at sight,
        which costs a quarter of parsing it; one that differs from the last in its text alone costs a tenth."""
        around = self._around
        if around is not None and data.startswith(around[0]) and data.endswith(around[1]):
            content = str(data[len(around[0]) : -len(around[1])], "utf-8", "replace")
            if content and content.isprintable() and '"' not in content and "\\" not in content:
                return [m.TextDelta(content, around[2])]
        text = self._text
        if text is not None and text.kind == "text" and not self._over and self._frames.at_boundary:
            found = TEXT_FRAME.fullmatch(data)
            if found is not None:
                start, end = found.span(1)
                self._around = data[: start + 1], data[end - 1 :], text.block
                content = json.loads(found[1]) if b"\\" in found[1] else str(found[1], "utf-8", "replace")[1:-1]
                return [m.TextDelta(content, text.block)]
        self._around = None
        return super().feed(data)

    def on_object(self, event: str, data: f.Fields) -> None:
        choices = data.get("choices")
        if event == "error" or "error" in data or "base_resp" in data or not isinstance(choices, list):
            if event == "error" or a.is_error(data):
                self.end(m.StreamError(data))
                return
            choices = f.as_list(choices)
        if not self._begun and not data.get("id") and not choices:
            self._out.append(m.KeepAlive())  # Azure opens with a chunk about the prompt
        elif not self._begun:
            self._begun = True
            id_, model = f.as_text(data.get("id")), f.as_text(data.get("model"))
            self._out.append(m.StreamStart(id_, model, f.time_of(data.get("created"))))
        for choice in cast("list[object]", choices):
            if isinstance(choice, dict) and not self._over:
                self._on_choice(cast(f.Fields, choice), data)
        if (data.get("usage") or "x_groq" in data) and not self._over:
            usage = a.decode_usage(a.usage_of(data))
            if usage is not None:
                self._counted = self._counted or (not choices and usage.output_tokens > 0)
                self._out.append(m.UsageUpdate(usage))

    def on_text(self, data: str) -> bool:
        """``[DONE]``; empty data keeps the connection alive."""
        if data.strip() == "[DONE]":
            self._done()
            return True
        return not data.strip()

    def at_end(self) -> str | None:
        if not self._choices:
            return "the stream ended before the answer began"
        if all(state.finished for state in self._choices.values()):
            return None
        return "the stream ended without finish_reason"

    def whole_answer(self, body: f.Fields) -> m.ChatResponse:
        return a.decode_response(body, self._dialect)

    def _done(self) -> None:
        if not self._choices:
            self.end(m.StreamBroken("[DONE] without an answer"))
            return
        for state in self._choices.values():
            if state.finished:
                continue
            if state.block < 0 and not state.calls and not state.details:
                self.end(m.StreamBroken("[DONE] after a choice that says nothing"))
            elif not self._counted:
                self.end(m.StreamBroken("[DONE] without finish_reason or token counts"))
            else:
                self._finish(state, None, None)
            if self._over:
                return
        self.end(m.StreamEnd())

    def _on_choice(self, choice: f.Fields, chunk: f.Fields) -> None:
        index = choice.get("index")
        if type(index) is not int:
            index = 0
        state = self._choices.get(index)
        if state is None:
            state = self._choices[index] = _ChoiceState(index)
        if choice.get("error"):
            self.end(m.StreamError(chunk))
            return
        delta = choice.get("delta")
        if isinstance(delta, dict):
            delta = cast(f.Fields, delta)
            content = delta.get("content")
            if len(delta) == 1 and content and type(content) is str:  # nearly every chunk
                if state.kind != "text":
                    self._open(state, "text")
                    self._text = state if index == 0 else self._text
                self._out.append(m.TextDelta(content, state.block, index))
            else:
                self._on_delta(state, delta)
        elif state.block < 0 and isinstance(choice.get("message"), dict):
            self._on_delta(state, f.as_object(choice["message"]))
        logprobs = choice.get("logprobs")
        if logprobs:
            for key, value in f.as_object(logprobs).items():
                if isinstance(value, list):
                    state.logprobs.setdefault(key, []).extend(cast("list[object]", value))
        reason = choice.get("finish_reason")
        if reason and not state.finished and not self._over:
            self._finish(state, choice, chunk)

    def _on_delta(self, state: _ChoiceState, delta: f.Fields) -> None:
        for name in ("reasoning_content", "reasoning"):
            text = delta.get(name)
            if text and isinstance(text, str):
                self._thought(state, text)
                break
        if delta.get("reasoning_details"):
            state.details += f.as_objects(delta["reasoning_details"])
        content = delta.get("content")
        if not a.is_content(content):
            self.end(m.StreamBroken("a content that is neither text nor parts"))
            return
        if content:
            self._content(state, content)
        annotations = f.as_objects(delta.get("annotations"))
        if annotations:
            self._said(state, "", tuple(annotations))
        refusal = delta.get("refusal")
        if refusal and isinstance(refusal, str):
            self._open(state, "refusal")
            self._out.append(m.RefusalDelta(refusal, state.block, state.index))
        for call in f.as_objects(delta.get("tool_calls")):
            self._tool(state, call, f.as_object(call.get("function")))
        called = f.as_object(delta.get("function_call"))
        if called.get("name") or called.get("arguments"):  # the form before tools: one call, without index or id
            self._tool(state, {"index": 0}, called)

    def _content(self, state: _ChoiceState, content: object) -> None:
        for chunk in [{"text": content}] if isinstance(content, str) else f.as_objects(content):
            if chunk.get("type") == "thinking":  # Mistral
                for piece in f.as_objects(chunk.get("thinking")):
                    self._thought(state, f.as_text(piece.get("text")))
            elif isinstance(chunk.get("text"), str):
                self._said(state, f.as_text(chunk["text"]))
            else:
                self._add(state, m.Opaque(WIRE, chunk))

    def _said(self, state: _ChoiceState, text: str, annotations: tuple[m.JsonObject, ...] = ()) -> None:
        self._open(state, "text")
        self._out.append(m.TextDelta(text, state.block, state.index, annotations))

    def _thought(self, state: _ChoiceState, text: str) -> None:
        self._open(state, "thought")
        self._out.append(m.ThoughtDelta(text, state.block, state.index, None, self._origin))

    def _open(self, state: _ChoiceState, kind: str) -> None:
        """Go on with the open block if it is of this kind; calls and whole parts are each a block of their own."""
        if state.kind != kind or kind in ("tool", "part"):
            self._close(state)
            state.block += 1
            state.kind = kind

    def _close(self, state: _ChoiceState) -> None:
        if state.kind:
            self._out.append(m.BlockEnd(state.block, state.index))
            state.kind = ""

    def _add(self, state: _ChoiceState, part: m.Part) -> None:
        self._open(state, "part")
        self._out.append(m.PartAdded(part, state.block, state.index))

    def _tool(self, state: _ChoiceState, delta: f.Fields, function: f.Fields) -> None:
        call = _call_for(state, delta, function)
        call.extra |= f.others(delta, ("index", "id", "type", "function", "custom"))
        custom = f.as_object(delta.get("custom"))
        if custom.get("name") or call.custom:  # a tool whose input is free text
            call.add_custom(custom)
            return
        call.name = call.name or f.as_text(function.get("name"))
        call.waiting += arguments_text(function.get("arguments"), absent="")
        if call.name or call.block >= 0:
            self._say_call(state, call)

    def _say_call(self, state: _ChoiceState, call: StreamedCall) -> None:
        """What has come of a call and is not said yet."""
        if call.block < 0:
            self._open(state, "tool")
            call.block = state.block
            extra = f.extra_of(WIRE, call.extra)
            self._out.append(m.ToolCallStart(call.id, call.name, call.block, state.index, extra))
        if call.waiting:
            self._out.append(m.ToolCallDelta(call.waiting, call.block, state.index))
            call.waiting = ""

    def _finish(self, state: _ChoiceState, choice: f.Fields | None, chunk: f.Fields | None) -> None:
        for call in state.calls:
            if call.custom:
                self._add(state, call.opaque())
                continue
            if call.block < 0 and not call.waiting and not call.extra:
                self.end(m.StreamBroken("a tool call without a function"))
                return
            if call.block < 0:  # never named; the caller shall see it all the same
                self._say_call(state, call)
        if state.details:
            details = m.Extra(WIRE, {"reasoning_details": state.details})
            self._add(state, m.Thought(origin=self._origin, extra=details))
        self._close(state)
        state.finished = True
        word = f.as_text((choice or {}).get("finish_reason")) or None
        reason = a.REASONS.neutral(word or "stop", bool(state.calls))
        extra = f.others(chunk, _CHUNK) if chunk and state.index == 0 else {}
        unknown = a.choice_extra(choice or {}, word, reason)
        if state.logprobs:
            unknown["logprobs"] = state.logprobs
        if unknown:
            extra[a.CHOICE] = unknown
        self._out.append(m.Finish(reason, word, state.index, f.extra_of(WIRE, extra)))


def _call_for(state: _ChoiceState, delta: f.Fields, function: f.Fields) -> StreamedCall:
    """The call a delta belongs to, by index; some vendors leave it out, or send every call with index 0 and an id of
    its own, and some repeat the id in every delta."""
    index, raw = delta.get("index"), delta.get("id")
    call_id = raw if isinstance(raw, str) else "" if raw is None else str(raw)
    last = state.calls[-1] if state.calls else None
    if type(index) is int:
        known = state.by_index.get(index)
    else:
        known = None if function.get("name") and not (last and last.id == call_id) else last
    if known is not None and known.given and call_id not in {"", known.id}:
        known = None
    if known is None:
        known = StreamedCall(call_id or f"call_{len(state.calls)}", bool(call_id))
        state.calls.append(known)
        if type(index) is int:
            state.by_index[index] = known
    elif call_id and known.block < 0:
        known.id, known.given = call_id, True
    return known


class Encoder(StreamEncoder):
    """Encodes one stream as the vendor's SDK wants it: one role and one finish per choice, the same id, model and time
    in every chunk, tool calls counted from 0 without gaps, usage in a chunk of its own without choices (unless
    ``include_usage`` is false), then ``[DONE]``."""

    choices = True

    def __init__(self, dialect: Dialect, include_usage: bool = True) -> None:
        super().__init__()
        self._reasoning = dialect.reasoning_field if dialect.reasoning_field != "content" else "reasoning_content"
        self._include_usage = include_usage
        self._head = _head(m.StreamStart())
        self._roles: set[int] = set()
        self._finished: set[int] = set()
        self._tools: dict[tuple[int, int], int] = {}
        self._counts: dict[int, int] = {}

    def on_start(self, event: m.StreamStart) -> bytes:
        if not self._roles:  # a later start must not change the id under the client
            self._head = _head(event)
        return b""

    def on_text(self, event: m.TextDelta) -> bytes:
        delta: f.Fields = {"content": event.text} if event.text else {}
        if event.annotations:
            delta["annotations"] = [dict(item) for item in event.annotations]
        return self._delta(event.choice, delta)

    def on_thought(self, event: m.ThoughtDelta) -> bytes:
        return self._delta(event.choice, {self._reasoning: event.text} if event.text else {})

    def on_refusal(self, event: m.RefusalDelta) -> bytes:
        return self._delta(event.choice, {"refusal": event.text} if event.text else {})

    def on_call(self, event: m.ToolCallStart) -> bytes:
        function = {"name": event.name, "arguments": ""}
        call: f.Fields = {"id": event.id, "type": "function", "function": function}
        return self._begin_call(event.choice, event.block, call | f.own_fields(event.extra, WIRE))

    def _begin_call(self, choice: int, block: int, call: f.Fields) -> bytes:
        number = self._counts.get(choice, 0)
        self._counts[choice] = number + 1
        self._tools[choice, block] = number
        return self._delta(choice, {"tool_calls": [{"index": number, **call}]})

    def on_arguments(self, event: m.ToolCallDelta) -> bytes:
        number = self._tools.get((event.choice, event.block))
        if number is None or not event.arguments:
            return b""
        call = {"index": number, "function": {"arguments": event.arguments}}
        return self._delta(event.choice, {"tool_calls": [call]})

    def on_whole(self, part: m.Part, block: int, choice: int) -> bytes:
        match part:
            case m.Thought():
                details = f.own_fields(part.extra, WIRE)
                return self._delta(choice, details | ({self._reasoning: part.text} if part.text else {}))
            case m.Opaque(wire="openai_chat", data={"type": "custom"}):
                return self._begin_call(choice, block, dict(part.data))
            case m.Opaque(wire="openai_chat"):
                return self._delta(choice, {"content": [dict(part.data)]})
            case _:
                return b""

    def _delta(self, choice: int, delta: f.Fields) -> bytes:
        if not delta:
            return b""
        return self._role(choice) + self._chunk({"index": choice, "delta": delta, "finish_reason": None})

    def _role(self, choice: int) -> bytes:
        if choice in self._roles:
            return b""
        self._roles.add(choice)
        return self._delta(choice, {"role": "assistant", "content": ""})

    def _chunk(self, choice: f.Fields | None, more: f.Fields | None = None) -> bytes:
        choices = b"" if choice is None else f.dump(choice)
        tail = b",%b" % f.dump(more)[1:] if more else b"}"
        return b'data: %b"choices":[%b]%b\n\n' % (self._head, choices, tail)

    def on_finish(self, event: m.Finish) -> bytes:
        if event.choice in self._finished:
            return b""
        self._finished.add(event.choice)
        extra = f.own_fields(event.extra, WIRE)
        choice: f.Fields = {"index": event.choice, "delta": {}, "finish_reason": a.REASONS.word(event.reason, None)}
        choice |= f.as_object(extra.get(a.CHOICE))
        return self._role(event.choice) + self._chunk(choice, f.others(extra, (a.CHOICE, a.MESSAGE)))

    def on_end(self, event: m.StreamEnd) -> bytes:
        out = b""
        for choice in sorted((self._roles or {0}) - self._finished):
            out += self.on_finish(m.Finish("tool_calls" if self._counts.get(choice) else "stop", None, choice))
        if self.usage is not None and self._include_usage:
            out += self._chunk(None, {"usage": a.encode_usage(self.usage)})
        return out + b"data: [DONE]\n\n"

    def on_error(self, event: m.StreamError | m.StreamBroken) -> bytes:
        error: f.Fields = {"message": told_message(event), "type": "server_error", "param": None, "code": None}
        if isinstance(event, m.StreamError) and not isinstance(event.payload, str):
            error |= f.as_object(event.payload.get("error"))
        return sse.encode(f.dump({"error": error}))

    def on_restart(self, event: m.Restarted) -> bytes:
        """A marker that helpers ignore and attentive clients can find."""
        self._tools.clear()
        marker = {"restarted": {"provider": event.provider, "reason": event.reason}}
        return self._chunk(None, {"resilient_llm": marker})

    def on_continued(self, event: m.Continued) -> bytes:
        """A comment: no SDK shows it, and a recording of the stream does."""
        return b": resilient_llm continued %b\n\n" % f.dump({"provider": event.provider, "reason": event.reason})

    def on_keep_alive(self, event: m.KeepAlive) -> bytes:
        return b": keep-alive\n\n"


def _head(start: m.StreamStart) -> bytes:
    """The beginning of every chunk, up to its choices."""
    head = {"id": start.id or "chatcmpl-0", "object": "chat.completion.chunk", "created": start.created or 0}
    return f.dump(head | {"model": start.model})[:-1] + b","
