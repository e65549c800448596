"""What a request needs, what a provider can do, and what happens where the two do not meet.

A request's features are computed once.  A provider is skipped while planning if it lacks one without which the answer
would be another one; what it can do without is changed or left out, and said to be.  The tables below are data with
the date they were written: :data:`WIRES` is checked against the codecs by a test; :data:`VENDORS` and :data:`MODELS`
age, so a user's ``capabilities=`` goes before them, and a provider that says "unsupported" is believed for as long as
the process lives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import Final, Literal, TypeAlias, cast, get_args

from resilient_llm.errors import ConfigurationError, Fault, FaultKind, FaultScope, UnsupportedFeature
from resilient_llm.model import ChatRequest, Degradation, Extra, Media, Message, Opaque, Text, ToolChoice, ToolResult
from resilient_llm.wire.kit.notes import HARD

Feature: TypeAlias = str
"""One of :data:`FEATURES`, or ``only:WIRE``, ``opaque:WIRE`` and ``stored:WIRE``: fields, blocks and files no other
wire has a word for or access to."""

Support: TypeAlias = Literal["full", "changed", "left_out", "none"]
"""``full``; ``changed``: the codec says it in other words or leaves it out, and records that; ``left_out``: it is taken
out of the request, and that is recorded; ``none``: the provider cannot serve a request that needs it."""

Action: TypeAlias = Literal["skip", "degrade", "error"]
"""What to do with a provider that lacks a feature.  ``skip``: ask another one; ``degrade``: leave the feature out and
say so; ``error``: raise ``UnsupportedFeature`` before anything is sent."""

OnUnsupported: TypeAlias = Action | Mapping[str, Action]
"""One action, or one per feature, the others being skipped.  By itself ``"skip"`` concerns only what a provider cannot
do without giving another answer; for a feature named in a mapping it concerns any change.  ``"degrade"`` applies where
a feature can be left out (see :data:`DROPPABLE`).  ``"error"`` allows no change at all."""

FEATURES: Final = (
    *("tools", "tool_choice.required", "tool_choice.name", "parallel_tool_calls", "tool.strict"),
    *("image", "image_url", "audio", "audio_url", "video", "video_url", "document", "document_url", "file_id"),
    *("media_in_tool_result", "tool_result.is_error"),
    *("json_object", "json_schema", "reasoning", "prefill"),
    *("n", "logprobs", "top_logprobs", "max_tokens", "stop", "seed", "user"),
    *("temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"),
)
"""Everything a request can need beyond text."""

# --- what a request needs ----------------------------------------------------------------------------------

_SETTINGS = (
    *("tools", "tool_choice", "parallel_tool_calls", "output", "reasoning", "n", "logprobs", "top_logprobs"),
    *("max_tokens", "stop", "seed", "user", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"),
    "extra",
)
_settings = attrgetter(*_SETTINGS)
_NONE = _settings(ChatRequest(()))
_PLAIN = ("max_tokens", "seed", "user", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")
_NOTHING: frozenset[Feature] = frozenset()


def features(request: ChatRequest) -> frozenset[Feature]:
    """What this request needs of a provider beyond text; empty for plain conversations."""
    messages = request.messages
    found: set[Feature] | None = None
    for message in messages:
        for part in message.parts:
            if type(part) is not Text:
                found = set() if found is None else found
                _of_part(part, found)
    if messages and messages[-1].role == "assistant":
        found = {"prefill"} if found is None else found | {"prefill"}
    if _settings(request) != _NONE:
        found = set() if found is None else found
        _of_settings(request, found)
    return frozenset(found) if found else _NOTHING


def _of_settings(request: ChatRequest, found: set[Feature]) -> None:
    found.update(name for name in _PLAIN if getattr(request, name) is not None)
    if request.tools:
        found.add("tools")
        if any(tool.strict for tool in request.tools):
            found.add("tool.strict")
        if request.parallel_tool_calls is False:
            found.add("parallel_tool_calls")
    choice = request.tool_choice
    if choice is not None and choice.mode == "required":
        found.add("tool_choice.name" if choice.names else "tool_choice.required")
    if request.output is not None and request.output.kind != "text":
        found.add(request.output.kind)
    if request.reasoning is not None:
        found.add("reasoning")
    if (request.n or 1) > 1:
        found.add("n")
    if request.top_logprobs:
        found.add("top_logprobs")
    if request.logprobs or request.top_logprobs:
        found.add("logprobs")
    if request.stop:
        found.add("stop")
    found.update(f"only:{extra.wire}" for extra in request.extra if _binding(extra))


def _binding(extra: Extra) -> bool:
    """Whether these fields of a wire change the answer, so that no other wire will do."""
    return any(value and value != ["text"] for key, value in extra.fields.items() if key in HARD)


_STORES = (("gs://", "gemini"), ("https://generativelanguage.googleapis.com/", "gemini"), ("s3://", "bedrock_converse"))
"""Where files lie that only one vendor can read."""


def _place(place: str, otherwise: Feature) -> Feature:
    return next((f"stored:{wire}" for start, wire in _STORES if place.startswith(start)), otherwise)


def _of_part(part: object, found: set[Feature]) -> None:
    if isinstance(part, Media):
        found.add(part.kind)
        if part.file_id is not None:
            found.add(_place(part.file_id, "file_id"))
        elif part.url is not None:
            found.add(_place(part.url, f"{part.kind}_url"))
    elif isinstance(part, ToolResult):
        if part.is_error:
            found.add("tool_result.is_error")
        media = [each for each in part.parts if isinstance(each, Media)]
        if media:
            found.add("media_in_tool_result")
            for each in media:
                _of_part(each, found)
    elif isinstance(part, Opaque):
        found.add(f"opaque:{part.wire}")


# --- what a provider can do --------------------------------------------------------------------------------

WRITTEN: Final = "2026-11-21"
"""When the tables about vendors and models were last looked at."""

_NO_SEED_OR_PENALTIES: Mapping[Feature, Support] = {
    "seed": "changed",
    "frequency_penalty": "changed",
    "presence_penalty": "changed",
}

_TEXT_AND_IMAGES: Mapping[Feature, Support] = {
    **dict.fromkeys(("audio", "audio_url", "video", "video_url", "document", "document_url", "file_id"), "none"),
    **dict.fromkeys(("media_in_tool_result", "parallel_tool_calls", "n", "opaque"), "none"),
    **dict.fromkeys(("tool.strict", "tool_result.is_error", "user"), "changed"),
}
_NO_CHOICES_OR_LOGPROBS: Mapping[Feature, Support] = {"n": "none", "logprobs": "none", "top_logprobs": "none"}

WIRES: Final[Mapping[str, Mapping[Feature, Support]]] = {
    "openai_chat": {
        **dict.fromkeys(("audio_url", "video", "video_url", "document_url"), "none"),
        **dict.fromkeys(("media_in_tool_result", "tool_result.is_error", "top_k", "opaque"), "changed"),
    },
    "openai_responses": {
        **_NO_SEED_OR_PENALTIES,
        **dict.fromkeys(("audio_url", "video", "video_url", "n", "stop"), "none"),
        **dict.fromkeys(("tool_result.is_error", "top_k", "opaque"), "changed"),
    },
    "anthropic_messages": {
        **_NO_SEED_OR_PENALTIES,
        **_NO_CHOICES_OR_LOGPROBS,
        **dict.fromkeys(("audio", "audio_url", "video", "video_url"), "none"),
        **dict.fromkeys(("json_object", "opaque"), "changed"),
    },
    "gemini": {
        **dict.fromkeys(("parallel_tool_calls", "opaque"), "none"),
        **dict.fromkeys(("tool.strict", "media_in_tool_result", "reasoning", "user"), "changed"),
    },
    "bedrock_converse": {
        **_NO_SEED_OR_PENALTIES,
        **_NO_CHOICES_OR_LOGPROBS,
        **dict.fromkeys(
            ("parallel_tool_calls", "image_url", "audio_url", "video_url", "document_url", "file_id"), "none"
        ),
        **dict.fromkeys(("json_object", "user", "opaque"), "changed"),
    },
    "cohere_v2": {
        **_TEXT_AND_IMAGES,
        **dict.fromkeys(("tool_choice.name", "reasoning"), "changed"),
        "top_logprobs": "none",
    },
    "ollama": {
        **_TEXT_AND_IMAGES,
        **dict.fromkeys(("tool_choice.required", "tool_choice.name", "image_url"), "none"),
    },
}
"""Wire -> what it cannot say as it was meant; everything else is ``full``."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about models whose name ``pattern`` is found in, on ``vendors`` (empty: wherever they run)."""

    pattern: str
    support: Mapping[Feature, Support]
    why: str
    vendors: tuple[str, ...] = ()


