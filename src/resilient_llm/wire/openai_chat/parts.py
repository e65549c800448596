"""Chat Completions: messages and their parts, as requests, answers and streams share them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai as o
from resilient_llm.wire.kit.tools import arguments_text
from resilient_llm.wire.settings import SOFT, TABLES, Table

WIRE = "openai_chat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a vendor's Chat Completions differ from OpenAI's own; the defaults are OpenAI's.

    ``vendor``
        ``""`` is OpenAI; part of the ``origin`` of thoughts, so that reasoning is never sent to another vendor.
    ``max_tokens_field``
        ``max_completion_tokens``, or ``max_tokens`` for vendors who never followed the renaming.
    ``seed_field``
        ``seed``, or Mistral's ``random_seed``.
    ``developer_role``
        Whether role ``developer`` is understood; else it becomes ``system``.
    ``reasoning_field``
        Where an assistant message carries its reasoning text; DeepSeek and vLLM: ``reasoning_content``, OpenRouter and
        Groq: ``reasoning``.
    ``reasoning_object``
        OpenRouter's ``reasoning: {effort, max_tokens}`` instead of ``reasoning_effort``.
    ``returns_reasoning``, ``wants_reasoning``
        Whether reasoning of earlier turns may be sent back in the history; whether an assistant's tool calls without
        any are refused, so that a space stands for it (DeepSeek since V3.2, with thinking enabled).
    ``stream_usage``
        Whether ``stream_options.include_usage`` may be asked for.
    ``top_k``
        Whether ``top_k`` is a field.
    ``allowed_tools``, ``named_tool``
        Whether ``tool_choice`` can list tools or name one; else the list of tools is filtered instead.
    ``tool_id_length``
        Tool call ids must be exactly this many letters and digits (Mistral: 9); 0: anything goes.
    ``tool_media``
        Whether tool messages may hold images and files; else these follow in a user message.
    ``media``
        Content part types beyond OpenAI's own, of ``video_url``, ``audio_url`` and ``document_url``; ``file_url``: a
        document may be named by its URL where the others hold its data.
    ``cache_marks``, ``cache_key``
        Whether parts of a message can be marked as worth caching; whether ``prompt_cache_key`` is a field.
    ``rejects``
        Request fields the vendor answers with 400; left out with a degradation, or refused if the answer depends on
        them.
    """

    vendor: str = ""
    path: str = "/chat/completions"
    max_tokens_field: str = "max_completion_tokens"
    seed_field: str = "seed"
    developer_role: bool = True
    reasoning_field: str = "reasoning_content"
    reasoning_object: bool = False
    returns_reasoning: bool = True
    wants_reasoning: bool = False
    stream_usage: bool = True
    top_k: bool = False
    allowed_tools: bool = True
    named_tool: bool = True
    tool_id_length: int = 0
    tool_media: bool = False
    media: frozenset[str] = frozenset()
    cache_marks: bool = False
    cache_key: bool = False
    rejects: frozenset[str] = frozenset()

    origin: str = field(init=False, compare=False, repr=False)
    """What the thoughts of this vendor are marked with."""
    settings: Table = field(init=False, compare=False, repr=False)
    """Where this vendor keeps the settings of a request."""

    def __post_init__(self) -> None:
        own = {"max_tokens": self.max_tokens_field, "seed": self.seed_field, "top_k": "top_k" if self.top_k else SOFT}
        object.__setattr__(self, "origin", f"{WIRE}/{self.vendor}" if self.vendor else WIRE)
        object.__setattr__(self, "settings", {**TABLES[WIRE], **own})


REASONING_FIELDS = ("reasoning_content", "reasoning")
"""Where compatible vendors put reasoning text, in messages and deltas."""

_ROLES: Mapping[str, m.Role] = {role: role for role in ("system", "developer", "user", "assistant", "tool")}


