"""One call, from question to answer, without the waiting: what both drivers do at each step."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Generic, Literal, TypeVar

from resilient_llm.capability import NO_NEEDS, Needs
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.patience import first_due
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.exchange import AnyExchange, begin
from resilient_llm.drive.failure import (
    AttemptFailed,
    cause_of,
    fault_of,
    no_key_in_time,
    rejection,
    shows,
    tell_skipped,
)
from resilient_llm.drive.observer import CallObserver
from resilient_llm.drive.spending import Purse, settle, settle_loser, sooner
from resilient_llm.drive.subject import Response, Subject, Target
from resilient_llm.drive.under_way import UnderWay
from resilient_llm.errors import (
    CallFailed,
    ClientClosed,
    ConfigurationError,
    Fault,
    FaultKind,
    FaultScope,
    InvalidRequest,
    NoProviderAvailable,
    StreamInterrupted,
)
from resilient_llm.faults import AttemptRecord
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, Usage
from resilient_llm.options import Validator, not_empty
from resilient_llm.policy import OnBreak
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.credentials import KeyUnavailable
from resilient_llm.providers.secrecy import masked, searchable, without_secret

Request = TypeVar("Request", bound=ChatRequest | EmbedRequest)
_TOO_LATE = Fault(FaultKind.TIMEOUT, message="the deadline passed")
_SLACK = 0.001  # seconds before a deadline that count as past it: timers are not exact


class Task(Generic[Request]):
    """What one call needs besides its state machine.  Used by one caller; its races may report from other tasks."""

    under_way: UnderWay
    """Where it is carried out."""
    cause: BaseException | None = None
    """The last failed attempt's own exception."""
    interruption: StreamInterrupted | None = None
    """What is raised if nobody goes on with a stream that broke."""
    spent: Usage | None = None
    """The tokens of attempts that are part of the answer, the one under way apart."""

    def __init__(
        self,
        owner: ProviderPool,
        request: Request,
        call: Call[Target],
        validate: Validator | None = None,
        needs: Needs = NO_NEEDS,
        *,
        purse: Purse | None = None,
        gathers: bool = False,
    ) -> None:
        self.purse: Purse | None = purse
        """What it may spend; ``None``: nobody counts."""
        self.owner: ProviderPool = owner
        self.call: Call[Target] = call
        self._validate = validate
        self.on_break: OnBreak = owner.policies.stream.on_break
        ask, pool, call_id = call.ask, owner.pool, owner.call_id(call.number)
        streaming = ask.streaming and not gathers
        policies = owner.policies
        self.subject: Subject = Subject(
            request, needs, streaming, ask.repeatable, policies, pool, owner.clock, owner.wall, call_id, gathers
        )
        operation: Literal["chat", "embeddings"] = "chat" if isinstance(request, ChatRequest) else "embeddings"
        first = owner.first(ask.route)
        self.observer: CallObserver = owner.observer.call(
            operation, request, ask.route, first, streaming=streaming, call_id=call_id
        )
        if ask.conversation is not None:
            self.observer.conversation(ask.conversation)

    def __enter__(self) -> None:
        """It is under way, from here to the end."""
        self.under_way.calls.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """One that is interrupted, perhaps between two steps of anything, holds nothing any more."""
        if kind is not None and not issubclass(kind, Exception):
            self.owner.pool.disown(self.call.number, self.owner.clock())
        self.under_way.done(self)

    # --- the next step ---

    def next(self) -> AnyExchange | Wait:
        """The next attempt or wait.  Raises the call's final error, from the last attempt's own."""
        try:
            if self.purse is not None:
                self.call.ask = self.purse.screen(self.call.ask)
            step = self.call.next_attempt(self.owner.clock())
        except (CallFailed, ClientClosed) as error:
            if self.purse is not None and isinstance(error, NoProviderAvailable):
                error.retry_after = sooner(error.retry_after, self.purse.retry_after())
            failure = _final(error, self.interruption, self.call.records)
            self.owner.deliver()
            if isinstance(failure, CallFailed) and isinstance(self.subject.request, EmbedRequest):
                tell_skipped(failure, self.call.ask.unsuitable)
            self.observer.failed(failure, self.owner.clock() - self.call.started, None)
            failure.__cause__, self.cause = self.cause, None
            failure.__suppress_context__ = True
            raise failure  # noqa: B904 - its cause is set
        return self._begin(step) if isinstance(step, Attempt) else step

    def rescue(self, beside: AnyExchange) -> AnyExchange | None:
        """A second attempt beside a silent one, or ``None``."""
        found = self.call.rescue(beside.attempt, self.owner.clock())
        return None if found is None else self._begin(found)

    def _begin(self, attempt: Attempt[Target]) -> AnyExchange:
        exchange = begin(attempt, self.subject)
        try:
            self.owner.hold(exchange)
            if self.purse is not None:
                self.purse.reserve(attempt.number, attempt.target)
            exchange.observer = self.observer.attempt(exchange.provider, attempt.number, attempt.kind, attempt.delay)
            self.owner.deliver()
        except BaseException:  # Ctrl-C in a listener or a span processor
            self.abandoned(exchange)
            raise
        return exchange

    def asking(self, exchange: AnyExchange) -> None:
        """A callable is asked for the key.  Until it answers, nobody waits for the provider, whose silence therefore
        proves nothing."""
        exchange.asking = True
        self.call.asking(exchange.attempt, self.owner.clock())

    def asked(self, exchange: AnyExchange, key: str | None) -> None:
        """The key is there, and the provider's time begins.  Raises ``TimeoutError`` if the key came too late."""
        self.call.asked(exchange.attempt, self.owner.clock())
        exchange.asking, exchange.key = False, key
        exchange.renew()

    def take_key(self, exchange: AnyExchange) -> None:
        """Get the key without awaiting anything."""
        if exchange.asks_for_key:
            self.asking(exchange)
            self.asked(exchange, exchange.credential.get())
        elif exchange.key is None:
            exchange.key = exchange.credential.get()

    def streams(self, exchange: AnyExchange, source: object) -> bool:
        """Whether a stream's first content is about to be handed over, so that what follows comes from ``source``."""
        if not self.subject.streaming or not exchange.streams():
            return False
        exchange.source, now = source, self.owner.clock()
        self.call.first_content(exchange.attempt, now)
        if not exchange.lost and self.interruption is None:
            self.observer.first_chunk(now - self.call.started)
        return True

    # --- answers ---

    def verdict(self, exchange: AnyExchange) -> object:
        """What the caller's check says of a whole answer, a ``ValueError`` included; an async one's is still to be
        awaited."""
        check, answer = self._validate, exchange.answer
        if check is None or not isinstance(answer, ChatResponse):
            return None
        if check is not not_empty:  # it may want to know who answered
            self.label(exchange, answer)
        try:
            return check(answer)
        except ValueError as error:
            return error
        except BaseException:
            self.abandoned(exchange)
            raise

    def accept(self, exchange: AnyExchange, verdict: object) -> bool:
        """An answer arrived, and this is what the caller's check says of it: finish the call with it.  ``False``: it
        was rejected.  A stream is finished where it ends."""
        if self.subject.streaming:
            return True
        try:
            response = exchange.response()
            rejected = None if verdict is None else rejection(verdict)
            if rejected is not None:
                self.failed(exchange, AttemptFailed(rejected), response.usage)
                return False
            self.finish(exchange, response)
            return True
        except BaseException:
            self.abandoned(exchange)
            raise

    def finish(self, exchange: AnyExchange, response: Response) -> None:
        """The answer is complete: report it and label it."""
        now, usage = self.owner.clock(), response.usage
        attempt, before = exchange.attempt, 0 if self.spent is None else self.spent.output_tokens
        output, tokens = exchange.used(usage)
        self.call.succeeded(attempt, now, max(output - before, 0) if before else output, exchange.status, tokens)
        self.label(exchange, response)
        self._ended(exchange, selected=True, usage=usage)
        self.observer.succeeded(response, exchange.provider, now - self.call.started)
        self.cause = None
        self.owner.deliver()

    def label(self, exchange: AnyExchange, response: Response) -> None:
        """Say on a response who answered and how it came to that."""
        if response.provider != exchange.provider.id:
            _label_source(response, exchange, searchable(self._secrets(exchange)))
        response.attempts = tuple(self.call.records)
        if isinstance(response, ChatResponse):
            response.degradations = exchange.degradations

    # --- failures ---

    def raised(self, exchange: AnyExchange, error: Exception) -> None:
        """An attempt raised.  What is about the use of the library, and not about the provider, is raised again."""
        misused = isinstance(error, ConfigurationError | InvalidRequest)
        if misused or (isinstance(error, ClientClosed) and not exchange.by_code):
            self.observer.failed(error, self.owner.clock() - self.call.started, exchange.attempt.target)
            self.abandoned(exchange)
            raise error
        self.failed(exchange, error)

    def failed(self, exchange: AnyExchange, error: Exception, usage: Usage | None = None) -> Fault:
        """Find out what an attempt's exception means, and tell the call.  ``usage``: what its answer cost."""
        now, attempt = self.owner.clock(), exchange.attempt
        fault = self._understood(exchange, error)
        ended_by = first_due(deadline=self.call.deadline - _SLACK, timer=exchange.due_at(), answered=now)
        if fault.kind is FaultKind.TIMEOUT and ended_by == "deadline" and fault.scope is not FaultScope.LOCAL:
            silence = 0.0 if exchange.reading is None else exchange.reading.silence(now)
            self.call.expired(attempt, fault, now, silence)
        else:
            self.call.failed(attempt, fault, now)
        self.cause = None if shows(error, *self._secrets(exchange)) else cause_of(error, keep_frames=exchange.by_code)
        self._ended(exchange, selected=False, usage=usage)
        self.owner.deliver()
        reading = exchange.reading
        if self.subject.gathers and reading is not None and reading.committed and not reading.ended:
            self.interruption = self.broke(exchange, fault, reading.response())
        return fault

    # --- streams that broke ---

    def broke(self, exchange: AnyExchange, fault: Fault, partial: ChatResponse, why: str = "") -> StreamInterrupted:
        """The error for a stream that broke after content."""
        self.label(exchange, partial)
        reason = fault.message or str(fault.kind)
        return StreamInterrupted(
            f"the stream of {exchange.attempt.target.id} broke after content: {reason}{why}",
            tuple(self.call.records),
            fault.retry_after,
            fault,
            partial,
        )

    def _understood(self, exchange: AnyExchange, error: Exception) -> Fault:
        """What an attempt's exception means, without what must not be shown."""
        found = exchange.refused if isinstance(error, KeyUnavailable) and exchange.refused else fault_of(error)
        fault = without_secret(found, *self._secrets(exchange))
        if fault.kind is FaultKind.TIMEOUT and exchange.asking:
            return no_key_in_time(exchange.credential.name)
        if fault.kind is FaultKind.UNSUPPORTED and fault.status is not None:
            exchange.told(fault)
        return fault

    def _secrets(self, exchange: AnyExchange) -> tuple[str | None, ...]:
        """What the provider was sent that must not be shown, whoever echoes it."""
        return (exchange.key, *exchange.provider.secrets, *self.owner.secrets)

    def abandoned(self, exchange: AnyExchange) -> None:
        """An attempt was cancelled or interrupted, and the call with it."""
        now, attempt = self.owner.clock(), exchange.attempt
        waits = exchange.answer is None and (exchange.reading is None or not exchange.reading.committed)
        if waits and first_due(deadline=self.call.deadline, cancelled=now) == "deadline":
            self.call.expired(attempt, _TOO_LATE, now)
        else:
            self.call.abandoned(attempt, now)
        self._ended(exchange, selected=False)
        self.observer.closed_early(None, exchange.attempt.target, now - self.call.started)
        self.owner.deliver()

    def overtaken(self, exchange: AnyExchange) -> None:
        """Another attempt of this call won: end this one, unless it is to run on until it is judged."""
        exchange.lost = True
        if exchange.asking:
            fault = no_key_in_time(exchange.credential.name)
            self.call.failed(exchange.attempt, fault, self.owner.clock())
        else:
            exchange.runs_on = self.call.overtaken(exchange.attempt, self.owner.clock())
        self._ended(exchange, selected=False)
        if not exchange.runs_on:
            exchange.stop()

    def judge(self, exchange: AnyExchange, error: BaseException | None) -> None:
        """An attempt that lost is over.  One that ran on has shown what it is good for."""
        pool, attempt, now = self.owner.pool, exchange.attempt, self.owner.clock()
        self.owner.let_go(exchange)
        if self.purse is not None and exchange.runs_on:
            settle_loser(self.purse, exchange, error)
        if not exchange.runs_on or (error is not None and not isinstance(error, Exception)):
            pool.abandoned(attempt, now)
        elif error is not None:
            pool.failed(attempt, self._understood(exchange, error), now)
        elif self.subject.streaming:  # its first content has been reported
            pool.abandoned(attempt, now)
        else:
            pool.succeeded(attempt, now, *exchange.used(exchange.response().usage))
        self.owner.deliver()

    def interrupted(self) -> None:
        """The call was cancelled while no attempt was under way."""
        now = self.owner.clock()
        self.call.stopped_waiting(now)
        self.observer.closed_early(None, None, now - self.call.started)
        self.owner.deliver()

    def _ended(self, exchange: AnyExchange, *, selected: bool, usage: Usage | None = None) -> None:
        """Tell the observer how an attempt ended: what the call has written down about it."""
        attempt, observer = exchange.attempt, exchange.observer
        if not exchange.runs_on:
            self.owner.let_go(exchange)
        if observer is None:
            return
        record = _record_of(attempt, self.call.records, self.owner.clock())
        if self.purse is not None and not exchange.runs_on:
            settle(self.purse, exchange, record, usage)
        observer.ended(record, selected=selected, usage=None if selected else usage)


