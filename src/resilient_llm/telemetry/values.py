"""Plain translations: an error to its ``error.type``, a request, an answer and its tokens to attributes."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from resilient_llm.errors import (
    AttemptRecord,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    FaultKind,
    InvalidAnswer,
    InvalidRequest,
    NoProviderAvailable,
    ProviderError,
    StreamInterrupted,
    UnsupportedFeature,
)
from resilient_llm.model import ChatRequest, ChatResponse, EmbedResponse, Usage
from resilient_llm.telemetry import content, names
from resilient_llm.telemetry.metrics import Labels
from resilient_llm.telemetry.scope import Face, Scope, SpanValues
from resilient_llm.wire.faults.scrub import scrub


def call_error(error: BaseException) -> str:
    """``error.type`` of a failed call: from the closed list, never from a message."""
    if isinstance(error, NoProviderAvailable):
        found = {names.REFUSAL_TYPES.get(reason, "unsupported") for reason in error.reasons.values()}
        return found.pop() if len(found) == 1 else "no_provider_available"
    if isinstance(error, CallFailed):
        for kind, word in _CALL_ERRORS:
            if isinstance(error, kind):
                return word
        return names.ERROR_TYPES[error.fault.kind] if error.fault is not None else "all_providers_failed"
    if isinstance(error, ProviderError):
        return names.ERROR_TYPES.get(error.kind, names.OTHER)
    return next((word for kind, word in _OTHER_ERRORS if isinstance(error, kind)), names.OTHER)


_CALL_ERRORS: Final[tuple[tuple[type[CallFailed], str], ...]] = (
    (StreamInterrupted, "stream_interrupted"),
    (DeadlineExceeded, "deadline_exceeded"),
)
_OTHER_ERRORS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (InvalidRequest, "invalid_request"),
    (UnsupportedFeature, "unsupported"),
    (InvalidAnswer, "invalid_response"),
    (ConfigurationError, "client_error"),
    (ClientClosed, "client_error"),
    (TimeoutError, names.ERROR_TYPES[FaultKind.TIMEOUT]),
)


def count_waste(scope: Scope, face: Face, usage: Usage) -> None:
    """Tokens that were paid for and reached nobody as an answer."""
    base: Labels = {**face.base, names.REQUEST_MODEL: face.model}
    for kind, count in (("input", usage.input_tokens), ("output", usage.output_tokens)):
        if count:
            scope.instruments.wasted_tokens.add(count, {**base, names.TOKEN_TYPE: kind})


def attempt_error(record: AttemptRecord) -> str | None:
    return None if record.fault is None else names.ERROR_TYPES.get(record.fault.kind, names.OTHER)


def counts(usage: Usage) -> tuple[int, int, int, int, int]:
    return (
        usage.input_tokens,
        usage.output_tokens,
        usage.cache_read_tokens,
        usage.cache_write_tokens,
        usage.reasoning_tokens,
    )


def add_usage(values: SpanValues, usage: Usage, semconv: names.Semconv) -> None:
    values[names.INPUT_TOKENS] = usage.input_tokens
    values[names.OUTPUT_TOKENS] = usage.output_tokens
    if usage.cache_read_tokens:
        values[names.CACHE_READ_TOKENS] = usage.cache_read_tokens
    if usage.cache_write_tokens:
        if semconv != "0.1.0":
            values[names.CACHE_CREATION_TOKENS] = usage.cache_write_tokens
        if semconv != "1.41":
            values[names.CACHE_WRITE_TOKENS] = usage.cache_write_tokens
    if usage.reasoning_tokens:
        values[names.REASONING_TOKENS] = usage.reasoning_tokens


def add_response(values: SpanValues, response: ChatResponse | EmbedResponse, scope: Scope, *, complete: bool) -> None:
    if response.model:
        values[names.RESPONSE_MODEL] = _shown(response.model)
    if isinstance(response, ChatResponse):
        if response.id:
            values[names.RESPONSE_ID] = response.id if _ID.fullmatch(response.id) else scrub(response.id, _LONGEST)
        if response.model_mismatch:
            values[names.MODEL_MISMATCH] = True
        if scope.capture:
            values[names.OUTPUT_MESSAGES] = content.output_messages(response)
        if complete:
            values[names.FINISH_REASONS] = (
                _shown(response.raw_finish_reason or response.finish_reason),
                *(
                    _shown(choice.raw_finish_reason or choice.finish_reason)
                    for choice in response.alternatives[:_CHOICES]
                ),
            )


_LONGEST: Final = 128
_CHOICES: Final = 16
_ID: Final = re.compile(r"(?:resp|chatcmpl|cmpl|msg|gen|embd)[-_][A-Za-z0-9]{1,80}")
"""Ids of the usual makes: long and random, yet no keys."""


@lru_cache(maxsize=256)
def _shown(text: str) -> str:
    """A word a provider sent, as it may be shown: it may echo a key."""
    return scrub(text, _LONGEST)


_REQUEST_VALUES: Final = (
    ("max_tokens", names.MAX_TOKENS, int),
    ("temperature", names.TEMPERATURE, float),
    ("top_p", names.TOP_P, float),
    ("frequency_penalty", names.FREQUENCY_PENALTY, float),
    ("presence_penalty", names.PRESENCE_PENALTY, float),
    ("seed", names.SEED, int),
)


def add_request(values: SpanValues, request: ChatRequest, scope: Scope) -> None:
    for field, name, convert in _REQUEST_VALUES:
        value: float | None = getattr(request, field)
        if value is not None:
            values[name] = convert(value)
    if request.top_k is not None:
        values[names.TOP_K] = float(request.top_k) if scope.semconv == "1.41" else request.top_k
    if request.n is not None and request.n != 1:
        values[names.CHOICE_COUNT] = request.n
    if request.output is not None:
        values[names.OUTPUT_TYPE] = "text" if request.output.kind == "text" else "json"
    if scope.semconv != "1.41" and request.reasoning is not None and request.reasoning.effort is not None:
        values[names.REASONING_LEVEL] = request.reasoning.effort
    if scope.capture:
        if request.stop:
            values[names.STOP_SEQUENCES] = request.stop
        values[names.INPUT_MESSAGES] = content.input_messages(request)
