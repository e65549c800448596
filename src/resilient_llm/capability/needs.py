"""What a request needs of a provider beyond text."""

from __future__ import annotations

from operator import attrgetter
from typing import Final, TypeAlias

from resilient_llm.model import ChatRequest, Extra, Media, Opaque, Text, ToolChoice, ToolResult
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.notes import binds
from resilient_llm.wire.settings import uses

Need: TypeAlias = str
"""One of :data:`FEATURES`, or ``only:WIRE``, ``opaque:WIRE`` and ``stored:WIRE``: fields, blocks and files no other
wire has a word for or access to."""

_SETTINGS: Final = (
    *(Feature.N, Feature.LOGPROBS, Feature.TOP_LOGPROBS, Feature.MAX_TOKENS, Feature.STOP, Feature.SEED, Feature.USER),
    *(Feature.TEMPERATURE, Feature.TOP_P, Feature.TOP_K, Feature.FREQUENCY_PENALTY, Feature.PRESENCE_PENALTY),
    Feature.PARALLEL_TOOL_CALLS,
)

FEATURES: Final = (
    *(Feature.TOOLS, Feature.TOOL_STRICT, Feature.TOOL_CHOICE_REQUIRED, Feature.TOOL_CHOICE_NAME),
    *(Feature.TOOL_CHOICE_ALLOWED, Feature.TOOL_CHOICE_NONE),
    *(Feature.IMAGE, Feature.IMAGE_URL, Feature.AUDIO, Feature.AUDIO_URL, Feature.VIDEO, Feature.VIDEO_URL),
    *(Feature.DOCUMENT, Feature.DOCUMENT_URL, Feature.FILE_ID, Feature.MEDIA_IN_TOOL_RESULT),
    *(Feature.TOOL_RESULT_IS_ERROR, Feature.JSON_OBJECT, Feature.JSON_SCHEMA, Feature.REASONING, Feature.PREFILL),
    *_SETTINGS,
)
"""What planning knows of; a provider's ``capabilities=`` and ``on_unsupported=`` may name them."""


_READ = (
    *("tools", "tool_choice", "parallel_tool_calls", "output", "reasoning", "n", "logprobs", "top_logprobs"),
    *("max_tokens", "stop", "seed", "user", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty"),
    "extra",
)
_settings = attrgetter(*_READ)
_NONE = _settings(ChatRequest(()))
_NOTHING: frozenset[Need] = frozenset()


def features(request: ChatRequest) -> frozenset[Need]:
    """What this request needs of a provider beyond text; empty for plain conversations."""
    messages = request.messages
    found: set[Need] | None = None
    for message in messages:
        for part in message.parts:
            if type(part) is not Text:
                found = set() if found is None else found
                _of_part(part, found)
    if messages and messages[-1].role == "assistant" and not _may_prefill(request):
        found = set() if found is None else found
        found.add(Feature.PREFILL)
    if _settings(request) != _NONE:
        found = set() if found is None else found
        _of_settings(request, found)
    return frozenset(found) if found else _NOTHING


def _may_prefill(request: ChatRequest) -> bool:
    """Whether the vendor allowed this one request to begin its answer: Anthropic's after a refusal, also where the
    model does not take a beginning otherwise."""
    return any("fallback_credit_token" in extra.fields for extra in request.extra)


def _of_settings(request: ChatRequest, found: set[Need]) -> None:
    found.update(name for name in _SETTINGS if uses(request, name))
    if request.top_logprobs:
        found.add(Feature.LOGPROBS)
    if request.tools:
        found.add(Feature.TOOLS)
        if any(tool.strict for tool in request.tools):
            found.add(Feature.TOOL_STRICT)
    if request.tool_choice is not None:
        found.update(_of_choice(request.tool_choice))
    if request.output is not None and request.output.kind != "text":
        found.add(Feature(request.output.kind))
    if request.reasoning is not None:
        found.add(Feature.REASONING)
    found.update(f"only:{extra.wire}" for extra in request.extra if _binding(extra))


def _of_choice(choice: ToolChoice) -> list[Need]:
    if choice.mode == "none":
        return [Feature.TOOL_CHOICE_NONE]
    if choice.mode == "auto":
        return [Feature.TOOL_CHOICE_ALLOWED] if choice.names else []
    if len(choice.names) > 1:
        return [Feature.TOOL_CHOICE_REQUIRED, Feature.TOOL_CHOICE_ALLOWED]
    return [Feature.TOOL_CHOICE_NAME if choice.names else Feature.TOOL_CHOICE_REQUIRED]


def _binding(extra: Extra) -> bool:
    """Whether these fields of a wire change the answer, so that no other wire will do."""
    return any(value != ["text"] and binds(key, value) for key, value in extra.fields.items())


_STORES = (("gs://", "gemini"), ("https://generativelanguage.googleapis.com/", "gemini"), ("s3://", "bedrock_converse"))
"""Where files lie that only one vendor can read."""


def _place(place: str, otherwise: Need) -> Need:
    return next((f"stored:{wire}" for start, wire in _STORES if place.startswith(start)), otherwise)


def _of_part(part: object, found: set[Need]) -> None:
    if isinstance(part, Media):
        found.add(part.kind)
        if part.file_id is not None:
            found.add(_place(part.file_id, Feature.FILE_ID))
        elif part.url is not None:
            found.add(_place(part.url, f"{part.kind}_url"))
    elif isinstance(part, ToolResult):
        if part.is_error:
            found.add(Feature.TOOL_RESULT_IS_ERROR)
        media = [each for each in part.parts if isinstance(each, Media)]
        if media:
            found.add(Feature.MEDIA_IN_TOOL_RESULT)
            for each in media:
                _of_part(each, found)
    elif isinstance(part, Opaque):
        found.add(f"opaque:{part.wire}")
