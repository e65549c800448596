"""The neutral vocabulary: what a caller asks, what a model answers, and what arrives on the way.

Every wire format decodes to these classes and encodes from them, so a conversation can travel between
vendors.  A message is a sequence of *parts* in the order the model produced them (text, media, tool calls,
thoughts...), because flattening them loses what some vendors need back.

Nothing here does I/O or knows a vendor.  Requests and parts are frozen; stream events and responses are plain
slotted objects because they are created per chunk and per call, and should be treated as values all the same.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field, fields
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeAlias, TypeVar, cast, get_args

if TYPE_CHECKING:
    from resilient_llm.faults import AttemptRecord

JsonObject: TypeAlias = Mapping[str, object]
"""A JSON object, already parsed."""

Role: TypeAlias = Literal["system", "developer", "user", "assistant", "tool"]

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter", "error", "other"]
"""Why the model stopped, in one vocabulary; the vendor's own word is kept beside it."""


class _Value:
    """What ``dataclass`` would write into each class below, written once: compiling it 37 times is a tenth of what
    importing the library costs."""

    __slots__ = ()
    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __repr__(self) -> str:
        told = (f"{one.name}={getattr(self, one.name)!r}" for one in fields(self) if one.repr)
        return f"{type(self).__qualname__}({', '.join(told)})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, _Value) or type(other) is not type(self):
            return NotImplemented
        compared = _compared(type(self))
        return bool(compared(self) == compared(other))

    def __hash__(self) -> int:
        return hash(_compared(type(self))(self))


_COMPARED: dict[type, attrgetter[object]] = {}


def _compared(kind: type[_Value]) -> attrgetter[object]:
    """What takes from a value what makes it equal to another of its class."""
    found = _COMPARED.get(kind)
    if found is None:
        names = [one.name for one in fields(kind) if one.compare]
        found = _COMPARED[kind] = attrgetter(*names or ["__class__"])
    return found


class _Changeable(_Value):
    """One whose fields may be set later, and which is therefore no key of a mapping."""

    __slots__ = ()
    __hash__: ClassVar[None] = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Extra(_Value):
    """Fields that only one wire format understands.

    They are sent back to that wire (``wire`` is a codec name such as ``"anthropic_messages"``) and left out,
    with a :class:`Degradation`, for every other.
    """

    wire: str
    fields: JsonObject


# --- parts of a message ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Text(_Value):
    """Plain text.  ``annotations`` are citations and the like, in the shape of the wire they came from."""

    text: str
    annotations: tuple[JsonObject, ...] = ()
    extra: Extra | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Media(_Value):
    """An image, a sound, a video or a document: inline ``data``, a ``url``, or a ``file_id`` at the vendor."""

    kind: Literal["image", "audio", "video", "document"]
    mime_type: str | None = None
    data: bytes | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    extra: Extra | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ToolCall(_Value):
    """The model asks for a tool.  ``arguments`` is JSON text exactly as the model wrote it; see :meth:`parse`."""

    id: str
    name: str
    arguments: str = "{}"
    extra: Extra | None = None

    def parse(self) -> JsonObject:
        """The arguments as an object.  An empty text means ``{}``.

        Raises ``ValueError`` if the model wrote something that is not a JSON object.
        """
        value: object = json.loads(self.arguments) if self.arguments.strip() else {}
        if not isinstance(value, dict):
            raise ValueError(f"the arguments of tool {self.name!r} are not a JSON object: {self.arguments[:80]!r}")
        return cast(JsonObject, value)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ToolResult(_Value):
    """What a tool answered.  ``tool_call_id`` names the call; ``name`` is the tool's, where the caller knows it."""

    tool_call_id: str
    parts: tuple[Text | Media | Json, ...] = ()
    name: str | None = None
    is_error: bool = False
    extra: Extra | None = None

    @property
    def text(self) -> str:
        """All text of the result, JSON parts included as JSON text."""
        return "".join(
            part.text if isinstance(part, Text) else json.dumps(part.value) if isinstance(part, Json) else ""
            for part in self.parts
        )


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Json(_Value):
    """A structured tool result, for the wires that take objects."""

    value: object


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Thought(_Value):
    """Reasoning the model showed.  ``signature`` (or ``redacted`` data in it) is only valid at its ``origin``:
    a codec name, with the vendor after a slash where one wire has several.  It is never sent anywhere else."""

    text: str = ""
    signature: str | None = None
    redacted: bool = False
    origin: str = ""
    extra: Extra | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Refusal(_Value):
    """The model declined, in its own words."""

    text: str


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Opaque(_Value):
    """A vendor's own block (a server-side tool, say), carried through to the same wire and to no other."""

    wire: str
    data: JsonObject


