"""What is written on answers and attempts: who gave it, how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from resilient_llm.decide.attempt import Attempt
from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.subject import Response, Target
from resilient_llm.faults import AttemptRecord
from resilient_llm.model import ChatResponse
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.secrecy import masked


def label_source(response: Response, exchange: AnyExchange, secrets: tuple[str | None, ...]) -> None:
    """Write on a response which provider and model gave it, and whether that is the model that was asked.  What the
    provider says of itself is freed of secrets."""
    target = exchange.attempt.target
    response.provider = target.id
    if isinstance(response, ChatResponse) and isinstance(target, HttpProvider):
        response.model_mismatch = target.other_model(response.model)
        exchange.subject.pool.named_model(exchange.attempt, other=response.model_mismatch)
        response.id, response.model = masked(response.id, *secrets), masked(response.model, *secrets)
        if response.raw_finish_reason is not None:
            response.raw_finish_reason = masked(response.raw_finish_reason, *secrets)
    response.model = response.model or target.model


def record_of(attempt: Attempt[Target], records: Sequence[AttemptRecord], now: float) -> AttemptRecord:
    """What the call has written down about an attempt that ended.  Nothing, if the pool released what a finaliser left
    behind: then it was cancelled."""
    for record in reversed(records):
        if record.number == attempt.number:
            return record
    target, took = attempt.target, now - attempt.started
    return AttemptRecord(attempt.number, target.id, target.model, attempt.kind, "cancelled", None, None, took)
