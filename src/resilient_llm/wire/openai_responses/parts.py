"""The items of OpenAI Responses <-> parts of messages.

A message item holds one or more texts; in the neutral model the first of them carries what the item itself said (its
``id``, its ``phase``).  Reasoning that was streamed arrives as its text, followed by an empty :class:`Thought` that
carries the item's identity; both are written back as one item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit import openai as o
from resilient_llm.wire.kit.notes import Notes, fields_for
from resilient_llm.wire.kit.tools import arguments_text

WIRE = "openai_responses"

FOREIGN = "rs_foreign_"
"""How the id of reasoning begins that another vendor's model did, and that this one must not get back."""

_ITEM = ("id", "phase", "status")
"""What a message item says beside its content."""


def is_item(item: Mapping[str, object]) -> bool:
    """Whether this is an output item, of a kind known or not."""
    kind = item.get("type")
    return isinstance(kind, str) and (kind != "message" or isinstance(item.get("content"), list))


def decode_item(item: f.Fields) -> list[m.Part]:
    """The parts of one item of the model's side."""
    match item.get("type", "message"):
        case "message":
            parts, about = decode_content(item.get("content")), about_item(item, "role", "content")
            if about and parts and isinstance(first := parts[0], m.Text):  # a refusal has no place for it
                parts[0] = m.Text(first.text, first.annotations, m.Extra(WIRE, about | f.own_fields(first.extra, WIRE)))
            return parts
        case "function_call":
            return [decode_call(item)]
        case "reasoning":
            return [decode_thought(item)]
        case _:
            return [m.Opaque(WIRE, item)]


def about_item(item: f.Fields, *known: str) -> f.Fields:
    """What an item says beyond ``known``; that it is complete goes without saying."""
    about = f.others(item, ("type", *known))
    if about.get("status") == "completed":
        del about["status"]
    return about


def decode_call(item: f.Fields) -> m.ToolCall:
    """A function call."""
    call_id = f.as_text(item.get("call_id")) or f.as_text(item.get("id"))
    extra = f.extra_of(WIRE, about_item(item, "call_id", "name", "arguments"))
    return m.ToolCall(call_id, f.as_text(item.get("name")), arguments_text(item.get("arguments"), absent=""), extra)


def decode_thought(item: f.Fields, streamed: bool = False) -> m.Thought:
    """A reasoning item; ``streamed`` if its text has come in pieces already."""
    about = about_item(item, "encrypted_content")
    origin = "" if f.as_text(item.get("id")).startswith(FOREIGN) else WIRE
    pieces = f.as_objects(item.get("content")) or f.as_objects(item.get("summary"))  # the raw text, where it is shown
    text = "" if streamed else "\n\n".join(f.as_text(piece.get("text")) for piece in pieces)
    return m.Thought(text, f.as_text(item.get("encrypted_content")) or None, False, origin, f.extra_of(WIRE, about))


def decode_content(content: object) -> list[m.Part]:
    """The content of a message or of a function's output."""
    if isinstance(content, str):
        return [m.Text(content)]
    return [_decode_part(part) for part in f.as_objects(content)]


def _decode_part(part: f.Fields) -> m.Part:
    kind = f.as_text(part.get("type"))
    found: m.Part | None = None
    match kind:
        case "input_text" | "output_text" | "text":
            extra = f.others(part, ("type", "text", "annotations"))
            if not extra.get("logprobs", True):
                del extra["logprobs"]
            annotations = tuple(f.as_objects(part.get("annotations")))
            found = m.Text(f.as_text(part.get("text")), annotations, f.extra_of(WIRE, extra))
        case "refusal":
            found = m.Refusal(f.as_text(part.get("refusal")))
        case "input_image":
            found = _decode_media("image", part, ("image_url",))
        case "input_file":
            found = _decode_media("document", part, ("file_url", "file_data"))
        case "input_audio":
            extra = f.others(part, ("type", "input_audio"))
            found = o.decode_audio(part.get("input_audio"), f.extra_of(WIRE, extra))
        case _:
            pass
    return m.Opaque(WIRE, part) if found is None else found


def _decode_media(kind: Literal["image", "document"], part: f.Fields, sources: Sequence[str]) -> m.Media | None:
    kept = f.extra_of(WIRE, f.others(part, ("type", "file_id", "filename", *sources)))
    name = f.as_text(part.get("filename")) or None
    file_id = f.as_text(part.get("file_id"))
    if file_id:
        return m.Media(kind, file_id=file_id, name=name, extra=kept)
    link = next((link for source in sources if (link := f.as_text(part.get(source)))), "")
    media = o.decode_media(kind, link, kept, name)
    return None if media.data is None and (not link or part.get("file_data")) else media


def encode_items(parts: Iterable[m.Part], notes: Notes, answer: bool) -> list[f.Fields]:
    """The model's side: what it said, thought and called.  In an ``answer`` every item is finished and has an id, and
    another vendor's reasoning is shown; in a request it is left out."""
    items: list[f.Fields] = []
    content: list[f.Fields] | None = None  # of the open message item
    thoughts: list[m.Thought] = []
    for part in parts:
        if isinstance(part, m.Thought):
            content = None
            thoughts.append(part)
            continue
        items += _encode_thoughts(thoughts, notes, answer, len(items))
        item = _encode_content(part, notes)
        if item is None:
            content = None
            items += _encode_other(part, notes, answer, len(items))
            continue
        about = {key: item.pop(key) for key in _ITEM if key in item}
        if content is None or about:
            content = []
            message: f.Fields = {"id": f"msg_{len(items)}", "status": "completed"} if answer else {}
            items.append(message | {"type": "message", "role": "assistant", "content": content} | about)
        content.append(item)
    return items + _encode_thoughts(thoughts, notes, answer, len(items))


