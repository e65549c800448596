"""One call, from question to answer, without the waiting: what both drivers do at each step."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from resilient_llm.capability import NO_NEEDS, Needs
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.drive.core import ProviderPool, Target
from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.drive.http import PhaseTimeouts
from resilient_llm.drive.question import Validator
from resilient_llm.drive.reading import Reading
from resilient_llm.errors import (
    AttemptRecord,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    Fault,
    FaultKind,
    FaultScope,
    InvalidAnswer,
    InvalidRequest,
    ResilientError,
    UnsupportedFeature,
)
from resilient_llm.model import ChatRequest, ChatResponse, Degradation, EmbedRequest, EmbedResponse, Text, Usage
from resilient_llm.providers.base import HttpProvider, Prepared
from resilient_llm.providers.credentials import KeyUnavailable
from resilient_llm.wire import classify_exception
from resilient_llm.wire.faults.scrub import contains_secret, without_secret

if TYPE_CHECKING:
    from resilient_llm.telemetry import AttemptTrace, CallTrace

Request = TypeVar("Request", bound=ChatRequest | EmbedRequest)
Response = ChatResponse | EmbedResponse

_CHAIN = 16  # exceptions behind an exception: more than any HTTP library has, and a chain may be a circle
_NOT_SENT = frozenset({"ConnectError", "ConnectTimeout", "PoolTimeout"})
"""Exceptions of httpx and httpx2 after which the request cannot have reached anybody."""


class Task(Generic[Request]):
    """What one call needs besides its state machine.  Used by one caller; its races may report from other threads or
    tasks."""

    __slots__ = (
        "_asking",
        "_degradations",
        "_keys",
        "_traces",
        "call",
        "cause",
        "needs",
        "owner",
        "request",
        "trace",
        "validate",
    )

    def __init__(
        self,
        owner: ProviderPool,
        request: Request,
        call: Call[Target],
        validate: Validator | None = None,
        needs: Needs = NO_NEEDS,
    ) -> None:
        self.owner: ProviderPool = owner
        self.needs: Needs = needs
        self.request: Request = request
        self.call: Call[Target] = call
        self.validate: Validator | None = validate
        self.cause: BaseException | None = None
        """The last failed attempt's own exception."""
        self._degradations: dict[str, tuple[Degradation, ...]] = {}
        self._keys: dict[Attempt[Target], str] = {}  # while an attempt runs: its failure must not show the key
        self._asking: dict[Attempt[Target], _Asking] = {}  # while a callable is asked for the key
        self._traces: dict[Attempt[Target], AttemptTrace] = {}
        operation: Literal["chat", "embeddings"] = "chat" if isinstance(request, ChatRequest) else "embeddings"
        first = next(iter(owner.pool.targets(call.route)), None)
        self.trace: CallTrace = owner.telemetry.call(
            operation, request, call.route, first, streaming=call.streaming, call_id=f"{id(owner):x}-{id(call):x}"
        )

    # --- the next step ---

    def next(self) -> Attempt[Target] | Wait:
        """The next attempt or wait.  Raises the call's final error, from the last attempt's own."""
        try:
            step = self.call.next_attempt(self.owner.clock())
        except CallFailed as failure:
            self.owner.deliver()
            self.trace.failed(failure, self.owner.clock() - self.call.started, None)
            failure.__cause__, self.cause = self.cause, None
            failure.__suppress_context__ = True
            raise
        return self._begin(step) if isinstance(step, Attempt) else step

    def rescue(self, beside: Attempt[Target]) -> Attempt[Target] | None:
        """A second attempt beside a silent one, or ``None``."""
        found = self.call.rescue(beside, self.owner.clock())
        return None if found is None else self._begin(found)

    def _begin(self, attempt: Attempt[Target]) -> Attempt[Target]:
        try:
            self._traces[attempt] = self.trace.attempt(attempt.target, attempt.number, attempt.kind, attempt.delay)
            self.owner.deliver()
        except BaseException:  # Ctrl-C in a listener or a span processor; nobody else knows of this lease yet
            self.abandoned(attempt)
            raise
        return attempt

    # --- preparing ---

    def asking(self, attempt: Attempt[Target], provider: HttpProvider) -> None:
        """A callable is asked for the key.  Until it answers, nobody waits for the provider, whose silence therefore
        proves nothing."""
        self._asking[attempt] = _Asking(provider.credential.name, attempt.late_at, attempt.overdue_at)
        attempt.late_at = attempt.overdue_at = math.inf

    def asked(self, attempt: Attempt[Target]) -> None:
        """The key is there, and the provider's time begins.  Raises ``TimeoutError`` if the key came too late."""
        now = self.owner.clock()
        took = now - attempt.started
        if attempt.released or took > attempt.timeout:
            raise TimeoutError
        asking = self._asking.pop(attempt)
        attempt.late_at, attempt.overdue_at = asking.late_at + took, asking.overdue_at + took
        attempt.started, attempt.delay = now, attempt.delay + took
        attempt.timeout = min(attempt.timeout, self.call.deadline - now)

    def prepare(self, attempt: Attempt[Target], provider: HttpProvider, key: str | None) -> Prepared:
        """The HTTP request for this attempt."""
        if key:
            self._keys[attempt] = key
        try:
            if isinstance(self.request, ChatRequest):
                prepared = self._fitted(self.request, provider, key)
            else:
                prepared = provider.prepare_embed(self.request, key)
        except UnsupportedFeature as unsupported:
            fault = Fault(FaultKind.UNSUPPORTED, scope=FaultScope.REQUEST, message=str(unsupported))
            raise AttemptFailed(fault) from unsupported
        except ResilientError:
            raise
        except Exception as error:  # nothing was sent, so no provider is to blame
            raise InvalidRequest(f"the request cannot be written for {provider.id}: {error!r}"[:300]) from error
        self._degradations[provider.id] = prepared.degradations
        traced = self._traces[attempt].headers() if provider.propagate_trace_context else None
        return replace(prepared, headers=(*prepared.headers, *traced.items())) if traced else prepared

    def _fitted(self, request: ChatRequest, provider: HttpProvider, key: str | None) -> Prepared:
        """The request as this provider can take it."""
        if not self.needs.features:
            return provider.prepare(request, key)
        request, lost = provider.capabilities.fit(request, self.needs)
        prepared = provider.prepare(request, key)
        return replace(prepared, degradations=lost + prepared.degradations) if lost else prepared

    def timeouts(self, attempt: Attempt[Target]) -> PhaseTimeouts:
        """For the sync client, whose every phase must know how much is left."""
        until = attempt.started + attempt.timeout
        return PhaseTimeouts(self.owner.clock, until, self.owner.policies.timeouts.connect)

    def reading(self, attempt: Attempt[Target]) -> Reading:
        """For one streamed answer."""
        provider = attempt.target
        http = provider if isinstance(provider, HttpProvider) else None
        policies = self.owner.policies
        decoder = None if http is None else http.stream_decoder()
        return Reading(decoder, http, policies.stream, policies.timeouts, self.owner.clock())

    def first_content(self, attempt: Attempt[Target]) -> None:
        """A stream's first content is about to be handed over."""
        now = self.owner.clock()
        self.call.first_content(attempt, now)
        self.trace.first_chunk(now - self.call.started)

    def trace_of(self, attempt: Attempt[Target]) -> AttemptTrace:
        """The attempt's span, to make it current while it is being sent."""
        return self._traces[attempt]

    # --- answers ---

    def learn(self, attempt: Attempt[Target], provider: HttpProvider, headers: Mapping[str, str]) -> None:
        """Take note of the rate-limit headroom an answer reports."""
        limits = provider.limits(headers, self.owner.wall())
        if limits.requests.remaining is not None or limits.tokens.remaining is not None:
            self.owner.pool.learn(attempt.member, self.owner.clock(), limits.requests, limits.tokens)
            self._traces[attempt].limits(limits)

    def understood(self, provider: HttpProvider, status: int, headers: Mapping[str, str], body: bytes) -> Response:
        """The response these bytes are.  Raises ``AttemptFailed`` if they are none."""
        if isinstance(self.request, ChatRequest):
            result: Response | Fault = provider.read(status, headers, body, self.owner.wall())
        else:
            result = provider.read_embed(status, headers, body, self.owner.wall())
        if isinstance(result, Fault):
            raise AttemptFailed(result)
        return result

    def refused(self, provider: HttpProvider, status: int, headers: Mapping[str, str], body: bytes) -> AttemptFailed:
        """What an answer that is no stream means."""
        return AttemptFailed(provider.fault(status, headers, body, self.owner.wall()))

    def verdict(self, attempt: Attempt[Target], response: Response) -> object:
        """What the caller's check says of a whole answer, a ``ValueError`` included; an async one's is still to be
        awaited."""
        if self.validate is None or not isinstance(response, ChatResponse):
            return None
        try:
            return self.validate(response)
        except ValueError as error:
            return error
        except BaseException:
            self.abandoned(attempt)
            raise

    async def awaited(self, attempt: Attempt[Target], verdict: object) -> object:
        """The verdict of a check that may be async."""
        if not inspect.isawaitable(verdict):
            return verdict
        try:
            return await verdict
        except ValueError as error:
            return error
        except BaseException:
            self.abandoned(attempt)
            raise

    def accept(self, attempt: Attempt[Target], response: Response, verdict: object = None) -> bool:
        """A whole answer arrived: finish the call with it.  ``False``: the caller's check rejected it."""
        if inspect.isawaitable(verdict):
            if inspect.iscoroutine(verdict):
                verdict.close()
            self.abandoned(attempt)
            raise InvalidRequest("validate= returned an awaitable, which only AsyncResilientClient can wait for")
        rejection = _rejection(verdict)
        if rejection is not None:
            self.failed(attempt, AttemptFailed(rejection), response.usage)
            return False
        usage = response.usage
        now = self.owner.clock()
        self.call.succeeded(attempt, now, usage.output_tokens if usage is not None else 0)
        self.finish(attempt, response, now)
        return True

    def finish(self, attempt: Attempt[Target], response: Response, now: float) -> None:
        """The answer is complete: label it and close the books."""
        self.label(attempt, response)
        self._ended(attempt, selected=True)
        self.trace.succeeded(response, attempt.target, now - self.call.started)
        self.cause = None
        self.owner.deliver()

    def label(self, attempt: Attempt[Target], response: Response) -> None:
        """Say on a response who answered and how it came to that."""
        response.provider = attempt.member.id
        response.model = response.model or attempt.target.model
        response.attempts = tuple(self.call.records)
        if isinstance(response, ChatResponse):
            response.degradations = self._degradations.get(attempt.member.id, ())

    # --- failures ---

    def fell(self, attempt: Attempt[Target], error: Exception) -> None:
        """An attempt raised.  What is about the use of the library, and not about the provider, is raised again."""
        misused = isinstance(error, ConfigurationError | InvalidRequest)
        if misused or (isinstance(error, ClientClosed) and isinstance(attempt.target, HttpProvider)):
            self.trace.failed(error, self.owner.clock() - self.call.started, attempt.target)
            self.abandoned(attempt)
            raise error
        self.failed(attempt, error)

    def failed(self, attempt: Attempt[Target], error: Exception, usage: Usage | None = None) -> Fault:
        """Find out what an attempt's exception means, and tell the call.  ``usage``: what its answer cost."""
        key = self._keys.pop(attempt, None)
        fault = without_secret(fault_of(error), key)
        if fault.kind is FaultKind.TIMEOUT and attempt in self._asking:
            fault = self._asking[attempt].fault()
        if (
            fault.kind is FaultKind.UNSUPPORTED
            and fault.status is not None
            and isinstance(attempt.target, HttpProvider)
        ):
            attempt.target.capabilities.remember_refusal(fault, self.needs)
        now = self.owner.clock()
        local = fault.scope is FaultScope.LOCAL
        if fault.kind is FaultKind.TIMEOUT and now >= self.call.deadline - 0.001 and not local:
            self.call.expired(attempt, fault, now)
        else:
            self.call.failed(attempt, fault, now)
        self.cause = (
            None if _shows(error, key) else cause_of(error, keep_frames=not isinstance(attempt.target, HttpProvider))
        )
        self._ended(attempt, selected=False, usage=usage)
        self.owner.deliver()
        return fault

    def abandoned(self, attempt: Attempt[Target]) -> None:
        """An attempt was cancelled or interrupted, and the call with it."""
        now = self.owner.clock()
        self.call.abandoned(attempt, now)
        self._ended(attempt, selected=False)
        self.trace.closed_early(None, attempt.target, now - self.call.started)
        self.owner.deliver()

    def overtaken(self, attempt: Attempt[Target]) -> None:
        """Another attempt of this call won."""
        asking, now = self._asking.get(attempt), self.owner.clock()
        if asking is None:
            self.call.overtaken(attempt, now)
        else:
            self.call.failed(attempt, asking.fault(), now)
        self._ended(attempt, selected=False)

    def interrupted(self) -> None:
        """The call was cancelled while no attempt was under way."""
        self.trace.closed_early(None, None, self.owner.clock() - self.call.started)

    def _ended(self, attempt: Attempt[Target], *, selected: bool, usage: Usage | None = None) -> None:
        self._keys.pop(attempt, None)
        self._asking.pop(attempt, None)
        trace = self._traces.get(attempt)  # left there: the loser of a race may still ask for it
        if trace is None:
            return
        record = next((one for one in reversed(self.call.records) if one.number == attempt.number), None)
        if record is None:  # the pool settled what a finaliser left behind before anybody could write it down
            took = self.owner.clock() - attempt.started
            provider, model = attempt.member.id, attempt.target.model
            record = AttemptRecord(attempt.number, provider, model, attempt.kind, "cancelled", None, None, took)
        trace.ended(record, selected=selected, usage=usage)


