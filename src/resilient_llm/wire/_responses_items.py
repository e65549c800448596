"""The items of OpenAI Responses <-> parts of messages.

A message item holds one or more texts; in the neutral model the first of them carries what the item itself said (its
``id``, its ``phase``).  Reasoning that was streamed arrives as its text, followed by an empty :class:`Thought` that
carries the item's identity; both are written back as one item.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, cast

from resilient_llm.model import Extra, Json, Media, Opaque, Part, Refusal, Text, Thought, ToolCall
from resilient_llm.wire._openai_json import as_object, as_objects, as_text, dumps, own_extra, rest
from resilient_llm.wire._openai_request import argument_text, audio_format, data_url, feature, inline
from resilient_llm.wire.fields import Fields, decode_base64, encode_base64, own
from resilient_llm.wire.notes import Notes, fields_for

WIRE = "openai_responses"

FOREIGN = "rs_foreign_"
"""How the id of reasoning begins that another vendor's model did, and that this one must not get back."""

_ITEM = ("id", "phase", "status")
"""What a message item says beside its content."""


# --- items -> parts ----------------------------------------------------------------------------------------


def is_item(item: Mapping[str, object]) -> bool:
    """Whether this is an output item, of a kind known or not."""
    kind = item.get("type")
    return isinstance(kind, str) and (kind != "message" or isinstance(item.get("content"), list))


def decode_item(item: Fields) -> list[Part]:
    """The parts of one item of the model's side."""
    match item.get("type", "message"):
        case "message":
            return _decode_message(item)
        case "function_call":
            return [decode_call(item)]
        case "reasoning":
            return [decode_thought(item)]
        case _:
            return [Opaque(WIRE, item)]


def about_item(item: Fields, *known: str) -> Fields:
    """What an item says beyond ``known``; that it is complete goes without saying."""
    about = rest(item, ("type", *known))
    if about.get("status") == "completed":
        del about["status"]
    return about


def _decode_message(item: Fields) -> list[Part]:
    parts = decode_content(item.get("content"))
    about = about_item(item, "role", "content")
    if about and parts and isinstance(first := parts[0], Text):  # a refusal has no place for it
        parts[0] = Text(first.text, first.annotations, Extra(WIRE, about | own(first.extra, WIRE)))
    return parts


def decode_call(item: Fields) -> ToolCall:
    """A function call."""
    call_id = as_text(item.get("call_id")) or as_text(item.get("id"))
    extra = own_extra(WIRE, about_item(item, "call_id", "name", "arguments"))
    return ToolCall(call_id, as_text(item.get("name")), argument_text(item.get("arguments")), extra)


def decode_thought(item: Fields, told: bool = False) -> Thought:
    """A reasoning item; ``told`` if its text has been streamed already."""
    about = about_item(item, "encrypted_content")
    origin = "" if as_text(item.get("id")).startswith(FOREIGN) else WIRE
    text = "" if told else thought_text(item)
    return Thought(text, as_text(item.get("encrypted_content")) or None, False, origin, own_extra(WIRE, about))


def thought_text(item: Mapping[str, object]) -> str:
    """What reasoning can be read: the raw text where a vendor shows it, else its summary."""
    pieces = as_objects(item.get("content")) or as_objects(item.get("summary"))
    return "\n\n".join(as_text(piece.get("text")) for piece in pieces)


def decode_content(content: object) -> list[Part]:
    """The content of a message or of a function's output."""
    if isinstance(content, str):
        return [Text(content)]
    return [_decode_part(part) for part in as_objects(content)]


def _decode_part(part: Fields) -> Part:
    kind = as_text(part.get("type"))
    found: Part | None = None
    match kind:
        case "input_text" | "output_text" | "text":
            extra = rest(part, ("type", "text", "annotations"))
            if not extra.get("logprobs", True):
                del extra["logprobs"]
            annotations = tuple(as_objects(part.get("annotations")))
            found = Text(as_text(part.get("text")), annotations, own_extra(WIRE, extra))
        case "refusal":
            found = Refusal(as_text(part.get("refusal")))
        case "input_image":
            found = _decode_media("image", part, ("image_url",))
        case "input_file":
            found = _decode_media("document", part, ("file_url", "file_data"))
        case "input_audio":
            found = _decode_audio(part)
        case _:
            pass
    return Opaque(WIRE, part) if found is None else found


def _decode_media(kind: Literal["image", "document"], part: Fields, sources: Sequence[str]) -> Media | None:
    own_fields = own_extra(WIRE, rest(part, ("type", "file_id", "filename", *sources)))
    name = as_text(part.get("filename")) or None
    file_id = as_text(part.get("file_id"))
    if file_id:
        return Media(kind, file_id=file_id, name=name, extra=own_fields)
    link = next((link for source in sources if (link := as_text(part.get(source)))), "")
    mime, data = inline(link)
    if data is not None:
        return Media(kind, mime, data, name=name, extra=own_fields)
    if not link or part.get("file_data"):
        return None
    return Media(kind, url=link, name=name, extra=own_fields)


def _decode_audio(part: Fields) -> Media | None:
    audio = as_object(part.get("input_audio"))
    try:
        data = decode_base64(as_text(audio.get("data")))
    except ValueError:
        return None
    extra = own_extra(WIRE, rest(part, ("type", "input_audio")))
    return Media("audio", f"audio/{as_text(audio.get('format'))}", data, extra=extra)


