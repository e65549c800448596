"""Errors, kinds of failure, events, and what health tells."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import fields
from typing import get_args

from resilient_llm import errors, events
from resilient_llm.decide.outcome import Onward, Outcome, disposition
from resilient_llm.errors import Fault, FaultKind
from resilient_llm.health import ProviderHealth
from tables.markdown import code, kind, plain, table

KINDS = {
    FaultKind.RATE_LIMITED: "your own limit at the vendor: 429, or headers that say so",
    FaultKind.QUOTA_EXHAUSTED: "money or a long quota is used up; waiting a little does not help",
    FaultKind.OVERLOADED: "the vendor has no capacity: 529, or a 503 that says so",
    FaultKind.SERVER_ERROR: "a 500 or its like",
    FaultKind.TIMEOUT: "no sign of life in time",
    FaultKind.CONNECTION: "refused, reset, name lookup, TLS, cut short",
    FaultKind.AUTH: "the key is wrong",
    FaultKind.PERMISSION: "the key is right but may not do this",
    FaultKind.NOT_FOUND_MODEL: "the vendor does not know the model",
    FaultKind.BAD_REQUEST: "the request is malformed",
    FaultKind.CONTEXT_LENGTH: "the prompt is longer than the model's window",
    FaultKind.PAYLOAD_TOO_LARGE: "the body is larger than the vendor takes",
    FaultKind.CONTENT_FILTER: "the vendor refuses the content",
    FaultKind.CONFLICT: "409: the same thing is under way",
    FaultKind.CLIENT_CLOSED: "the vendor saw the connection close",
    FaultKind.UNSUPPORTED: "the provider or model lacks a feature that the request needs",
    FaultKind.INVALID_RESPONSE: "the answer cannot be decoded, is empty, or was refused by `validate=` or `output=`",
    FaultKind.MISCONFIGURED: "a wrong `base_url`, a redirect; a TLS certificate that one side does not accept",
    FaultKind.SEALED_REASONING: "reasoning of earlier turns is sealed, and this provider does not accept it",
}
ONWARD = {
    Onward.ANYWHERE: "the next provider, or this one again",
    Onward.ELSEWHERE: "the next provider",
    Onward.LARGER: "a provider with a larger or unknown window",
    Onward.NOWHERE: "raises `RequestRejected`",
}
OUTCOMES = {
    Outcome.HARD: "a failure",
    Outcome.SOFT: "half a failure",
    Outcome.GATED: "closes the gate",
    Outcome.DISABLED: "closes the slow gate",
    Outcome.NEUTRAL: "nothing",
}
HEALTH = {
    "id": "the provider's id",
    "state": "`healthy`, `degraded`, `unhealthy` or `unknown` (never asked)",
    "score": "0 (dead) to 1 (as good as any)",
    "breaker": "`closed`, `softly_open`, `open` or `isolated`",
    "breaker_reason": "why it is in this state",
    "retry_in": "seconds until the next trial",
    "gate_open_in": "seconds until a rate limit, quota or key lets calls through again",
    "gate_reason": "why the gate is closed",
    "success_rate": "what is expected of the next call, from the calls so far",
    "error_rate": "share of recent calls that failed",
    "in_flight": "attempts under way, open streams included",
    "waiting": "calls that stand in line for it",
    "wait": "seconds for which the first in line has waited; 0: nobody waits",
    "limit": "how many attempts may be under way",
    "samples": "answers its latencies are known from",
    "first_token_p50": "seconds to the first content, median",
    "first_token_p95": "the same, 95th percentile",
    "answer_p50": "seconds to a whole answer, median",
    "answer_p95": "the same, 95th percentile",
    "requests_left": "as its headers last said",
    "tokens_left": "the same",
    "drained": "whether `drain()` keeps calls away",
    "model_mismatch": "whether its last answer named another model than the one it was asked for",
}


def _classes(root: type, depth: int = 0) -> Iterator[tuple[int, type]]:
    yield depth, root
    for one in root.__subclasses__():
        if one.__module__ == errors.__name__:
            yield from _classes(one, depth + 1)


def classes() -> str:
    """The tree of errors."""
    tree = [*_classes(errors.ResilientError), (0, errors.ProviderError)]
    rows = [[f"{'&emsp;' * depth}{code(one.__name__)}", " ".join(plain(one.__doc__).split())] for depth, one in tree]
    return table(["error", "what it says"], rows)


def facts() -> str:
    """What every error has."""
    rows = [[code("retry_after"), "The earliest time in seconds at which trying again makes sense; `None`: unknown."]]
    for name, member in inspect.getmembers(errors.ResilientError, lambda one: isinstance(one, property)):
        rows.append([code(name), plain(member.__doc__)])
    return table(["fact", "what it is"], rows)


def kinds() -> str:
    """Every kind of failure."""
    rows = []
    for one in FaultKind:
        outcome, onward = disposition(Fault(one))
        rows.append([code(one.value), KINDS[one], ONWARD[onward], OUTCOMES[outcome]])
    return table(["kind", "what happened", "the call goes to", "counts for the provider as"], rows)


def every_event() -> str:
    """Every event with its facts."""
    rows = []
    for one in get_args(events.Event):
        own = ", ".join(code(each.name) for each in fields(one) if each.name not in ("at", "provider"))
        rows.append([code(one.__name__), " ".join(plain(one.__doc__).split()), own])
    return table(["event", "what it says", "facts besides `at` and `provider`"], rows)


def health() -> str:
    """Every field of a provider's health."""
    named = {one.name: one for one in fields(ProviderHealth)}
    if set(named) != set(HEALTH):
        raise SystemExit(f"docs/tables/facts.py differs from ProviderHealth in {sorted(set(named) ^ set(HEALTH))}")
    rows = [[code(name), HEALTH[name], code(kind(one.type))] for name, one in named.items()]
    return table(["field", "what it tells", "type"], rows)


SECTIONS = {
    "reference/errors.md": {"classes": classes, "facts": facts, "kinds": kinds},
    "reference/events.md": {"events": every_event, "health": health},
}