class _Asking(NamedTuple):
    """An attempt that waits for its key."""

    name: str
    late_at: float
    overdue_at: float

    def fault(self) -> Fault:
        """What it means if the key does not come: nothing was sent, and no provider is to blame."""
        message = f"{self.name} gave no key in time"
        return Fault(FaultKind.TIMEOUT, scope=FaultScope.LOCAL, code="not_sent", message=message)


def cause_of(error: BaseException, *, keep_frames: bool) -> BaseException | None:
    """The exception behind a failed attempt.

    Without its frames where they are those of an HTTP library: their variables hold the key, which tools that record
    variables would show, and whole answers, which would live as long as the error.
    """
    cause = error.__cause__ if isinstance(error, AttemptFailed) else error
    found = None if keep_frames else cause
    for _ in range(_CHAIN):
        if found is None:
            break
        found.__traceback__ = None
        if getattr(found, "_request", None) is not None:
            found.request = None  # type: ignore[attr-defined] # httpx's; it holds the headers, and the key in them
        found = found.__cause__ or found.__context__
    return cause


def _shows(error: BaseException, key: str | None) -> bool:
    """Whether an exception, or one behind it, says the key: a provider may echo it in a line an HTTP library quotes."""
    found: BaseException | None = error
    for _ in range(_CHAIN):
        if found is None:
            break
        if contains_secret(f"{found!s} {found!r}", key):
            return True
        found = found.__cause__ or found.__context__
    return False