_NO_SAMPLING: Mapping[Feature, Support] = {"temperature": "left_out", "top_p": "left_out", "top_k": "left_out"}

VENDORS: Final[Mapping[str, Mapping[Feature, Support]]] = {
    "groq": {"n": "none", "logprobs": "none", "top_logprobs": "none"},
    "deepseek": {"json_schema": "none", "image": "none"},
    "perplexity": {"tools": "none"},
    "mistral": {"document_url": "full", "file_id": "none"},
    "openrouter": {"video": "full", "video_url": "full"},
    "vllm": {"audio_url": "full", "video": "full", "video_url": "full"},
}
"""Vendor -> what it refuses although its wire has a word for it, or takes although others on its wire do not."""

MODELS: Final[tuple[Row, ...]] = (
    Row(
        r"claude-(?:opus|sonnet|haiku)-(?:4-[6-9]|4-1\d|[5-9])(?!\d)",
        {"prefill": "none"},
        "Claude since 4.6 answers a conversation that ends in the assistant's words with a 400",
    ),
    Row(
        r"claude-(?:opus|sonnet|haiku)-(?:4-[7-9]|4-1\d|[5-9])(?!\d)",
        _NO_SAMPLING,
        "Claude since 4.7 rejects sampling parameters",
    ),
    Row(
        r"gemini-3\.6-flash|gemini-3\.5-flash-lite",
        {"prefill": "none"},
        "Gemini 3.6 Flash and 3.5 Flash-Lite answer a conversation that ends in the model's words with a 400",
    ),
    Row(
        r"(?:^|/)(?:o[134](?:-mini|-pro)?|gpt-5(?:-mini|-nano)?)(?:$|-20\d\d)",
        {**_NO_SAMPLING, "frequency_penalty": "left_out", "presence_penalty": "left_out", "logprobs": "none"},
        "OpenAI's reasoning models take the default sampling only",
        ("openai", "azure_openai"),
    ),
)
"""Rows about models; all that fit apply, the last one first."""