def decode_message(message: f.Fields, dialect: Dialect) -> m.Message:
    """One message.  Raises ``InvalidRequest``."""
    role = _ROLES.get(f.as_text(message.get("role")))
    if role is None:  # "function", or a role only this vendor knows
        return m.Message("user", (m.Opaque(WIRE, message),))
    content = message.get("content")
    if content and isinstance(content, str) and len(message) == 2 and role != "tool":  # no other field: nearly always
        return m.Message(role, (m.Text(content),))
    name = f.take_text(message, "name")
    if role == "tool":
        found = tuple(
            part if isinstance(part, m.Text | m.Media) else m.Json(part.data if isinstance(part, m.Opaque) else None)
            for part in _decode_content(message.get("content"))
        )
        extra = f.extra_of(WIRE, f.others(message, ("role", "content", "tool_call_id")))
        return m.Message("tool", (m.ToolResult(f.as_text(message.get("tool_call_id")), found, name),), extra=extra)
    known = {"role", "content"}
    if role == "assistant":
        known |= {"refusal", "tool_calls", "reasoning_details", *REASONING_FIELDS}
        parts = assistant_parts(message, dialect.origin)
    else:
        parts = _decode_content(message.get("content"))
    return m.Message(role, tuple(parts), name, f.extra_of(WIRE, f.others(message, known)))


def assistant_parts(message: Mapping[str, object], origin: str) -> list[m.Part]:
    """What the model said, thought and called; also the parts of an answer's message."""
    thought = decode_thought(message, origin)
    parts: list[m.Part] = [] if thought is None else [thought]
    parts += _decode_content(message.get("content") or None, origin)
    if refusal := f.as_text(message.get("refusal")):
        parts.append(m.Refusal(refusal))
    parts += [_decode_call(call) for call in f.as_objects(message.get("tool_calls"))]
    return parts


def decode_thought(message: Mapping[str, object], origin: str) -> m.Thought | None:
    """``extra`` says which field the text was in, so that it goes back into the same."""
    name = next((name for name in REASONING_FIELDS if f.as_text(message.get(name))), None)
    details = f.as_objects(message.get("reasoning_details"))
    if name is None and not details:
        return None
    extra: f.Fields = {"field": name} if name is not None else {}
    if details:
        extra["reasoning_details"] = details
    return m.Thought(f.as_text(message.get(name or "")), origin=origin, extra=f.extra_of(WIRE, extra))


def _decode_call(call: f.Fields) -> m.Part:
    function = call.get("function")
    if not isinstance(function, dict) or f.as_object(call.get("custom")).get("name"):
        return m.Opaque(WIRE, call)  # a custom tool, whose input is free text
    call_id = call.get("id")
    return m.ToolCall(
        call_id if isinstance(call_id, str) else "" if call_id is None else str(call_id),
        f.as_text(f.as_object(call["function"]).get("name")),
        arguments_text(f.as_object(call["function"]).get("arguments"), absent=""),
        f.extra_of(WIRE, f.others(call, ("id", "type", "function"))),
    )


def _decode_content(content: object, origin: str = WIRE) -> list[m.Part]:
    if isinstance(content, str):
        return [m.Text(content)]
    return [_decode_part(part, origin) for part in f.as_objects(content)]


def _decode_part(part: f.Fields, origin: str) -> m.Part:
    kind = f.as_text(part.get("type"))
    extra = f.others(part, ("type", kind))
    found: m.Part | None = None
    if kind in {"text", "refusal"} and isinstance(part.get(kind), str):
        text = f.as_text(part[kind])
        found = m.Text(text, extra=f.extra_of(WIRE, extra)) if kind == "text" else m.Refusal(text)
    elif kind in _URL_KINDS:
        found = _decode_url(kind, part.get(kind), extra)
    elif kind == "input_audio":
        found = o.decode_audio(part.get(kind), f.extra_of(WIRE, extra))
    elif kind == "file":
        found = _decode_file(f.as_object(part.get(kind)), extra)
    elif kind == "thinking":
        pieces = f.as_objects(part.get(kind))
        found = m.Thought(
            "".join(f.as_text(piece.get("text")) for piece in pieces), origin=origin, extra=f.extra_of(WIRE, extra)
        )
    return m.Opaque(WIRE, part) if found is None else found


_URL_KINDS: Mapping[str, o.Kind] = {
    "image_url": "image",
    "video_url": "video",
    "audio_url": "audio",
    "document_url": "document",
}


