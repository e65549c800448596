"""What encoding a request had to give up: fields of other wires, and settings a wire has no word for.

Each of these is left out and said (a :class:`~resilient_llm.model.Degradation`), or refused where the answer depends
on it (:class:`~resilient_llm.errors.UnsupportedFeature`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from resilient_llm import model as m
from resilient_llm.errors import UnsupportedFeature
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.fields import Fields


class Notes:
    """What encoding a request for ``target`` had to give up, each thing said once."""

    def __init__(self, target: str) -> None:
        self._target = target
        self.own: Fields = {}
        """The fields of the request that only the target knows."""
        self._lost: dict[m.Degradation, None] = {}

    def add(self, feature: str, action: str) -> None:
        """Something was left out or changed: a :class:`~resilient_llm.wire.features.Feature`, or ``WIRE.field``."""
        self._lost[m.Degradation(str(feature), action)] = None

    def unsupported(self, feature: str, what: str = "") -> UnsupportedFeature:
        """What to raise for something that must not be left out; ``what`` says more."""
        return UnsupportedFeature(str(Feature(feature)), f"{self._target} ({what})" if what else self._target)

    def lose(self, feature: str, *, hard: bool) -> None:
        """The wire has no place for a setting: it is left out, or ``hard``, raises ``UnsupportedFeature``."""
        if hard:
            raise self.unsupported(feature)
        self.add(feature, "left out")

    def all(self) -> tuple[m.Degradation, ...]:
        """Everything said so far, in the order it was said."""
        return tuple(self._lost)


BINDING: Mapping[str, Feature] = {
    "audio": Feature.AUDIO_OUTPUT,
    "cachedContent": Feature.CACHED_CONTENT,
    "continuationToken": Feature.CONTINUATION_TOKEN,
    "prompt": Feature.STORED_PROMPT,
    **dict.fromkeys(("mcp_servers", "tools", "web_search_options"), Feature.BUILTIN_TOOLS),
    **{name: Feature(name) for name in ("background", "container", "conversation", "documents", "functions")},
    **{name: Feature(name) for name in ("logit_bias", "modalities", "prediction", "previous_response_id", "store")},
}
"""Fields of other wires without which the answer would be another one -> the feature they stand for.  A provider that
cannot express them is skipped."""

_HARMLESS: Mapping[str, object] = {"modalities": ["text"], "stream_options": {"include_usage": False}}
"""Values that say nothing another wire would have to be told."""


def binds(key: str, value: object) -> bool:
    """Whether an answer to a request without this field would be another one.  An empty ``web_search_options`` asks
    for everything; any other empty value for nothing."""
    return key in BINDING and (bool(value) or (key == "web_search_options" and value is not None))


def fields_for(wire: str, extra: m.Extra | None, notes: Notes) -> Fields:
    """A copy of the fields of an extra that belongs to ``wire``; those of another wire are left out and noted.  Raises
    ``UnsupportedFeature`` for a field that must not be left out."""
    if extra is None:
        return {}
    if extra.wire == wire:
        return dict(extra.fields)
    for key, value in extra.fields.items():
        if value is not None and value == _HARMLESS.get(key):
            continue
        if binds(key, value):
            raise UnsupportedFeature(BINDING[key], wire)
        notes.add(f"{extra.wire}.{key}", "left out")
    return {}


def extras_for(wire: str, extras: Iterable[m.Extra | None], notes: Notes) -> Fields:
    """The same for several extras: the fields of all that belong to ``wire``, later ones over earlier ones."""
    mine: Fields = {}
    for extra in extras:
        mine |= fields_for(wire, extra, notes)
    return mine


def lose_marks(request: m.ChatRequest, notes: Notes, *, of_messages: bool = True) -> None:
    """Notes marks of tools, and those of messages, that a wire has no place for: its vendors cache by themselves."""
    for tool in request.tools:
        if tool.cache:
            notes.add(Feature.CACHE, "left out")
    for message in request.messages if of_messages else ():
        if message.cache:
            notes.add(Feature.CACHE, "left out")


def notes_on(request: m.ChatRequest, wire: str, *, plain: bool = False) -> Notes:
    """Notes on a request for a wire whose messages have neither names nor a developer's role and, where it is
    ``plain``, that knows no marks for a cache and no descriptions of output.  Raises ``UnsupportedFeature`` for fields
    of other wires that must not be left out."""
    notes = Notes(wire)
    if any(message.name for message in request.messages):
        notes.add(Feature.MESSAGE_NAME, "left out")
    if any(message.role == "developer" for message in request.messages):
        notes.add(Feature.DEVELOPER, "sent as system")
    if plain and request.output is not None and request.output.description:
        notes.add(Feature.OUTPUT_DESCRIPTION, "left out")
    if plain:
        lose_marks(request, notes)
    notes.own = extras_for(wire, request.extra, notes)
    return notes
