"""Every name telemetry emits, as data: span attributes, metrics, the closed list of ``error.type``.

``docs/reference/telemetry.md`` is checked against these tables, so what is not here is not emitted.  ``gen_ai.*``
follows the OpenTelemetry GenAI conventions in one of two dialects: ``1.41`` (the last version within the core
conventions, which released instrumentations and dashboards use) or ``0.1.0`` (the first release of their own
repository).  Everything else is ours, under ``resilient_llm.``, because the conventions have nothing for failover,
breakers, hedges and budgets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal, TypeAlias

from resilient_llm.decide.keys import Refusal
from resilient_llm.errors import FaultKind

SCOPE: Final = "resilient_llm"
SCHEMA_URL: Final = "https://opentelemetry.io/schemas/1.41.0"

Semconv: TypeAlias = Literal["1.41", "0.1.0", "dup"]
"""Which GenAI dialect to speak.  ``dup`` records the metrics of both; spans carry both names of a renamed token
count."""

Operation: TypeAlias = Literal["chat", "embeddings"]

# --- attributes --------------------------------------------------------------------------------------------

OPERATION: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
CONVERSATION_ID: Final = "gen_ai.conversation.id"
OUTPUT_TYPE: Final = "gen_ai.output.type"
CHOICE_COUNT: Final = "gen_ai.request.choice.count"
SEED: Final = "gen_ai.request.seed"
STREAM: Final = "gen_ai.request.stream"
TOP_K: Final = "gen_ai.request.top_k"
TOP_P: Final = "gen_ai.request.top_p"
MAX_TOKENS: Final = "gen_ai.request.max_tokens"
TEMPERATURE: Final = "gen_ai.request.temperature"
FREQUENCY_PENALTY: Final = "gen_ai.request.frequency_penalty"
PRESENCE_PENALTY: Final = "gen_ai.request.presence_penalty"
STOP_SEQUENCES: Final = "gen_ai.request.stop_sequences"
REASONING_LEVEL: Final = "gen_ai.request.reasoning.level"
DIMENSIONS: Final = "gen_ai.embeddings.dimension.count"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_CREATION_TOKENS: Final = "gen_ai.usage.cache_creation.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"
TOKEN_TYPE: Final = "gen_ai.token.type"
TOKEN_MODALITY: Final = "gen_ai.token.modality"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
ERROR_TYPE: Final = "error.type"
HTTP_METHOD: Final = "http.request.method"
HTTP_STATUS: Final = "http.response.status_code"
HTTP_RESEND_COUNT: Final = "http.request.resend_count"

CLIENT_NAME: Final = "resilient_llm.client.name"
ROUTE_NAME: Final = "resilient_llm.route.name"
CALL_ID: Final = "resilient_llm.call.id"
PROVIDER_ID: Final = "resilient_llm.provider.id"
PROVIDER_REQUEST_ID: Final = "resilient_llm.provider.request_id"
ATTEMPT_ID: Final = "resilient_llm.attempt.id"
ATTEMPT_NUMBER: Final = "resilient_llm.attempt.number"
ATTEMPT_TYPE: Final = "resilient_llm.attempt.type"
ATTEMPT_OUTCOME: Final = "resilient_llm.attempt.outcome"
ATTEMPT_MODEL: Final = "resilient_llm.attempt.model"
ATTEMPT_DELAY: Final = "resilient_llm.attempt.delay"
ATTEMPT_RETRY_AFTER: Final = "resilient_llm.attempt.retry_after"
ATTEMPT_SELECTED: Final = "resilient_llm.attempt.selected"
ATTEMPT_COUNT: Final = "resilient_llm.attempt.count"
MODEL_MISMATCH: Final = "resilient_llm.model_mismatch"
RETRY_COUNT: Final = "resilient_llm.retry.count"
FAILOVER_COUNT: Final = "resilient_llm.failover.count"
HEDGE_COUNT: Final = "resilient_llm.hedge.count"
STREAM_OUTCOME: Final = "resilient_llm.stream.outcome"
FAILOVER_REASON: Final = "resilient_llm.failover.reason"
REJECTION_REASON: Final = "resilient_llm.rejection.reason"
BREAKER_STATE: Final = "resilient_llm.circuit_breaker.state"
EJECTION_REASON: Final = "resilient_llm.ejection.reason"
RATE_LIMIT_TYPE: Final = "resilient_llm.rate_limit.type"
BUDGET_TYPE: Final = "resilient_llm.budget.type"

EXCEPTION_TYPE: Final = "exception.type"
PROVIDER_MESSAGE: Final = "resilient_llm.provider.message"
PROVIDER_ACTION: Final = "resilient_llm.provider.action"
BREAKER_PREVIOUS: Final = "resilient_llm.circuit_breaker.previous_state"
BREAKER_REASON: Final = "resilient_llm.circuit_breaker.reason"
BREAKER_OPEN_FOR: Final = "resilient_llm.circuit_breaker.open_for"
RATE_LIMIT_WAIT: Final = "resilient_llm.rate_limit.wait"


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute: its type, where it appears (``call`` and ``attempt`` are spans), and what bounds its values."""

    name: str
    type: str
    where: tuple[str, ...]
    note: str = ""