def fault_of(error: Exception) -> Fault:
    """What an exception of an attempt means."""
    if isinstance(error, AttemptFailed):
        return error.fault
    if isinstance(error, InvalidAnswer):
        return Fault(FaultKind.INVALID_RESPONSE, message=error.message)
    if isinstance(error, KeyUnavailable):
        return Fault(FaultKind.AUTH, scope=FaultScope.CREDENTIAL, code="not_sent", message=str(error))
    fault = classify_exception(error)
    return replace(fault, code="not_sent") if type(error).__name__ in _NOT_SENT else fault


def _rejection(verdict: object) -> Fault | None:
    """What a verdict of the caller's check means for the attempt."""
    if isinstance(verdict, ValueError):
        return Fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST, message=str(verdict)[:200])
    if verdict is False:
        return Fault(FaultKind.INVALID_RESPONSE, scope=FaultScope.REQUEST, message="validate= rejected the answer")
    return None


def as_fallback(value: object, failure: CallFailed) -> ChatResponse | object:
    """A fallback's text or response as a response of provider ``fallback`` with the trail that led to it."""
    if isinstance(value, str):
        value = ChatResponse((Text(value),))
    if isinstance(value, ChatResponse):
        value = replace(value, provider=value.provider or "fallback", attempts=failure.attempts)
    return value