def _final(
    failure: CallFailed | ClientClosed, broke: StreamInterrupted | None, records: Sequence[AttemptRecord]
) -> CallFailed | ClientClosed:
    """The same, or that a stream broke and nobody goes on with it."""
    if broke is None or isinstance(failure, ClientClosed):
        return failure
    message = f"{broke.message}; nobody can go on: {failure.message}"
    return StreamInterrupted(message, tuple(records), failure.retry_after, failure.fault or broke.fault, broke.partial)


def _label_source(response: Response, exchange: AnyExchange, secrets: list[str]) -> None:
    """Write on a response which provider and model gave it, and whether that is the model that was asked.  What the
    provider says of itself is freed of secrets."""
    target = exchange.provider
    response.provider = target.id
    if isinstance(response, ChatResponse) and isinstance(target, HttpProvider):
        response.model_mismatch = target.other_model(response.model)
        exchange.subject.pool.named_model(exchange.attempt, other=response.model_mismatch)
        if secrets:
            response.id, response.model = masked(response.id, secrets), masked(response.model, secrets)
            if response.raw_finish_reason is not None:
                response.raw_finish_reason = masked(response.raw_finish_reason, secrets)
    response.model = response.model or target.model


def _record_of(attempt: Attempt[Target], records: Sequence[AttemptRecord], now: float) -> AttemptRecord:
    """What the call has written down about an attempt that ended.  Nothing, if the pool released what a finaliser left
    behind: then it was cancelled."""
    for record in reversed(records):
        if record.number == attempt.number:
            return record
    target, took = attempt.target, now - attempt.started
    return AttemptRecord(attempt.number, target.id, target.model, attempt.kind, "cancelled", None, None, took)