LEFT_OUT_IF_REFUSED: Final = frozenset(
    {"seed", "user", "reasoning", "tool.strict", *_NO_SAMPLING, *_NO_SEED_OR_PENALTIES}
)
"""What a provider that refuses it is asked without: the answer is of the same kind.  Whoever refuses anything else is
not asked."""


class Capabilities:
    """What one provider can do: the tables, then what the user declared, then what it said itself."""

    __slots__ = ("_declared", "_key", "_table", "wire")

    def __init__(self, wire: str, vendor: str, model: str, place: str, declared: Mapping[Feature, object]) -> None:
        self.wire: str = wire
        self._declared: dict[Feature, Support] = {
            name: _checked_support(name, value) for name, value in declared.items()
        }
        self._key = (place, model)
        table: dict[Feature, Support] = {**WIRES.get(wire, {}), **VENDORS.get(vendor, {})}
        for row in MODELS:
            if (not row.vendors or vendor in row.vendors) and re.search(row.pattern, model):
                table.update(row.support)
        table.update(self._declared)
        self._table: Mapping[Feature, Support] = table

    def support(self, feature: Feature) -> Support:
        """What it makes of a feature."""
        kind, colon, wire = feature.partition(":")
        if colon:
            if wire == self.wire:
                return "full"
            return self._table.get("opaque", "full") if kind == "opaque" else "none"
        told = _LEARNT.get(self._key)
        if told is not None and feature in told and feature not in self._declared:
            return told[feature]
        return self._table.get(feature, "full")

    def lacks(self, needs: Needs) -> str | None:
        """Why a request with these needs must not be sent there; ``None``: it may.

        Raises ``UnsupportedFeature`` where the policy says ``error``.
        """
        lacking: list[Feature] = []
        for feature in needs.features:
            support = self.support(feature)
            if support == "full":
                continue
            action = needs.action(feature)
            if action == "error":
                raise UnsupportedFeature(feature, f"{self._key[1]} on {self.wire}")
            if support == "none":
                if action == "skip" or not droppable(feature):
                    lacking.append(feature)
            elif needs.named(feature) and action == "skip":
                lacking.append(feature)
        return f"cannot do {', '.join(sorted(lacking))}" if lacking else None

    def fit(self, request: ChatRequest, needs: Needs) -> tuple[ChatRequest, tuple[Degradation, ...]]:
        """The request without what this provider is asked without, and what that was."""
        gone = [feature for feature in sorted(needs.features) if self.support(feature) in ("left_out", "none")]
        gone = [feature for feature in gone if droppable(feature)]
        if not gone:
            return request, ()
        why = f"left out: {self._key[1]} does not take it"
        return without(request, gone), tuple(Degradation(feature, why) for feature in gone)

    def told(self, fault: Fault, needs: Needs) -> None:
        """A request with these needs was refused: remember what it was refused for, if that is one of them."""
        feature = refusal(fault)
        if feature and feature in needs.features:
            self.learn(feature)

    def learn(self, feature: Feature) -> None:
        """The provider refused this feature: believe it until the process ends, for this endpoint and model."""
        support: Support = "left_out" if feature in LEFT_OUT_IF_REFUSED else "none"
        _LEARNT.setdefault(self._key, {})[feature] = support