Part: TypeAlias = Text | Media | ToolCall | ToolResult | Thought | Refusal | Opaque


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Message(_Value):
    """One turn.  System messages stay where they stand; codecs move them where a vendor wants them.

    ``cache``: the prompt up to the end of this message is worth caching, for vendors that want to be told.
    """

    role: Role
    parts: tuple[Part, ...]
    name: str | None = None
    extra: Extra | None = None
    cache: bool = False

    @property
    def text(self) -> str:
        """All plain text of the message, joined."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    def to_dict(self) -> dict[str, object]:
        """The message as JSON values, nothing left out; :meth:`from_dict` makes the same message of it again."""
        return _fields_of(self)

    @classmethod
    def from_dict(cls, given: JsonObject) -> Message:
        """The message that :meth:`to_dict` was called on.  Raises ``ValueError`` for what no message becomes."""
        role = _object_of("a message", given).get("role")
        if role not in get_args(Role):
            raise ValueError(f"a message has one of the roles {', '.join(get_args(Role))}, not {str(role)!r:.80}")
        return cls(**_values_of(cls, given))

    def to_openai(self) -> dict[str, object]:
        """The message in the shape of OpenAI's Chat Completions, for programs that store or send that.

        Reasoning and other vendors' own blocks have no place there and are left out.  Raises ``ValueError`` for
        several tool results in one message, which are several messages there.
        """
        return _openai_message(self)


# --- messages as JSON --------------------------------------------------------------------------------------

_PART_NAMES: dict[type, str] = {
    Text: "text",
    Media: "media",
    ToolCall: "tool_call",
    ToolResult: "tool_result",
    Json: "json",
    Thought: "thought",
    Refusal: "refusal",
    Opaque: "opaque",
}
_PART_TYPES = {name: kind for kind, name in _PART_NAMES.items()}


def _fields_of(value: Message | Part | Json | Extra) -> dict[str, object]:
    """The fields that differ from their defaults; of a part also its ``type``."""
    name = _PART_NAMES.get(type(value))
    found: dict[str, object] = {} if name is None else {"type": name}
    for one in fields(value):
        held = getattr(value, one.name)
        if held != one.default:
            found[one.name] = _as_json(held)
    return found


def _as_json(value: object) -> object:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, Extra) or type(value) in _PART_NAMES:
        return _fields_of(cast("Part | Extra", value))
    return [_as_json(one) for one in cast("tuple[object, ...]", value)] if isinstance(value, tuple) else value


def _values_of(kind: type[Message | Part | Json | Extra], given: JsonObject) -> dict[str, Any]:
    """The arguments for a class, out of what :func:`_fields_of` made."""
    known = {one.name: one for one in fields(kind)}
    told = f"the fields of a {kind.__name__}"
    if given.keys() - known.keys():
        raise ValueError(f"{told} are {', '.join(known)}, not {sorted(given.keys() - known.keys())!s:.80}")
    absent = [name for name, one in known.items() if one.default is MISSING and name not in given]
    if absent:
        raise ValueError(f"{told} must have {', '.join(absent)} among them")
    return {name: _from_json(kind, name, value, known[name].default) for name, value in given.items()}


def _from_json(kind: type, name: str, value: object, default: object) -> object:
    if name == "parts":
        return tuple(_part_of(one) for one in _list_of(name, value))
    if name == "annotations":
        return tuple(_object_of(name, one) for one in _list_of(name, value))
    if name == "extra":
        return Extra(**_values_of(Extra, _object_of(name, value)))
    if kind is Json:
        return value
    if name == "fields" or (name == "data" and kind is Opaque):
        return _object_of(name, value)
    if not isinstance(value, bool if isinstance(default, bool) else str):
        raise ValueError(f"{name} of a {kind.__name__} cannot be {str(value)!r:.80}")
    return base64.b64decode(value, validate=True) if name == "data" and isinstance(value, str) else value


def _part_of(given: object) -> Any:
    found = dict(_object_of("a part", given))
    kind = _PART_TYPES.get(str(found.pop("type", None)))
    if kind is None:
        raise ValueError(f"a part has one of the types {', '.join(_PART_TYPES)}: {str(given)!r:.80}")
    return kind(**_values_of(kind, found))


def _object_of(name: str, value: object) -> JsonObject:
    if not isinstance(value, Mapping):
        raise ValueError(f"{name} must be an object, not {str(value)!r:.80}")
    return cast(JsonObject, value)


def _list_of(name: str, value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"{name} must be a list, not {str(value)!r:.80}")
    return cast("list[object]", value)


_OPENAI = "openai_chat"
"""The wire whose own fields :meth:`Message.to_openai` keeps."""


def _openai_message(message: Message) -> dict[str, object]:
    """A message in OpenAI's shape."""
    lone = message.parts[0] if len(message.parts) == 1 else None
    if isinstance(lone, Opaque) and lone.wire == _OPENAI and "role" in lone.data:
        return dict(lone.data)  # a role only that wire knows
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    if len(results) > 1:
        raise ValueError("a message with several tool results is several messages in OpenAI's shape")
    parts = results[0].parts if results else message.parts
    content = [shape for part in parts if (shape := _openai_part(part)) is not None]
    plain = len(content) == 1 and content[0].keys() == {"type", "text"} and content[0]["type"] == "text"
    found: dict[str, object] = {"role": "tool" if results else message.role}
    found["content"] = content[0]["text"] if plain else content or ("" if results else None)
    calls = [_openai_call(part) for part in message.parts if isinstance(part, ToolCall)]
    refusal = "".join(part.text for part in message.parts if isinstance(part, Refusal))
    for name, value in (("name", message.name), ("tool_calls", calls), ("refusal", refusal)):
        if value:
            found[name] = value
    if results:
        found["tool_call_id"] = results[0].tool_call_id
    return found | _openai_fields(message.extra)


