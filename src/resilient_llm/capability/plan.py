"""What happens where a provider cannot do what a request needs: it is skipped, or asked without, or an error raised."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias, cast, get_args

from resilient_llm.capability.needs import FEATURES, Need, features
from resilient_llm.capability.refusals import refusal
from resilient_llm.capability.seals import sealed_start
from resilient_llm.capability.tables import LEFT_OUT_IF_REFUSED, MODELS, VENDORS, WIRES, Support
from resilient_llm.errors import ConfigurationError, Fault, UnsupportedFeature
from resilient_llm.model import ChatRequest, Degradation, Message, Opaque, ToolChoice
from resilient_llm.wire.kit.notes import BINDING

Action: TypeAlias = Literal["skip", "degrade", "error"]
"""What to do with a provider that lacks a feature.  ``skip``: ask another one; ``degrade``: leave the feature out and
say so; ``error``: raise ``UnsupportedFeature`` before anything is sent."""

OnUnsupported: TypeAlias = Action | Mapping[str, Action]
"""One action, or one per feature, the others being skipped.  By itself ``"skip"`` concerns only what a provider cannot
do without giving another answer; for a feature named in a mapping it concerns any change.  ``"degrade"`` applies where
a feature can be left out (see :data:`DROPPABLE`).  ``"error"`` allows no change at all."""


class Capabilities:
    """What one provider can do: the tables, then what the user declared, then what it said itself."""

    __slots__ = ("_declared", "_key", "_table", "wire")

    def __init__(self, wire: str, vendor: str, model: str, place: str, declared: Mapping[Need, object]) -> None:
        self.wire: str = wire
        self._declared: dict[Need, Support] = {name: _checked_support(name, value) for name, value in declared.items()}
        self._key = (place, model)
        table: dict[Need, Support] = {**WIRES.get(wire, {}), **VENDORS.get(vendor, {})}
        for row in MODELS:
            if (not row.vendors or vendor in row.vendors) and re.search(row.pattern, model):
                table.update(row.support)
        table.update(self._declared)
        self._table: Mapping[Need, Support] = table

    def support(self, feature: Need) -> Support:
        """What it makes of a feature."""
        kind, colon, wire = feature.partition(":")
        if colon:
            if wire == self.wire:
                return "full"
            return self._table.get("opaque", "full") if kind == "opaque" else "none"
        learnt = _LEARNT.get(self._key)
        if learnt is not None and feature in learnt and feature not in self._declared:
            return learnt[feature]
        return self._table.get(feature, "full")

    def declares(self, feature: Need) -> bool:
        """Whether the user said something about a feature."""
        return feature in self._declared

    def lacks(self, needs: Needs) -> str | None:
        """Why a request with these needs must not be sent there; ``None``: it may.

        Raises ``UnsupportedFeature`` where the policy says ``error``.
        """
        lacking: list[Need] = []
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
        return leave_out(request, gone), tuple(Degradation(feature, why) for feature in gone)

    def remember_refusal(self, fault: Fault, needs: Needs) -> None:
        """A request with these needs was refused: remember what it was refused for, if that is one of them."""
        feature = refusal(fault)
        if feature and feature in needs.features:
            self.learn(feature)

    def remember_seals(self, request: ChatRequest) -> None:
        """The sealed reasoning in this conversation was refused."""
        start = sealed_start(request)
        if start is not None:
            refused = _SEALED.setdefault(self._key, set())
            if len(refused) >= _MOST_SEALED:
                refused.clear()
            refused.add(start)

    def refused_seals(self, request: ChatRequest) -> bool:
        """Whether sealed reasoning in this conversation was refused before."""
        refused = _SEALED.get(self._key)
        return refused is not None and sealed_start(request) in refused

    def learn(self, feature: Need) -> None:
        """The provider refused this feature: believe it until the process ends, for this endpoint and model."""
        support: Support = "left_out" if feature in LEFT_OUT_IF_REFUSED else "none"
        _LEARNT.setdefault(self._key, {})[feature] = support


_LEARNT: dict[tuple[str, str], dict[Need, Support]] = {}
"""Base URL and model -> what it said it cannot do.  Entries are only ever added, each by one assignment."""

_SEALED: dict[tuple[str, str], set[str]] = {}
"""Base URL and model -> digests of the conversations whose sealed reasoning was refused there."""

_MOST_SEALED: Final = 1000  # conversations remembered at one provider, after which it begins anew


def forget() -> None:
    """Forget what providers said about themselves."""
    _LEARNT.clear()
    _SEALED.clear()


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

    features: frozenset[Need] = frozenset()
    policy: OnUnsupported = "skip"

    def action(self, feature: Need) -> Action:
        """What to do about this feature."""
        policy = self.policy
        return policy if isinstance(policy, str) else policy.get(feature.partition(":")[0], "skip")

    def named(self, feature: Need) -> bool:
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


def _without_binding_fields(request: ChatRequest) -> ChatRequest:
    kept = (
        replace(extra, fields={key: value for key, value in extra.fields.items() if key not in BINDING})
        for extra in request.extra
    )
    return replace(request, extra=tuple(kept))


def _without_opaque_parts(request: ChatRequest) -> ChatRequest:
    turns = (_without_opaque(message) for message in request.messages)
    return replace(request, messages=tuple(turn for turn in turns if turn.parts))


def _without_opaque(message: Message) -> Message:
    return replace(message, parts=tuple(part for part in message.parts if not isinstance(part, Opaque)))


_PLAIN = ("max_tokens", "seed", "user", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")

DROPPABLE: Final[Mapping[Need, Callable[[ChatRequest], ChatRequest]]] = {
    **{name: _without_field(name) for name in (*_PLAIN, "n", "logprobs", "top_logprobs", "stop", "reasoning")},
    "parallel_tool_calls": _without_field("parallel_tool_calls"),
    "json_object": _without_field("output"),
    "json_schema": _without_field("output"),
    "tool_choice.required": _unforced,
    **dict.fromkeys(("tool_choice.name", "tool_choice.allowed", "tool_choice.none"), _unforced),
    "tool.strict": _not_strict,
    "only": _without_binding_fields,
    "opaque": _without_opaque_parts,
}
"""What can be left out of a request, and how.  Nothing a user said or a tool answered is among it."""


def droppable(feature: Need) -> bool:
    """Whether a request can be sent without it."""
    return feature.partition(":")[0] in DROPPABLE


def leave_out(request: ChatRequest, gone: Iterable[Need]) -> ChatRequest:
    """The request without these features.  It is written anew, also where the caller's own body would do."""
    for feature in gone:
        request = DROPPABLE[feature.partition(":")[0]](request)
    return replace(request, source=None)