_LEARNT: dict[tuple[str, str], dict[Feature, Support]] = {}
"""Base URL and model -> what it said it cannot do.  Entries are only ever added, each by one assignment."""


def forget() -> None:
    """Forget what providers said about themselves."""
    _LEARNT.clear()


def _checked_support(name: object, value: object) -> Support:
    """``True``, ``False`` or a word of :data:`Support` for a feature.  Raises ``ConfigurationError``."""
    if name not in FEATURES:
        raise ConfigurationError(f"there is no capability {name!r}; there are {', '.join(FEATURES)}")
    if value is True:
        return "full"
    if value is False:
        return "left_out" if name in LEFT_OUT_IF_REFUSED else "none"
    if value in get_args(Support):
        return cast(Support, value)
    raise ConfigurationError(f"capability {name!r} must be True, False or one of {get_args(Support)}, not {value!r}")


# --- what to do about it -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Needs:
    """What one call needs, and what is to be done where a provider lacks it."""

    features: frozenset[Feature] = frozenset()
    policy: OnUnsupported = "skip"

    def action(self, feature: Feature) -> Action:
        """What to do about this feature."""
        policy = self.policy
        return policy if isinstance(policy, str) else policy.get(feature.partition(":")[0], "skip")

    def named(self, feature: Feature) -> bool:
        """Whether the policy speaks of this feature in particular."""
        return not isinstance(self.policy, str) and feature.partition(":")[0] in self.policy


NO_NEEDS: Final = Needs()


def needs(request: ChatRequest, policy: OnUnsupported) -> Needs:
    """What this call needs of a provider."""
    found = features(request)
    return Needs(found, policy) if found else NO_NEEDS


def checked_policy(policy: object) -> OnUnsupported:
    """The policy, if it is one.  Raises ``ConfigurationError``."""
    words = get_args(Action)
    if isinstance(policy, str) and policy in words:
        return cast(Action, policy)
    if isinstance(policy, Mapping):
        for name, action in cast("Mapping[object, object]", policy).items():
            if name not in (*FEATURES, "only", "opaque", "stored"):
                raise ConfigurationError(f"on_unsupported names {name!r}; there are {', '.join(FEATURES)}")
            if action not in words:
                raise ConfigurationError(f"on_unsupported[{name!r}] must be one of {', '.join(words)}, not {action!r}")
        return dict(cast("Mapping[str, Action]", policy))
    raise ConfigurationError(
        f"on_unsupported must be one of {', '.join(words)}, or a mapping of features to them, not {policy!r}"
    )


def _without_field(name: str) -> Callable[[ChatRequest], ChatRequest]:
    empty = () if name == "stop" else None
    return lambda request: replace(request, **{name: empty})  # type: ignore[arg-type]


def _unforced(request: ChatRequest) -> ChatRequest:
    return replace(request, tool_choice=ToolChoice("auto") if request.tools else None)


def _not_strict(request: ChatRequest) -> ChatRequest:
    return replace(request, tools=tuple(replace(tool, strict=None) for tool in request.tools))


def _unbound(request: ChatRequest) -> ChatRequest:
    kept = (
        replace(extra, fields={key: value for key, value in extra.fields.items() if key not in HARD})
        for extra in request.extra
    )
    return replace(request, extra=tuple(kept))


def _unblocked(request: ChatRequest) -> ChatRequest:
    turns = (_without_opaque(message) for message in request.messages)
    return replace(request, messages=tuple(turn for turn in turns if turn.parts))