def _openai_part(part: Part | Json) -> dict[str, object] | None:
    """A part of the content; ``None`` for one that has no place there, or another than there."""
    match part:
        case Text():
            return {"type": "text", "text": part.text, **_openai_fields(part.extra)}
        case Json():
            return {"type": "text", "text": json.dumps(part.value, ensure_ascii=False)}
        case Media():
            return {**_openai_media(part), **_openai_fields(part.extra)}
        case Opaque() if part.wire == _OPENAI:
            return dict(part.data)
        case _:
            return None


def _openai_media(part: Media) -> dict[str, object]:
    inline = base64.b64encode(part.data).decode("ascii") if part.data is not None else None
    if part.kind == "audio" and inline is not None:
        return {
            "type": "input_audio",
            "input_audio": {"data": inline, "format": (part.mime_type or "wav").split("/")[-1]},
        }
    url = part.url if inline is None else f"data:{part.mime_type or 'application/octet-stream'};base64,{inline}"
    if part.kind == "document" and part.url is None:
        file = {"file_id": part.file_id, "file_data": url, "filename": part.name}
        return {"type": "file", "file": {name: value for name, value in file.items() if value is not None}}
    return {"type": f"{part.kind}_url", f"{part.kind}_url": {"url": url}}


def _openai_call(part: ToolCall) -> dict[str, object]:
    function = {"name": part.name, "arguments": part.arguments}
    return {"id": part.id, "type": "function", "function": function, **_openai_fields(part.extra)}


