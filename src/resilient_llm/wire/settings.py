"""Where each wire keeps the settings of a request: one table a wire, for both directions and for planning.

An entry is the path of a field (``a.b``; of several, divided by ``|``, the first is written and all are read), or what
it means that the wire has no field for the setting: ``HARD``, without it the answer would be another one, so that a
provider of the wire is skipped; or ``SOFT``, it is left out, and that is recorded.  What a wire writes by rules of its
own is not in its table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from operator import attrgetter
from typing import Final, TypedDict, Unpack, cast

from resilient_llm.model import ChatRequest, Extra
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes

HARD: Final = "HARD"
SOFT: Final = "SOFT"

Table = Mapping[str, str]
"""Setting -> path, ``HARD`` or ``SOFT``."""


class Settings(TypedDict, total=False):
    """The settings that tables speak of, as fields of a request, and what else every request has."""

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    top_k: int | None
    frequency_penalty: float | None
    presence_penalty: float | None
    seed: int | None
    stop: tuple[str, ...]
    n: int | None
    logprobs: bool | None
    top_logprobs: int | None
    parallel_tool_calls: bool | None
    user: str | None
    model: str
    stream: bool
    extra: tuple[Extra, ...]
    source: Extra


_READERS: Mapping[str, Callable[[f.Fields, str], object]] = {
    **dict.fromkeys(("max_tokens", "top_k", "seed", "n", "top_logprobs"), f.take_int),
    **dict.fromkeys(("temperature", "top_p", "frequency_penalty", "presence_penalty"), f.take_float),
    **dict.fromkeys(("logprobs", "parallel_tool_calls"), f.take_bool),
    "stop": f.take_texts,
    "user": f.take_text,
}
"""The type of each setting."""

_SAMPLING = {name: name for name in ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed", "top_k")}

TABLES: Final[Mapping[str, Table]] = {
    "openai_chat": {
        **_SAMPLING,
        **{name: name for name in ("stop", "n", "logprobs", "top_logprobs", "parallel_tool_calls", "user")},
        "max_tokens": "max_completion_tokens|max_tokens",
        "seed": "seed|random_seed",
    },
    "openai_responses": {
        **{name: name for name in ("temperature", "top_p", "top_logprobs", "parallel_tool_calls", "user")},
        **dict.fromkeys(("seed", "top_k", "frequency_penalty", "presence_penalty"), SOFT),
        "max_tokens": "max_output_tokens",
        "stop": HARD,
        "n": HARD,
    },
    "anthropic_messages": {
        **{name: name for name in ("max_tokens", "temperature", "top_p", "top_k")},
        **dict.fromkeys(("seed", "frequency_penalty", "presence_penalty"), SOFT),
        **dict.fromkeys(("n", "logprobs", "top_logprobs"), HARD),
        "stop": "stop_sequences",
        "user": "metadata.user_id",
    },
    "gemini": {
        "max_tokens": "generationConfig.maxOutputTokens",
        "temperature": "generationConfig.temperature",
        "top_p": "generationConfig.topP",
        "top_k": "generationConfig.topK",
        "frequency_penalty": "generationConfig.frequencyPenalty",
        "presence_penalty": "generationConfig.presencePenalty",
        "seed": "generationConfig.seed",
        "stop": "generationConfig.stopSequences",
        "n": "generationConfig.candidateCount",
        "logprobs": "generationConfig.responseLogprobs",
        "top_logprobs": "generationConfig.logprobs",
        "parallel_tool_calls": HARD,
        "user": SOFT,
    },
    "bedrock_converse": {
        "max_tokens": "inferenceConfig.maxTokens",
        "temperature": "inferenceConfig.temperature",
        "top_p": "inferenceConfig.topP",
        "stop": "inferenceConfig.stopSequences",
        **dict.fromkeys(("seed", "frequency_penalty", "presence_penalty", "user"), SOFT),
        **dict.fromkeys(("n", "logprobs", "top_logprobs", "parallel_tool_calls"), HARD),
    },
    "cohere_v2": {
        **_SAMPLING,
        "max_tokens": "max_tokens",
        "top_p": "p",
        "top_k": "k",
        "stop": "stop_sequences",
        "logprobs": "logprobs",
        **dict.fromkeys(("n", "top_logprobs", "parallel_tool_calls"), HARD),
        "user": SOFT,
    },
    "ollama": {
        **{name: f"options.{name}" for name in (*_SAMPLING, "stop")},
        "max_tokens": "options.num_predict",
        "logprobs": "logprobs",
        "top_logprobs": "top_logprobs",
        **dict.fromkeys(("n", "parallel_tool_calls"), HARD),
        "user": SOFT,
    },
}


@cache
def _outermost(wire: str) -> frozenset[str]:
    """The fields of a body in which a wire keeps its settings."""
    places = (place for place in TABLES[wire].values() if place not in (HARD, SOFT))
    return frozenset(path.partition(".")[0] for place in places for path in place.split("|"))


def read_settings(wire: str, fields: f.Fields) -> Settings:
    """Take the settings out of a body; an object that is empty then is taken, too.  Raises ``Malformed``."""
    settings: dict[str, object] = {}
    opened: dict[str, f.Fields] = {}
    for name, place in () if _outermost(wire).isdisjoint(fields) else TABLES[wire].items():
        for path in place.split("|") if place not in (HARD, SOFT) else ():
            outer, dot, key = path.rpartition(".")
            if (outer or key) not in fields and outer not in opened:  # as nearly all
                continue
            if dot and outer not in opened:
                opened[outer] = f.take_object(fields, outer) or {}
            value = _READERS[name](opened[outer] if dot else fields, key)
            if settings.get(name) in (None, ()):
                settings[name] = value
    if opened:
        f.put(fields, **{outer: inner or None for outer, inner in opened.items()})
    return cast("Settings", settings)


def read_rest(wire: str, fields: f.Fields, whole: f.Fields, **own: Unpack[Settings]) -> Settings:
    """What is left in a body: settings, but for the wire's ``own``, model, stream, and what only the wire knows.
    Raises ``Malformed``."""
    rest = read_settings(wire, fields)
    rest["model"], rest["stream"] = f.take_text(fields, "model") or "", f.take_bool(fields, "stream") or False
    rest["extra"], rest["source"] = f.request_extras(wire, fields), Extra(wire, whole)
    return cast("Settings", {**rest, **own})


_given = attrgetter(*_READERS)
_NONE_GIVEN = _given(ChatRequest(()))


def write_settings(table: Table, request: ChatRequest, body: f.Fields, notes: Notes, *written: str) -> None:
    """Put the settings into a body, but for those ``written`` already; note what is left out.  Raises
    ``UnsupportedFeature`` for what must not be left out."""
    if _given(request) == _NONE_GIVEN:  # most have none
        return
    for name, place in table.items():
        value = getattr(request, name)
        if value is None or value == () or name in written:
            continue
        if place in (HARD, SOFT):
            if uses(request, name):
                notes.lose(name, hard=place == HARD)
            continue
        outer, dot, key = place.partition("|")[0].rpartition(".")
        target = cast("f.Fields", body.setdefault(outer, {})) if dot else body
        target[key] = list(cast("tuple[object, ...]", value)) if isinstance(value, tuple) else value


def uses(request: ChatRequest, name: str) -> bool:
    """Whether a request depends on a setting: some have a value that asks for nothing."""
    value = getattr(request, name)
    if name == "n":
        return (request.n or 1) > 1
    if name == "parallel_tool_calls":
        return value is False and bool(request.tools)
    return bool(value) if name in ("logprobs", "top_logprobs", "stop") else value is not None