EXCEPTION_EVENTS: Final[Mapping[tuple[Semconv, Operation], str]] = MappingProxyType(
    {
        ("1.41", "chat"): "gen_ai.client.operation.exception",
        ("1.41", "embeddings"): "gen_ai.client.operation.exception",
        ("0.1.0", "chat"): "gen_ai.client.inference.exception",
        ("0.1.0", "embeddings"): "gen_ai.client.operation.exception",
        ("dup", "chat"): "gen_ai.client.operation.exception",
        ("dup", "embeddings"): "gen_ai.client.operation.exception",
    }
)
"""The event of a failed call.  There is one line for it, so ``dup`` keeps the old name."""

ATTRIBUTES: Final[tuple[Attribute, ...]] = (
    Attribute(OPERATION, "string", ("call", "metrics"), "`chat` or `embeddings`"),
    Attribute(PROVIDER_NAME, "string", ("call", "attempt", "metrics", "log"), "vendor in the conventions' spelling"),
    Attribute(REQUEST_MODEL, "string", ("call", "metrics"), "the answering provider's model; never on attempts"),
    Attribute(SERVER_ADDRESS, "string", ("call", "attempt", "metrics"), "host only"),
    Attribute(SERVER_PORT, "int", ("call", "attempt", "metrics"), "with `server.address`"),
    Attribute(ERROR_TYPE, "string", ("call", "attempt", "metrics", "log"), "closed list below; absent on success"),
    Attribute(STREAM, "boolean", ("call",), "only if streaming"),
    Attribute(CONVERSATION_ID, "string", ("call",), "if the call was given `conversation=`"),
    Attribute(OUTPUT_TYPE, "string", ("call",), "`text` or `json`, if asked for"),
    Attribute(CHOICE_COUNT, "int", ("call",), "if not 1"),
    Attribute(SEED, "int", ("call",)),
    Attribute(TOP_K, "double (0.1.0: int)", ("call",)),
    Attribute(TOP_P, "double", ("call",)),
    Attribute(MAX_TOKENS, "int", ("call",)),
    Attribute(TEMPERATURE, "double", ("call",)),
    Attribute(FREQUENCY_PENALTY, "double", ("call",)),
    Attribute(PRESENCE_PENALTY, "double", ("call",)),
    Attribute(STOP_SEQUENCES, "string[]", ("call",), "only with content capture: stop words are the caller's text"),
    Attribute(REASONING_LEVEL, "string", ("call",), "`0.1.0` and `dup` only"),
    Attribute(DIMENSIONS, "int", ("call",), "embeddings"),
    Attribute(RESPONSE_ID, "string", ("call",)),
    Attribute(RESPONSE_MODEL, "string", ("call",), "not on metrics: vendors return dated snapshots"),
    Attribute(FINISH_REASONS, "string[]", ("call",), "one per choice, in the vendor's words"),
    Attribute(TIME_TO_FIRST_CHUNK, "double", ("call",), "seconds; streaming only"),
    Attribute(INPUT_TOKENS, "int", ("call",), "cached ones included"),
    Attribute(OUTPUT_TOKENS, "int", ("call",), "reasoning included"),
    Attribute(CACHE_READ_TOKENS, "int", ("call",), "if any"),
    Attribute(CACHE_CREATION_TOKENS, "int", ("call",), "if any; `1.41` and `dup`"),
    Attribute(CACHE_WRITE_TOKENS, "int", ("call",), "if any; `0.1.0` and `dup`"),
    Attribute(REASONING_TOKENS, "int", ("call",), "if any"),
    Attribute(INPUT_MESSAGES, "string (JSON)", ("call",), "only with content capture"),
    Attribute(OUTPUT_MESSAGES, "string (JSON)", ("call",), "only with content capture"),
    Attribute(TOKEN_TYPE, "string", ("metrics",), "`input` or `output`"),
    Attribute(TOKEN_MODALITY, "string", ("metrics",), "`unknown`; `0.1.0` and `dup` only"),
    Attribute(HTTP_METHOD, "string", ("attempt",), "`POST`, where the provider is reached over HTTP"),
    Attribute(HTTP_STATUS, "int", ("attempt",), "if an answer arrived"),
    Attribute(HTTP_RESEND_COUNT, "int", ("attempt",), "from 1, on a later attempt at the same provider"),
    Attribute(CLIENT_NAME, "string", ("call", "attempt", "metrics", "log"), "the client's `name`"),
    Attribute(ROUTE_NAME, "string", ("call", "metrics", "log"), "a configured route"),
    Attribute(CALL_ID, "string", ("call", "log"), "one per call, unique among processes"),
    Attribute(PROVIDER_ID, "string", ("attempt", "metrics", "log"), "a configured provider"),
    Attribute(PROVIDER_REQUEST_ID, "string", ("attempt", "log"), "the vendor's request id, if it sent one"),
    Attribute(
        ATTEMPT_ID, "string", ("attempt", "log"), "call id and number; sent as `X-Client-Request-Id` where known"
    ),
    Attribute(ATTEMPT_NUMBER, "int", ("attempt", "log"), "from 1"),
    Attribute(ATTEMPT_TYPE, "string", ("attempt", "metrics", "log"), "`initial` `retry` `failover` `hedge` `trial`"),
    Attribute(ATTEMPT_OUTCOME, "string", ("attempt", "metrics", "log"), "`success` `error` `cancelled`"),
    Attribute(ATTEMPT_MODEL, "string", ("attempt",), "in place of `gen_ai.request.model`"),
    Attribute(ATTEMPT_DELAY, "double", ("attempt",), "seconds waited before it, if any"),
    Attribute(ATTEMPT_RETRY_AFTER, "double", ("attempt", "log"), "seconds the provider asked us to wait"),
    Attribute(ATTEMPT_SELECTED, "boolean", ("attempt",), "whether the caller got this attempt's answer"),
    Attribute(ATTEMPT_COUNT, "int", ("call", "log")),
    Attribute(MODEL_MISMATCH, "boolean", ("call",), "if the answer names another model than the one asked for"),
    Attribute(RETRY_COUNT, "int", ("call",), "if any"),
    Attribute(FAILOVER_COUNT, "int", ("call",), "if any"),
    Attribute(HEDGE_COUNT, "int", ("call",), "if any"),
    Attribute(STREAM_OUTCOME, "string", ("call",), "`completed` `closed_early` `interrupted` `failed`; streaming only"),
    Attribute(FAILOVER_REASON, "string", ("metrics", "log"), "an `error.type`"),
    Attribute(REJECTION_REASON, "string", ("metrics",), "an `error.type`, or `hedge_budget_exhausted`"),
    Attribute(BREAKER_STATE, "string", ("metrics", "log"), "`closed` `softly_open` `open` `isolated`"),
    Attribute(EJECTION_REASON, "string", ("metrics", "log"), "`breaker` `manual`, or the slow gate's `error.type`"),
    Attribute(RATE_LIMIT_TYPE, "string", ("metrics",), "`requests` `tokens` `input_tokens` `output_tokens`"),
    Attribute(BUDGET_TYPE, "string", ("metrics",), "`extra` `trial`"),
    Attribute(EXCEPTION_TYPE, "string", ("log",), "class of the error; never its message"),
    Attribute(PROVIDER_MESSAGE, "string", ("log",), "what the provider said, scrubbed; DEBUG only"),
    Attribute(PROVIDER_ACTION, "string", ("log",), "what the operator did"),
    Attribute(BREAKER_PREVIOUS, "string", ("log",)),
    Attribute(BREAKER_REASON, "string", ("log",)),
    Attribute(BREAKER_OPEN_FOR, "double", ("log",), "seconds"),
    Attribute(RATE_LIMIT_WAIT, "double", ("log",), "seconds"),
)