def _openai_fields(extra: Extra | None) -> dict[str, object]:
    return dict(extra.fields) if extra is not None and extra.wire == _OPENAI else {}


# --- the request -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Tool(_Value):
    """A function the model may call.  ``parameters`` is a JSON schema; ``None`` means it takes no arguments.

    ``cache``: the tools up to this one are worth caching, for vendors that want to be told.
    """

    name: str
    description: str | None = None
    parameters: JsonObject | None = None
    strict: bool | None = None
    extra: Extra | None = None
    cache: bool = False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ToolChoice(_Value):
    """``auto``: the model decides; ``none``: no tool; ``required``: some tool, or one of ``names`` if given."""

    mode: Literal["auto", "none", "required"]
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class OutputFormat(_Value):
    """The shape of the answer: free ``text``, any ``json_object``, or JSON after ``schema``."""

    kind: Literal["text", "json_object", "json_schema"]
    schema: JsonObject | None = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Reasoning(_Value):
    """How hard the model should think: an ``effort`` word, a token ``budget``, or both; ``None`` leaves it to
    the vendor.  ``effort="none"`` asks for no reasoning."""

    effort: str | None = None
    budget: int | None = None
    extra: Extra | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ChatRequest(_Value):
    """One call as the caller meant it, for any vendor.  ``None`` always means "the vendor's default"."""

    messages: tuple[Message, ...]
    model: str = ""
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    output: OutputFormat | None = None
    reasoning: Reasoning | None = None
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    stream: bool = False
    user: str | None = None
    idempotency_key: str | None = None
    """Sent in the header where the vendor documents it; no part of the body."""
    allow_empty: bool = False
    """Whether an answer that says nothing is one; no part of the body."""
    extra: tuple[Extra, ...] = ()
    """Further fields, per wire; merged into the body for that wire, a degradation for the others."""
    source: Extra | None = None
    """The caller's own body, when the call came in on a wire: forwarded as it is to a provider of that wire, with
    model and stream switch replaced, so that fields we do not know survive."""
    headers: tuple[tuple[str, str], ...] = ()
    """Headers that came with it and belong to its wire (``anthropic-beta``): sent to providers of that wire alone."""
    query: tuple[tuple[str, str], ...] = ()
    """Parameters of the URL that came with it: the same, and a degradation elsewhere."""
    cache_key: str | None = None
    """What requests that begin alike have in common: vendors who take one send them to the server that has cached the
    beginning.  Others are not told, and nothing is lost by it."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Degradation(_Value):
    """Something the answering provider could not express and what was done instead.  Reported, never silent."""

    feature: str
    action: str


# --- the answer --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Usage(_Value):
    """Tokens, by one convention: ``input_tokens`` includes cached ones, ``output_tokens`` includes reasoning.

    ``total_tokens`` is the vendor's own total (it may count more than input plus output); 0 where not given.
    ``estimated``: a stream that broke gave no counts, so that a part of these is estimated from its length.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    total_tokens: int = 0
    extra: Extra | None = None
    estimated: bool = False


@dataclass(slots=True, eq=False, repr=False)
class Choice(_Changeable):
    """One of several answers to the same request (``n`` > 1)."""

    parts: tuple[Part, ...]
    finish_reason: FinishReason
    raw_finish_reason: str | None = None
    extra: Extra | None = None


Parsed = TypeVar("Parsed")


def _says_something(part: Part) -> bool:
    return bool(part.text.strip()) if isinstance(part, Text) else not isinstance(part, Thought)