# --- parts -> items ----------------------------------------------------------------------------------------


def encode_items(parts: Iterable[Part], notes: Notes, answer: bool) -> list[Fields]:
    """The model's side: what it said, thought and called.

    In an ``answer`` every item is finished and has an id, and another vendor's reasoning is shown; in a request it
    is left out.
    """
    items: list[Fields] = []
    message: Fields | None = None  # the open message item
    thoughts: list[Thought] = []
    for part in parts:
        if isinstance(part, Thought):
            message = None
            thoughts.append(part)
            continue
        items += _encode_thoughts(thoughts, notes, answer, len(items))
        item = _encode_content(part, notes)
        if item is None:
            message = None
            items += _encode_other(part, notes, answer, len(items))
            continue
        about = {key: item.pop(key) for key in _ITEM if key in item}
        if message is None or about:
            message = {"id": f"msg_{len(items)}", "status": "completed"} if answer else {}
            message |= {"type": "message", "role": "assistant", "content": list[object]()} | about
            items.append(message)
        contents(message).append(item)
    return items + _encode_thoughts(thoughts, notes, answer, len(items))


def contents(item: Fields) -> list[object]:
    """The content list of a message item under construction."""
    content = item["content"]
    assert isinstance(content, list)
    return cast("list[object]", content)


def _encode_content(part: Part, notes: Notes) -> Fields | None:
    """Content of a message item; ``None`` if the part is an item of its own."""
    if isinstance(part, Text):
        annotations = [dict(item) for item in part.annotations if isinstance(item.get("type"), str)]
        text: Fields = {"type": "output_text", "text": part.text, "annotations": annotations}
        return text | fields_for(WIRE, part.extra, notes)
    return {"type": "refusal", "refusal": part.text} if isinstance(part, Refusal) else None


def _encode_other(part: Part, notes: Notes, answer: bool, index: int) -> list[Fields]:
    if isinstance(part, ToolCall):
        item: Fields = {"type": "function_call", "call_id": part.id, "name": part.name}
        item["arguments"] = part.arguments or "{}"
        if answer:
            item |= {"id": f"fc_{index}", "status": "completed"}
        return [item | fields_for(WIRE, part.extra, notes)]
    if isinstance(part, Opaque) and part.wire == WIRE and (is_item(part.data) or not answer):
        return [dict(part.data)]  # what is no item was content of a message, and would make the answer unreadable
    notes.add(
        f"{part.wire}.{part.data.get('type')}" if isinstance(part, Opaque) else type(part).__name__.lower(), "left out"
    )
    return []


def _encode_thoughts(thoughts: list[Thought], notes: Notes, answer: bool, index: int) -> list[Fields]:
    """Reasoning items of consecutive thoughts, which are taken off the list."""
    items: list[Fields] = []
    told = ""
    for thought in thoughts:
        about = own(thought.extra, WIRE) if thought.origin == WIRE else {}
        if "id" in about:
            items.append(reasoning_item(thought, told))
            told = ""
        elif thought.text:
            told += thought.text
    if told and answer:
        items.append(reasoning_item(Thought(), told) | {"id": f"{FOREIGN}{index}"})
    elif told or (thoughts and not items):
        notes.add("thought", "left out")
    thoughts.clear()
    return items


def reasoning_item(thought: Thought, told: str = "") -> Fields:
    """The item of a thought that carries its identity; ``told`` is text that was streamed before it."""
    text = thought.text or told
    item: Fields = {"type": "reasoning", "summary": [{"type": "summary_text", "text": text}] if text else []}
    item |= own(thought.extra, WIRE)
    if thought.signature is not None:
        item["encrypted_content"] = thought.signature
    return item


def encode_input(parts: Iterable[Part | Json], notes: Notes) -> list[Fields]:
    """Content of a message from the caller's side, or of a function's output."""
    return [item for part in parts if (item := _encode_input_part(part, notes)) is not None]


def _encode_input_part(part: Part | Json, notes: Notes) -> Fields | None:
    """One piece of content from the caller's side."""
    match part:
        case Text():
            if part.annotations:
                notes.add("annotations", "left out")
            return {"type": "input_text", "text": part.text} | fields_for(WIRE, part.extra, notes)
        case Json():
            return {"type": "input_text", "text": dumps(part.value)}
        case Refusal():
            return {"type": "input_text", "text": part.text}
        case Media():
            return _encode_media(part, notes) | fields_for(WIRE, part.extra, notes)
        case Opaque(wire="openai_responses"):
            return dict(part.data)
        case _:
            notes.add(feature(part), "left out")
            return None


def _encode_media(part: Media, notes: Notes) -> Fields:
    if part.kind == "video":
        raise notes.unsupported("video")
    if part.kind == "audio":
        if part.data is None:
            raise notes.unsupported("audio by URL")
        audio = {"data": encode_base64(part.data), "format": audio_format(part.mime_type)}
        return {"type": "input_audio", "input_audio": audio}
    image = part.kind == "image"
    item: Fields = {"type": "input_image" if image else "input_file"}
    if part.file_id is not None:
        item["file_id"] = part.file_id
    elif part.url is not None:
        item["image_url" if image else "file_url"] = part.url
    else:
        item["image_url" if image else "file_data"] = data_url(part, notes)
    if part.name is not None:
        item["filename"] = part.name
    elif not image and "file_data" in item:
        item["filename"] = "file"  # inline files must have a name
    return item