def _encode_content(part: m.Part, notes: Notes) -> f.Fields | None:
    """Content of a message item; ``None`` if the part is an item of its own."""
    if isinstance(part, m.Text):
        annotations = [dict(item) for item in part.annotations if isinstance(item.get("type"), str)]
        text: f.Fields = {"type": "output_text", "text": part.text, "annotations": annotations}
        return text | fields_for(WIRE, part.extra, notes)
    return {"type": "refusal", "refusal": part.text} if isinstance(part, m.Refusal) else None


def _encode_other(part: m.Part, notes: Notes, answer: bool, index: int) -> list[f.Fields]:
    if isinstance(part, m.ToolCall):
        item: f.Fields = {"type": "function_call", "call_id": part.id, "name": part.name}
        item["arguments"] = part.arguments or "{}"
        if answer:
            item |= {"id": f"fc_{index}", "status": "completed"}
        return [item | fields_for(WIRE, part.extra, notes)]
    if isinstance(part, m.Opaque) and part.wire == WIRE and (is_item(part.data) or not answer):
        return [dict(part.data)]  # what is no item was content of a message, and would make the answer unreadable
    o.left_out(part, notes)
    return []


def _encode_thoughts(thoughts: list[m.Thought], notes: Notes, answer: bool, index: int) -> list[f.Fields]:
    """Reasoning items of consecutive thoughts, which are taken off the list."""
    items: list[f.Fields] = []
    earlier = ""
    for thought in thoughts:
        about = f.own_fields(thought.extra, WIRE) if thought.origin == WIRE else {}
        if "id" in about:
            items.append(reasoning_item(thought, earlier))
            earlier = ""
        elif thought.text:
            earlier += thought.text
    if earlier and answer:
        items.append(reasoning_item(m.Thought(), earlier) | {"id": f"{FOREIGN}{index}"})
    elif earlier or (thoughts and not items):
        notes.add(Feature.REASONING, "left out")
    thoughts.clear()
    return items


def reasoning_item(thought: m.Thought, earlier: str = "") -> f.Fields:
    """The item of a thought that carries its identity; ``earlier`` is text that was streamed before it."""
    text = thought.text or earlier
    item: f.Fields = {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}] if text else []}
    return f.put(item | f.own_fields(thought.extra, WIRE), encrypted_content=thought.signature)


def encode_input(parts: Iterable[m.Part], notes: Notes) -> list[f.Fields]:
    """Content of a message from the caller's side, or of a function's output."""
    return [item for part in parts if (item := _encode_input_part(part, notes)) is not None]


def _encode_input_part(part: m.Part, notes: Notes) -> f.Fields | None:
    """One piece of content from the caller's side."""
    match part:
        case m.Text():
            if part.annotations:
                notes.add(Feature.ANNOTATIONS, "left out")
            return {"type": "input_text", "text": part.text} | fields_for(WIRE, part.extra, notes)
        case m.Refusal():
            return {"type": "input_text", "text": part.text}
        case m.Media():
            return _encode_media(part, notes) | fields_for(WIRE, part.extra, notes)
        case m.Opaque(wire="openai_responses"):
            return dict(part.data)
        case _:
            o.left_out(part, notes)
            return None


def _encode_media(part: m.Media, notes: Notes) -> f.Fields:
    if part.kind == "video":
        raise notes.unsupported(Feature.VIDEO)
    if part.kind == "audio":
        if part.data is None:
            raise notes.unsupported(Feature.AUDIO_URL)
        return o.encode_audio(part.data, part.mime_type)
    image = part.kind == "image"
    item = f.put({"type": "input_image" if image else "input_file"}, file_id=part.file_id)
    if part.file_id is None:
        name = "image_url" if image else "file_data" if part.url is None else "file_url"
        item[name] = o.data_url(part, notes) if part.url is None else part.url
    return f.put(item, filename=part.name or ("file" if "file_data" in item else None))  # inline files must have a name


@dataclass(frozen=True, slots=True)
class Kind:
    """How output items of one kind are streamed: the names of ids and events, and what an item begins with.

    An item but a call ``holds`` one ``part``, which has events of its own; its text ``grows`` in a field, with other
    fields ``beside`` each piece.
    """

    prefix: str
    body: f.Fields
    event: str
    grows: str = "text"
    holds: str = "content"
    part: f.Fields | None = None
    part_event: str = "response.content_part"
    beside: f.Fields = field(default_factory=dict[str, object])


_MESSAGE: f.Fields = {"type": "message", "role": "assistant", "content": []}
_TEXT: f.Fields = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}

TEXT = Kind("msg_", _MESSAGE, "response.output_text", part=_TEXT, beside={"logprobs": []})
REFUSAL = Kind("msg_", _MESSAGE, "response.refusal", "refusal", part={"type": "refusal", "refusal": ""})
THOUGHT = Kind(
    FOREIGN,
    {"type": "reasoning", "summary": []},
    "response.reasoning_summary_text",
    holds="summary",
    part={"type": "summary_text", "text": ""},
    part_event="response.reasoning_summary_part",
)
CALL = Kind("fc_", {"type": "function_call"}, "response.function_call_arguments", "arguments")


class StreamedItem:
    """An output item while it is being written."""

    def __init__(self, kind: Kind, block: int, index: int, more: f.Fields) -> None:
        self.kind = kind
        self.block = block
        self.index = index
        self.place: f.Fields = {f"{kind.holds}_index": 0} if kind.part else {}
        self.body: f.Fields = {"id": f"{kind.prefix}{index}", "status": "in_progress"} | kind.body | more
        self.about: f.Fields = {}
        self.pieces: list[str] = []
        self.annotations: list[m.JsonObject] = []