@dataclass(slots=True, eq=False, repr=False)
class ChatResponse(_Changeable):
    """The answer, whoever gave it.

    ``provider`` is the id of the provider that answered, ``attempts`` the trail that led there, oldest first.
    ``raw`` is the parsed JSON body of the vendor; ``None`` for a streamed answer.  ``parsed`` is the instance of the
    class given as ``output=``; ``None`` if none was given, if the model asks for a tool or refuses, and in a
    ``fallback=`` that is a text.  ``model_mismatch``: ``model``, which is what the provider says, is none of the known
    names of the model that was asked for.
    """

    parts: tuple[Part, ...]
    finish_reason: FinishReason = "stop"
    raw_finish_reason: str | None = None
    usage: Usage | None = None
    id: str = ""
    model: str = ""
    created: int | None = None
    alternatives: tuple[Choice, ...] = ()
    extra: Extra | None = None
    raw: JsonObject | None = field(default=None, repr=False)
    provider: str = ""
    attempts: tuple[AttemptRecord, ...] = ()
    degradations: tuple[Degradation, ...] = ()
    parsed: object = None
    model_mismatch: bool = False
    body: bytes | None = field(default=None, repr=False, compare=False)
    """The bytes ``raw`` was parsed from, where a mount passes them on."""

    @property
    def text(self) -> str:
        """All plain text of the answer, joined; reasoning and refusals are not in it."""
        return "".join(part.text for part in self.parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The tools the model asks for, in order."""
        return tuple(part for part in self.parts if isinstance(part, ToolCall))

    @property
    def reasoning(self) -> str:
        """The reasoning the model showed, joined; empty if none."""
        return "".join(part.text for part in self.parts if isinstance(part, Thought))

    @property
    def refusal(self) -> str:
        """The model's words of refusal; empty if it did not refuse."""
        return "".join(part.text for part in self.parts if isinstance(part, Refusal))

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing at all, and not why: no text, media, refusal or tool call in any choice.

        Not so where the finish reason tells why: ``length`` (the limit was spent on reasoning), ``content_filter``.
        """
        if self.finish_reason in ("length", "content_filter"):
            return False
        return not any(map(_says_something, self.parts)) and not any(
            _says_something(part) for choice in self.alternatives for part in choice.parts
        )

    def message(self) -> Message:
        """The answer as the assistant's turn, to put into the next request."""
        return Message("assistant", self.parts)


class ParsedResponse(ChatResponse, Generic[Parsed]):
    """An answer to a call whose ``output=`` was a class: ``parsed`` is an instance of it.

    It is ``None`` all the same, whatever a type checker says, if the model asked for a tool or refused.
    """

    __slots__ = ()

    if TYPE_CHECKING:
        parsed: Parsed  # pyright: ignore[reportIncompatibleVariableOverride]


# --- a streamed answer -------------------------------------------------------------------------------------
#
# ``block`` numbers the parts of the answer in order of first appearance, from 0: two text deltas with the same
# block belong to one Text, another block starts another part.  ``choice`` is not 0 only for requests with n > 1.


@dataclass(slots=True, eq=False, repr=False)
class StreamStart(_Changeable):
    """The vendor began to answer; carries no content."""

    id: str = ""
    model: str = ""
    created: int | None = None


@dataclass(slots=True, eq=False, repr=False)
class TextDelta(_Changeable):
    """A piece of the answer's text.  ``annotations`` may arrive with an empty ``text``."""

    text: str
    block: int = 0
    choice: int = 0
    annotations: tuple[JsonObject, ...] = ()


@dataclass(slots=True, eq=False, repr=False)
class ThoughtDelta(_Changeable):
    """A piece of reasoning, or (with an empty ``text``) its ``signature``."""

    text: str
    block: int = 0
    choice: int = 0
    signature: str | None = None
    origin: str = ""


@dataclass(slots=True, eq=False, repr=False)
class RefusalDelta(_Changeable):
    """A piece of a refusal."""

    text: str
    block: int = 0
    choice: int = 0


@dataclass(slots=True, eq=False, repr=False)
class ToolCallStart(_Changeable):
    """A tool call begins; its arguments follow as :class:`ToolCallDelta` of the same block."""

    id: str
    name: str
    block: int = 0
    choice: int = 0
    extra: Extra | None = None


@dataclass(slots=True, eq=False, repr=False)
class ToolCallDelta(_Changeable):
    """A piece of a tool call's arguments (JSON text)."""

    arguments: str
    block: int = 0
    choice: int = 0


@dataclass(slots=True, eq=False, repr=False)
class PartAdded(_Changeable):
    """A part that arrived whole: media, a vendor's own block, redacted reasoning."""

    part: Part
    block: int = 0
    choice: int = 0


@dataclass(slots=True, eq=False, repr=False)
class BlockEnd(_Changeable):
    """The part is complete.  Sent where the wire says so; a new block ends the one before it all the same."""

    block: int = 0
    choice: int = 0


@dataclass(slots=True, eq=False, repr=False)
class UsageUpdate(_Changeable):
    """Token counts so far; a later update replaces an earlier one."""

    usage: Usage


@dataclass(slots=True, eq=False, repr=False)
class Finish(_Changeable):
    """Why the model stopped.  Not the end of the stream: usage may follow."""

    reason: FinishReason
    raw: str | None = None
    choice: int = 0
    extra: Extra | None = None


@dataclass(slots=True, eq=False, repr=False)
class KeepAlive(_Changeable):
    """The vendor is still there; no content, and no timer is reset by it."""


@dataclass(slots=True, eq=False, repr=False)
class StreamEnd(_Changeable):
    """The answer is complete: the wire's terminal evidence was seen."""


@dataclass(slots=True, eq=False, repr=False)
class StreamError(_Changeable):
    """The vendor reported an error inside the stream; ``payload`` is what it said.  Nothing follows."""

    payload: JsonObject | str


@dataclass(slots=True, eq=False, repr=False)
class StreamBroken(_Changeable):
    """The stream cannot go on: it ended without terminal evidence or (``malformed``) could not be decoded, or was no
    stream of its wire at all, but a page, say.  Nothing follows."""

    reason: str
    malformed: bool = False


@dataclass(slots=True, eq=False, repr=False)
class Restarted(_Changeable):
    """Everything received before this event is void; another attempt begins (``on_break="restart"`` only)."""

    provider: str
    reason: str


@dataclass(slots=True, eq=False, repr=False)
class Continued(_Changeable):
    """The stream broke, and ``provider`` goes on with the answer; nothing before is void."""

    provider: str
    reason: str


StreamEvent: TypeAlias = (
    StreamStart
    | TextDelta
    | ThoughtDelta
    | RefusalDelta
    | ToolCallStart
    | ToolCallDelta
    | PartAdded
    | BlockEnd
    | UsageUpdate
    | Finish
    | KeepAlive
    | StreamEnd
    | StreamError
    | StreamBroken
    | Restarted
    | Continued
)


# --- embeddings --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EmbedRequest(_Value):
    """Texts to embed.  ``dimensions`` ``None`` means the model's own size."""

    inputs: tuple[str, ...]
    model: str = ""
    dimensions: int | None = None
    extra: tuple[Extra, ...] = ()
    idempotency_key: str | None = None


@dataclass(slots=True, eq=False, repr=False)
class EmbedResponse(_Changeable):
    """One vector per input, in order."""

    vectors: tuple[tuple[float, ...], ...]
    model: str = ""
    usage: Usage | None = None
    raw: JsonObject | None = field(default=None, repr=False)
    provider: str = ""
    attempts: tuple[AttemptRecord, ...] = ()
