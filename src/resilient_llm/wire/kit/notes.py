"""What encoding a request had to give up: fields of other wires, and settings a wire has no word for.

Each of these is left out and said (a :class:`~resilient_llm.model.Degradation`), or refused where the answer depends
on it (:class:`~resilient_llm.errors.UnsupportedFeature`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from resilient_llm import model as m
from resilient_llm.errors import UnsupportedFeature
from resilient_llm.wire.kit.fields import Fields


class Notes:
    """What encoding a request for ``target`` had to give up, each thing said once."""

    __slots__ = ("_lost", "_target")

    def __init__(self, target: str) -> None:
        self._target = target
        self._lost: dict[m.Degradation, None] = {}

    def add(self, feature: str, action: str) -> None:
        """Something was left out or changed."""
        self._lost[m.Degradation(feature, action)] = None

    def unsupported(self, feature: str) -> UnsupportedFeature:
        """What to raise for something that must not be left out."""
        return UnsupportedFeature(feature, self._target)

    def all(self) -> tuple[m.Degradation, ...]:
        """Everything said so far, in the order it was said."""
        return tuple(self._lost)


# --- fields of other wires ---------------------------------------------------------------------------------

HARD: Mapping[str, str] = {
    "audio": "audio",
    "background": "background",
    "cachedContent": "cached_content",
    "container": "container",
    "conversation": "conversation",
    "documents": "documents",
    "functions": "functions",
    "logit_bias": "logit_bias",
    "mcp_servers": "builtin_tools",
    "modalities": "modalities",
    "prediction": "prediction",
    "previous_response_id": "previous_response_id",
    "store": "store",
    "tools": "builtin_tools",
    "web_search_options": "builtin_tools",
}
"""Fields of other wires without which the answer would be another one -> the feature they stand for.  A provider that
cannot express them is skipped."""

_HARMLESS: Mapping[str, object] = {"modalities": ["text"], "stream_options": {"include_usage": False}}
"""Values that say nothing another wire would have to be told."""


def fields_for(wire: str, extra: m.Extra | None, notes: Notes) -> Fields:
    """A copy of the fields of an extra that belongs to ``wire``; those of another wire are left out and noted.

    Raises :class:`~resilient_llm.errors.UnsupportedFeature` for a field that must not be left out.
    """
    if extra is None:
        return {}
    if extra.wire == wire:
        return dict(extra.fields)
    for key, value in extra.fields.items():
        if value is not None and value == _HARMLESS.get(key):
            continue
        if key in HARD and value:
            raise UnsupportedFeature(HARD[key], wire)
        notes.add(f"{extra.wire}.{key}", "left out")
    return {}


def extras_for(wire: str, extras: Iterable[m.Extra | None], notes: Notes) -> Fields:
    """The same for several extras: the fields of all that belong to ``wire``, later ones over earlier ones."""
    mine: Fields = {}
    for extra in extras:
        mine |= fields_for(wire, extra, notes)
    return mine


# --- settings without a word -------------------------------------------------------------------------------


_USES: Mapping[str, Callable[[m.ChatRequest], bool]] = {
    "n": lambda request: (request.n or 1) > 1,
    "parallel_tool_calls": lambda request: request.parallel_tool_calls is False and bool(request.tools),
    "top_logprobs": lambda request: bool(request.top_logprobs),
    "tool_choice": lambda request: request.tool_choice is not None and request.tool_choice.mode == "required",
}


def reject(request: m.ChatRequest, wire: str, *features: str) -> None:
    """Raises :class:`~resilient_llm.errors.UnsupportedFeature` for the first of ``features`` the request uses."""
    for feature in features:
        if _USES[feature](request):
            raise UnsupportedFeature(feature, wire)


def notes_on(request: m.ChatRequest, wire: str, *cannot: str) -> Notes:
    """Notes on a request for Gemini, Cohere or Ollama, with what these alike have no word for and can do without.

    Raises ``UnsupportedFeature`` for the first of the features that ``wire`` ``cannot`` do which the request uses, and
    for fields of other wires that must not be left out.
    """
    reject(request, wire, *cannot)
    notes = Notes(wire)
    if request.user is not None:
        notes.add("user", "left out")
    if any(message.name for message in request.messages):
        notes.add("message.name", "left out")
    if any(message.role == "developer" for message in request.messages):
        notes.add("developer", "sent as system")
    extras_for(wire, request.extra, notes)
    return notes