# --- metrics -----------------------------------------------------------------------------------------------

DURATION_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
TOKEN_BUCKETS: Final = tuple(float(4**n) for n in range(14))
ATTEMPT_DURATION_BUCKETS: Final = (*DURATION_BUCKETS, 163.84, 327.68)
ATTEMPTS_BUCKETS: Final = (1.0, 2.0, 3.0, 4.0, 5.0, 8.0)

_BASE = (CLIENT_NAME, PROVIDER_ID, PROVIDER_NAME)
_MODEL = (*_BASE, REQUEST_MODEL)
_ROUTE = (CLIENT_NAME, ROUTE_NAME)
_CALL = (OPERATION, PROVIDER_NAME, REQUEST_MODEL, SERVER_ADDRESS, SERVER_PORT)
_TYPED = (*_CALL, TOKEN_TYPE)
_MODAL = (*_CALL, TOKEN_MODALITY)

Kind: TypeAlias = Literal["histogram", "counter", "gauge", "updowncounter"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One instrument.  ``dialect`` ``None`` means it does not depend on the dialect."""

    name: str
    kind: Kind
    unit: str
    attributes: tuple[str, ...]
    brief: str
    buckets: tuple[float, ...] | None = None
    dialect: Literal["1.41", "0.1.0"] | None = None


def _histogram(
    name: str,
    unit: str,
    attributes: tuple[str, ...],
    brief: str,
    *,
    buckets: tuple[float, ...] = DURATION_BUCKETS,
    dialect: Literal["1.41", "0.1.0"] | None = None,
) -> Metric:
    return Metric(name, "histogram", unit, attributes, brief, buckets, dialect)


def _usage(what: str, brief: str) -> Metric:
    name = f"gen_ai.client.inference.usage.{what}"
    return Metric(name, "counter", "{token}", _MODAL, brief, dialect="0.1.0")


OPERATION_DURATION = _histogram(
    "gen_ai.client.operation.duration", "s", (*_CALL, ERROR_TYPE), "A call, all attempts included", dialect="1.41"
)
TOKEN_USAGE = _histogram(
    "gen_ai.client.token.usage", "{token}", _TYPED, "Tokens of the answer", buckets=TOKEN_BUCKETS, dialect="1.41"
)
FIRST_CHUNK = _histogram(
    "gen_ai.client.operation.time_to_first_chunk", "s", _CALL, "Until a stream's first content", dialect="1.41"
)
INFERENCE_DURATION = _histogram(
    "gen_ai.client.inference.duration",
    "s",
    (*_CALL, ERROR_TYPE),
    "A chat call, all attempts included",
    dialect="0.1.0",
)
INFERENCE_FIRST_CHUNK = _histogram(
    "gen_ai.client.inference.time_to_first_chunk", "s", _CALL, "Until a stream's first content", dialect="0.1.0"
)
INFERENCE_INPUT = _histogram(
    "gen_ai.client.inference.operation.input_tokens",
    "{token}",
    _CALL,
    "Prompt tokens per call",
    buckets=TOKEN_BUCKETS,
    dialect="0.1.0",
)
INFERENCE_OUTPUT = _histogram(
    "gen_ai.client.inference.operation.output_tokens",
    "{token}",
    _CALL,
    "Answer tokens per call",
    buckets=TOKEN_BUCKETS,
    dialect="0.1.0",
)
USAGE_INPUT = _usage("input_tokens", "Prompt tokens")
USAGE_OUTPUT = _usage("output_tokens", "Answer tokens")
USAGE_CACHE_READ = _usage("cache_read.input_tokens", "Prompt tokens read from a cache")
USAGE_CACHE_WRITE = _usage("cache_write.input_tokens", "Prompt tokens written to a cache")
USAGE_REASONING = _usage("reasoning.output_tokens", "Reasoning tokens")

ATTEMPT_DURATION = _histogram(
    "resilient_llm.client.attempt.duration",
    "s",
    (*_MODEL, ATTEMPT_TYPE, ATTEMPT_OUTCOME, ERROR_TYPE),
    "One attempt, connection failures included",
    buckets=ATTEMPT_DURATION_BUCKETS,
)
CALL_ATTEMPTS = _histogram(
    "resilient_llm.client.call.attempts", "{attempt}", _ROUTE, "Attempts a call took", buckets=ATTEMPTS_BUCKETS
)
RETRY_DELAY = _histogram("resilient_llm.client.call.retry_delay", "s", _ROUTE, "Waiting between attempts, if any")
RETRIES = Metric("resilient_llm.client.retries", "counter", "{retry}", (*_BASE, ERROR_TYPE), "Attempts repeated there")
FAILOVERS = Metric(
    "resilient_llm.client.failovers",
    "counter",
    "{failover}",
    (*_ROUTE, PROVIDER_ID, FAILOVER_REASON),
    "Calls that left this provider for another",
)
HEDGES = Metric(
    "resilient_llm.client.hedges", "counter", "{hedge}", (*_ROUTE, ATTEMPT_OUTCOME), "Attempts beside a running one"
)
ACTIVE = Metric(
    "resilient_llm.client.attempt.active", "updowncounter", "{attempt}", _BASE, "Attempts under way, streams included"
)
WAITING = Metric("resilient_llm.client.call.waiting", "updowncounter", "{call}", _BASE, "Calls in line for a provider")
REJECTIONS = Metric(
    "resilient_llm.client.rejections",
    "counter",
    "{rejection}",
    (CLIENT_NAME, REJECTION_REASON),
    "Calls nobody could be asked for, and attempts a budget forbade",
)
WASTED_TOKENS = Metric(
    "resilient_llm.client.wasted_tokens",
    "counter",
    "{token}",
    (*_MODEL, TOKEN_TYPE),
    "Tokens reported for answers nobody got",
)
TRANSITIONS = Metric(
    "resilient_llm.circuit_breaker.transitions",
    "counter",
    "{transition}",
    (*_BASE, BREAKER_STATE),
    "Changes of a breaker to this state",
)
BREAKER = Metric(
    "resilient_llm.circuit_breaker.state",
    "gauge",
    "1",
    (*_BASE, BREAKER_STATE),
    "1 for the state it is in, 0 for others",
)
HEALTH = Metric("resilient_llm.provider.health.score", "gauge", "{score}", _BASE, "0 (dead) to 1 (as good as any)")
EJECTIONS = Metric(
    "resilient_llm.provider.ejections",
    "counter",
    "{ejection}",
    (*_BASE, EJECTION_REASON),
    "Times a provider was taken out: breaker, slow gate, operator",
)
EJECTED = Metric(
    "resilient_llm.provider.ejected", "gauge", "1", _BASE, "1 while its breaker or an operator keeps it out"
)
GATE_CLOSURES = Metric(
    "resilient_llm.rate_limit.closures",
    "counter",
    "{closure}",
    (*_BASE, ERROR_TYPE),
    "Times a provider asked us to wait",
)
REQUEST_LIMIT = Metric(
    "resilient_llm.rate_limit.request.limit", "gauge", "{request}", (*_MODEL, RATE_LIMIT_TYPE), "As last reported"
)
REQUEST_REMAINING = Metric(
    "resilient_llm.rate_limit.request.remaining", "gauge", "{request}", (*_MODEL, RATE_LIMIT_TYPE), "As last reported"
)
TOKEN_LIMIT = Metric(
    "resilient_llm.rate_limit.token.limit", "gauge", "{token}", (*_MODEL, RATE_LIMIT_TYPE), "As last reported"
)
TOKEN_REMAINING = Metric(
    "resilient_llm.rate_limit.token.remaining", "gauge", "{token}", (*_MODEL, RATE_LIMIT_TYPE), "As last reported"
)
UTILIZATION = Metric(
    "resilient_llm.rate_limit.utilization",
    "gauge",
    "1",
    (*_BASE, RATE_LIMIT_TYPE),
    "Share of the limit used up, 0 to 1",
)
BUDGET = Metric(
    "resilient_llm.retry_budget.balance", "gauge", "{retry}", (CLIENT_NAME, BUDGET_TYPE), "Tokens left in a budget"
)

METRICS: Final[tuple[Metric, ...]] = (
    OPERATION_DURATION,
    TOKEN_USAGE,
    FIRST_CHUNK,
    INFERENCE_DURATION,
    INFERENCE_FIRST_CHUNK,
    INFERENCE_INPUT,
    INFERENCE_OUTPUT,
    USAGE_INPUT,
    USAGE_OUTPUT,
    USAGE_CACHE_READ,
    USAGE_CACHE_WRITE,
    USAGE_REASONING,
    ATTEMPT_DURATION,
    CALL_ATTEMPTS,
    RETRY_DELAY,
    RETRIES,
    FAILOVERS,
    HEDGES,
    ACTIVE,
    WAITING,
    REJECTIONS,
    WASTED_TOKENS,
    TRANSITIONS,
    BREAKER,
    HEALTH,
    EJECTIONS,
    EJECTED,
    GATE_CLOSURES,
    REQUEST_LIMIT,
    REQUEST_REMAINING,
    TOKEN_LIMIT,
    TOKEN_REMAINING,
    UTILIZATION,
    BUDGET,
)

# --- values ------------------------------------------------------------------------------------------------

OTHER: Final = "_OTHER"

ERROR_TYPES: Final[Mapping[FaultKind, str]] = MappingProxyType(
    {
        FaultKind.RATE_LIMITED: "rate_limit",
        FaultKind.QUOTA_EXHAUSTED: "quota_exhausted",
        FaultKind.OVERLOADED: "overloaded",
        FaultKind.SERVER_ERROR: "server_error",
        FaultKind.TIMEOUT: "timeout",
        FaultKind.CONNECTION: "connection_error",
        FaultKind.AUTH: "authentication",
        FaultKind.PERMISSION: "permission",
        FaultKind.NOT_FOUND_MODEL: "model_not_found",
        FaultKind.BAD_REQUEST: "invalid_request",
        FaultKind.CONTEXT_LENGTH: "context_length",
        FaultKind.PAYLOAD_TOO_LARGE: "payload_too_large",
        FaultKind.CONTENT_FILTER: "content_filter",
        FaultKind.CONFLICT: "conflict",
        FaultKind.CLIENT_CLOSED: "client_closed",
        FaultKind.UNSUPPORTED: "unsupported",
        FaultKind.INVALID_RESPONSE: "invalid_response",
        FaultKind.MISCONFIGURED: "misconfigured",
        FaultKind.SEALED_REASONING: "sealed_reasoning",
    }
)
"""``error.type`` of an attempt, and of a call that its last attempt decided."""

REFUSAL_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        Refusal.UNSUITABLE: "unsupported",
        Refusal.DRAINED: "ejected",
        Refusal.ISOLATED: "ejected",
        Refusal.QUOTA: "quota_exhausted",
        Refusal.GATED: "rate_limit",
        Refusal.PACE: "rate_limit",
        Refusal.FULL: "concurrency_limit",
        Refusal.LINE: "concurrency_limit",
        Refusal.CROWDED: "concurrency_limit",
        Refusal.DOWN: "circuit_open",
        Refusal.HEARD: "rate_limit",
    }
)
"""``error.type`` of a call nobody could be asked for, if all providers refused for the same reason."""

CALL_ERROR_TYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "deadline_exceeded": "the call's own deadline passed",
        "stream_interrupted": "a stream broke after content had been handed over",
        "all_providers_failed": "every attempt failed, and none of them says why",
        "no_provider_available": "nobody could be asked, for several reasons",
        "retry_budget_exhausted": "one more attempt was due and the budget was empty",
        "client_error": "the caller's mistake or the library's own error; nothing was sent",
        OTHER: "an exception from elsewhere",
    }
)
"""``error.type`` values that only calls have, and what they mean."""

HEDGE_BUDGET_EXHAUSTED: Final = "hedge_budget_exhausted"

VENDORS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "azure_openai": "azure.ai.openai",
        "bedrock": "aws.bedrock",
        "gemini": "gcp.gemini",
        "vertex_ai": "gcp.vertex_ai",
        "mistral": "mistral_ai",
        "moonshot": "moonshot_ai",
        "xai": "x_ai",
    }
)
"""Vendors the conventions spell otherwise; all others keep their name."""

ATTEMPT_TYPES: Final = frozenset({"initial", "retry", "failover", "hedge", "trial"})
BREAKER_STATES: Final = ("closed", "softly_open", "open", "isolated")


def error_types() -> tuple[str, ...]:
    """The closed list of ``error.type``, each value once."""
    return tuple(dict.fromkeys((*ERROR_TYPES.values(), *REFUSAL_TYPES.values(), *CALL_ERROR_TYPES)))


def prometheus_name(metric: Metric) -> str:
    """The name under which Prometheus exporters publish it (without ``_bucket``, ``_sum``, ``_count``)."""
    name = metric.name.replace(".", "_")
    if metric.unit == "s":
        name += "_seconds"
    return f"{name}_total" if metric.kind == "counter" else name