def _decode_url(kind: str, value: object, extra: f.Fields) -> m.Media | None:
    """``{"url": ...}``, or the bare string that Mistral also takes."""
    link = {"url": value} if isinstance(value, str) else f.as_object(value)
    url = link.get("url")
    if not isinstance(url, str):
        return None
    kept = f.extra_of(WIRE, extra | f.others(link, ("url",)))
    return o.decode_media(_URL_KINDS[kind], url, kept)


def _decode_file(file: f.Fields, extra: f.Fields) -> m.Media | None:
    kept = f.extra_of(WIRE, extra | f.others(file, ("file_data", "file_id", "filename")))
    name, file_id, content = (f.as_text(file.get(key)) or None for key in ("filename", "file_id", "file_data"))
    if file_id is not None or content is None:
        return m.Media("document", file_id=file_id, name=name, extra=kept) if file_id else None
    media = o.decode_media("document", content, kept, name)
    return media if media.data is not None or content.startswith(("https://", "http://")) else None


def content_of(items: list[f.Fields]) -> object:
    """Parts as the wire wants them: one plain text is a string, nothing is nothing."""
    if len(items) == 1 and items[0].keys() == {"type", "text"} and items[0]["type"] == "text":
        return items[0]["text"]
    return items or None


def is_call(part: m.Part) -> TypeGuard[m.Opaque]:
    """Whether a part is a call of a tool that only this wire knows."""
    return isinstance(part, m.Opaque) and part.wire == WIRE and part.data.get("type") == "custom"


def encode_call(call: m.ToolCall) -> f.Fields:
    """A tool call of a message, in a request or an answer."""
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}


def assistant_body(
    items: list[f.Fields], thoughts: Iterable[m.Thought], parts: Iterable[m.Part], dialect: Dialect
) -> f.Fields:
    """Content, reasoning and refusal of an assistant message."""
    refusal = "".join(part.text for part in parts if isinstance(part, m.Refusal)) or None
    if dialect.reasoning_field == "content":  # Mistral: reasoning is a kind of content
        chunks = [_thinking(thought) for thought in thoughts]
        return f.put({"content": [*chunks, *items] if chunks else content_of(items)}, refusal=refusal)
    body: f.Fields = {"content": content_of(items)}
    for thought in thoughts:
        extra = f.own_fields(thought.extra, WIRE)
        name = f.as_text(extra.get("field")) or dialect.reasoning_field
        if thought.text:
            body[name] = f.as_text(body.get(name)) + thought.text
        if "reasoning_details" in extra:
            f.merge(body, {"reasoning_details": extra["reasoning_details"]})
    return f.put(body, refusal=refusal)


def _thinking(thought: m.Thought) -> f.Fields:
    chunk: f.Fields = {"type": "thinking", "thinking": [{"type": "text", "text": thought.text}]}
    return chunk | f.others(f.own_fields(thought.extra, WIRE), ("field", "reasoning_details"))


def tool_id(original: str, dialect: Dialect) -> str:
    """The id, or a hash of it: the same for the call and its result, now and in later requests."""
    length = dialect.tool_id_length
    if not length or (len(original) == length and original.isascii() and original.isalnum()):
        return original
    return hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:length]


@dataclass(slots=True)
class StreamedCall:
    """A tool call while it streams: held until its name is known."""

    id: str
    given: bool
    name: str = ""
    block: int = -1
    waiting: str = ""
    extra: f.Fields = field(default_factory=dict[str, object])
    custom: f.Fields = field(default_factory=dict[str, object])

    def add_custom(self, piece: f.Fields) -> None:
        """A piece of a call whose input is free text: the input grows, anything else is said once."""
        written = f.as_text(self.custom.get("input")) + f.as_text(piece.get("input"))
        self.custom |= f.others(piece, ("input",)) | {"input": written}

    def opaque(self) -> m.Opaque:
        """The whole call, as a whole answer would have it."""
        return m.Opaque(WIRE, {"id": self.id, "type": "custom", "custom": self.custom} | self.extra)