def _without_opaque(message: Message) -> Message:
    return replace(message, parts=tuple(part for part in message.parts if not isinstance(part, Opaque)))


DROPPABLE: Final[Mapping[Feature, Callable[[ChatRequest], ChatRequest]]] = {
    **{name: _without_field(name) for name in (*_PLAIN, "n", "logprobs", "top_logprobs", "stop", "reasoning")},
    "parallel_tool_calls": _without_field("parallel_tool_calls"),
    "json_object": _without_field("output"),
    "json_schema": _without_field("output"),
    "tool_choice.required": _unforced,
    "tool_choice.name": _unforced,
    "tool.strict": _not_strict,
    "only": _unbound,
    "opaque": _unblocked,
}
"""What can be left out of a request, and how.  Nothing a user said or a tool answered is among it."""


def droppable(feature: Feature) -> bool:
    """Whether a request can be sent without it."""
    return feature.partition(":")[0] in DROPPABLE


def without(request: ChatRequest, gone: Iterable[Feature]) -> ChatRequest:
    """The request without these features.  It is written anew, also where the caller's own body would do."""
    for feature in gone:
        request = DROPPABLE[feature.partition(":")[0]](request)
    return replace(request, source=None)


# --- what a provider says ----------------------------------------------------------------------------------

_PARAMETERS: Mapping[str, Feature] = {
    **{name: name for name in (*_PLAIN, "n", "logprobs", "top_logprobs", "stop", "tools", "parallel_tool_calls")},
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "topp": "top_p",
    "topk": "top_k",
    "tool_choice": "tool_choice.required",
    "reasoning": "reasoning",
    "reasoning_effort": "reasoning",
    "reasoning.effort": "reasoning",
    "thinking": "reasoning",
    "text.format": "json_schema",
    "response_format": "json_schema",
    "output_config.format": "json_schema",
    "json_schema": "json_schema",
}
"""A vendor's name of a parameter -> the feature."""

_NAMED = re.compile(
    r"unsupported (?:parameter|value|argument)s?:? *['`\"\[]*([\w.]+)"
    r"|['`\"]([\w.]+)['`\"]:? (?:is|are) (?:deprecated|not supported|unsupported|not available)[^.]* "
    r"(?:for|by|with|on|in) (?:this|the|your) (?:model|endpoint|deployment)"
    r"|(?:does not|doesn't) support (?:the )?(?:parameter|argument)s?:? *['`\"\[]*([\w.]+)"
    r"|['`\"]?([\w.]+)['`\"]?: extra inputs are not permitted",
    re.IGNORECASE,
)
_TEXTS: tuple[tuple[re.Pattern[str], Feature], ...] = (
    (
        re.compile(
            r"does not support assistant message prefill|ending with a model turn are not supported"
            r"|conversation must end with a user message",
            re.IGNORECASE,
        ),
        "prefill",
    ),
    (
        re.compile(
            r"does(?: not|n't) support (?:tools|tool use|tool calling|function calling)|tool use is not supported",
            re.IGNORECASE,
        ),
        "tools",
    ),
    (
        re.compile(
            r"does(?: not|n't) support (?:image|vision)|image input is not (?:supported|enabled)", re.IGNORECASE
        ),
        "image",
    ),
    (re.compile(r"missing a thought_signature", re.IGNORECASE), ""),
)
"""What vendors say of a model that cannot do something; an empty feature: it is about this conversation alone."""


def refusal(fault: Fault) -> Feature | None:
    """The feature a rejected request was told to be without; empty if it is not one of ours, ``None`` if the rejection
    is about something else."""
    if fault.kind not in (FaultKind.BAD_REQUEST, FaultKind.UNSUPPORTED):
        return None
    for pattern, feature in _TEXTS:
        if pattern.search(fault.message):
            return feature
    found = _NAMED.search(fault.message)
    if found is not None:
        name = next(group for group in found.groups() if group is not None)
        return _PARAMETERS.get(name.lower().rstrip("."), "")
    return "" if (fault.code or "").lower() in ("unsupported_parameter", "unsupported_value") else None


def reclassified(fault: Fault) -> Fault:
    """A rejection that is about what this provider can do is no verdict on the request: others may serve it."""
    if fault.kind is FaultKind.BAD_REQUEST and refusal(fault) is not None:
        return replace(fault, kind=FaultKind.UNSUPPORTED, scope=FaultScope.REQUEST)
    return fault
