"""One attempt without I/O, as far as all kinds of provider have it in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic, TypeVar
from weakref import ref

from resilient_llm.capability import Capabilities
from resilient_llm.decide.attempt import Attempt
from resilient_llm.drive.engines import Limit, Outgoing
from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.drive.observer import AttemptObserver
from resilient_llm.drive.reading import Reading
from resilient_llm.drive.subject import Response, Subject, Target
from resilient_llm.errors import (
    Fault,
)
from resilient_llm.model import (
    ChatRequest,
    Degradation,
    Usage,
)
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.credentials import Credential
from resilient_llm.providers.custom import Custom

P = TypeVar("P", HttpProvider, Custom)


class Lease(ref["Exchange[Any]"]):
    """Tells when an exchange was dropped without an end, so that its attempt can be given back.

    Its callback is a function in C.  A finaliser in Python can be interrupted itself: the interrupt would be lost, and
    the lease with it.
    """

    __slots__ = ("attempt",)

    attempt: Attempt[Target]


class Exchange(Generic[P]):
    """One attempt."""

    # What most attempts never change is kept on the class.
    credential: Credential = Credential(None)
    """Where its key comes from."""
    observer: AttemptObserver | None = None
    lease: Lease | None = None
    key: str | None = None
    """The key it was sent with: its failure must not show it."""
    asking: bool = False
    """A callable is being asked for the key."""
    refused: Fault | None = None
    """What it said when it refused the first key: another one is asked for."""
    status: int | None = None
    answer: Response | None = None
    """The whole answer, when it has arrived."""
    reading: Reading | None = None
    """The stream, from its head on."""
    enough: bool = False
    """A whole answer or the first content of a stream has arrived."""
    degradations: tuple[Degradation, ...] = ()
    source: Any = None
    """Where a stream's further pieces come from."""
    lost: bool = False
    """Another attempt of the call won, or the call is over: what it brings is thrown away."""
    runs_on: bool = False
    """It lost, and runs on to be judged."""
    extend: Callable[[float], None] | None = None
    """Async only: moves the end of the cancel scope it runs in, by monotonic time."""

    def __init__(self, attempt: Attempt[Target], provider: P, subject: Subject) -> None:
        self.attempt: Attempt[Target] = attempt
        self.subject: Subject = subject
        self.provider: P = provider
        self.limit: Limit = Limit(subject.clock, attempt.started + attempt.timeout, subject.policies.timeouts.connect)
        self.stop: Callable[[], None] = self.limit.sever
        """Ends it from outside."""

    def __repr__(self) -> str:
        return f"<Exchange {self.attempt!r}>"

    # --- what the driver asks ---

    by_code: ClassVar[bool]
    """Whether its source is code of the user's, and not HTTP."""

    @property
    def asks_for_key(self) -> bool:
        """Whether a callable must be asked for the key first; one that is at hand is taken."""
        if not self.credential.fixed and self.key is None:
            self.key = self.credential.at_hand()
            return self.key is None
        return False

    def outgoing(self) -> Outgoing:
        """The HTTP request, once ``key`` is known."""
        raise NotImplementedError

    def started(self) -> object:
        """What the user's code returned when it was called."""
        raise NotImplementedError

    def told(self, fault: Fault) -> None:
        """An answer said that a feature is unsupported."""

    def again(self, failure: AttemptFailed) -> None:
        """Prepare to send the request once more: without sealed reasoning that was refused, or with another key than
        the one that was.  Raises the failure if it is about something else, or nothing would be different."""
        raise failure

    def goes_on(self) -> bool:
        """Whether the vendor divided the answer, and another part of it is to be asked for."""
        return False

    def streams(self) -> bool:
        """Whether the content of a stream has begun, and more may follow."""
        return self.answer is None and self.subject.streaming

    def head(self, status: int | None, headers: Mapping[str, str]) -> None:
        """The head of the answer arrived."""
        raise NotImplementedError

    def feed(self, piece: object | None, now: float) -> None:
        """A piece of the answer arrived; ``None``: it ended.  Raises ``AttemptFailed`` if it is no answer."""
        raise NotImplementedError

    # --- shared ---

    def renew(self) -> None:
        """The provider's time began anew: the key is there."""
        self.limit.until = self.attempt.started + self.attempt.timeout

    def due_at(self) -> float:
        """Monotonic time at which its own timer is due: for the first sign of life, and later for the next content."""
        if self.reading is not None and self.reading.committed:
            return self.reading.silent_at()
        return self.attempt.started + self.attempt.timeout

    def _reading(self, decoder: Any, interpreter: Any) -> Reading:
        policies, request = self.subject.policies, self.subject.request
        allow_empty = not self.subject.streaming or not isinstance(request, ChatRequest) or request.allow_empty
        now, resumption = self.subject.clock(), self.subject.resumption
        splice = None if resumption is None else resumption.splice(self.provider, self._capabilities)
        return Reading(
            decoder,
            interpreter,
            policies.stream,
            policies.timeouts,
            now,
            allow_empty=allow_empty,
            splice=splice,
            forwards=self._forwards,
        )

    @property
    def _forwards(self) -> bool:
        """Whether its answer is kept as it came."""
        return False

    @property
    def _capabilities(self) -> Capabilities | None:
        """What its provider can do; ``None``: code of the user's."""
        return None

    def _request(self) -> ChatRequest:
        """The request as it is to be made here: the caller's, or one that goes on with an answer."""
        request, resumption = self.subject.request, self.subject.resumption
        assert isinstance(request, ChatRequest)
        if resumption is None:
            self.degradations = ()
            return request
        request, self.degradations = resumption.asked(self.provider, self._capabilities)
        return request

    def _gathered(self, reading: Reading, now: float) -> None:
        """More of a stream that is put together to a whole answer.  From its first content on it may take as long as
        it goes on; its parts are silent for no longer than those of a stream may be."""
        reading.ready.clear()
        if reading.ended:
            self.answer, self.enough = reading.response(), True
        elif reading.committed:
            deadline = self.attempt.ask.deadline
            if self.attempt.content_at is None and not self.lost:
                self.subject.pool.first_content(self.attempt, now)
                if self.extend is not None:
                    self.extend(deadline)
            self.limit.until = min(reading.silent_at(), deadline)

    def check(self) -> None:
        """Raise what the stream found wrong, if anything."""
        reading = self.reading
        if reading is not None and reading.fault is not None:
            fault = reading.fault
            raise AttemptFailed(fault if fault.status is not None else replace(fault, status=self.status))

    def used(self, usage: Usage | None) -> tuple[int, int]:
        """The tokens of the answer, and those that count against the rate limit; 0: unknown."""
        if usage is None:
            return 0, 0
        provider = self.provider
        counted = provider.counted(usage) if isinstance(provider, HttpProvider) else usage.total_tokens
        return usage.output_tokens, counted

    def response(self) -> Response:
        """The answer so far, or the whole one."""
        if self.answer is not None:
            return self.answer
        assert self.reading is not None
        return self.reading.response()
