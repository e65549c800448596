"""The sync driver: the only place where the sync client waits.

``Driver`` and its twin in ``aio`` follow the same text; a test compares them.  What differs by nature, how two
attempts run at once and how a single wait is bounded, is in the classes below it.
"""

from __future__ import annotations

import contextvars
import math
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Generic, Protocol, TypeAlias, TypeVar

from resilient_llm.decide.call import Wait
from resilient_llm.decide.member import Attempt
from resilient_llm.drive.core import Target
from resilient_llm.drive.http import Answer, Http
from resilient_llm.drive.opened import Opened, check, feed_item, finish_items, silence
from resilient_llm.drive.reading import Reading
from resilient_llm.drive.task import Request, Response, Task
from resilient_llm.drive.workers import Workers
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, StreamEvent
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.custom import Custom, as_answer
from resilient_llm.wire.kit.accumulate import replay

R = TypeVar("R")
Perform: TypeAlias = Callable[[Task[Request], Attempt[Target]], R]
Inbox: TypeAlias = "queue.SimpleQueue[tuple[Contender[R], R | BaseException]]"


class Driver:
    """Carries out calls."""

    def __init__(self, http: Http, max_bytes: int) -> None:
        self.http = http
        self.max_bytes = max_bytes
        self.workers: Workers = Workers()
        self.orphans: deque[OpenStream] = deque()
        """Streams dropped without being closed, put here by their finalisers."""

    def run(self, task: Task[Request], perform: Perform[Request, R]) -> tuple[Attempt[Target], R]:
        """Attempts and waits until one attempt succeeds.  Raises the call's final error."""
        self.bury()
        while True:
            step = task.next()
            if isinstance(step, Wait):
                self.pause(task, step)
            elif step.rescue_after is None or step.rescue_after >= step.timeout:
                result = self.attempt(task, step, perform)
                if result is not None:
                    return step, result
            else:
                won = self.race(task, step, step.rescue_after, perform)
                if won is not None:
                    return won

    def pause(self, task: Task[Request], wait: Wait) -> None:
        """Wait before the next attempt."""
        try:
            time.sleep(wait.seconds)
        except BaseException:
            task.interrupted()
            raise

    def attempt(self, task: Task[Request], attempt: Attempt[Target], perform: Perform[Request, R]) -> R | None:
        """One attempt; ``None`` if it failed."""
        trace = task.trace_of(attempt)
        token = trace.attach()
        try:
            return perform(task, attempt)
        except Exception as error:
            task.fell(attempt, error)
            return None
        except BaseException:
            task.abandoned(attempt)
            raise
        finally:
            trace.detach(token)

    def ask(self, task: Task[Request], attempt: Attempt[Target]) -> Response:
        """Ask for a whole answer."""
        provider = attempt.target
        if isinstance(provider, Custom):
            return self.ask_custom(task, attempt, provider)
        key = self.key(task, attempt, provider)
        answer = self.send(task, attempt, provider, key)
        try:
            body = answer.read(self.max_bytes)
        finally:
            close(answer)
        task.learn(attempt, provider, answer.headers)
        return task.understood(provider, answer.status, answer.headers, body)

    def open(self, task: Task[ChatRequest], attempt: Attempt[Target]) -> OpenStream:
        """Ask for a stream, and wait for its first content."""
        provider = attempt.target
        source: Source
        key = None if isinstance(provider, Custom) else self.key(task, attempt, provider)
        if isinstance(provider, Custom):
            source = self.open_custom(task, attempt, provider)
        else:
            source = HttpSource(self.open_http(task, attempt, provider, key), self.max_bytes)
        stream = OpenStream(task, attempt, task.reading(attempt), source)
        try:
            stream.begin()
        except BaseException:
            close(source)
            raise
        return stream

    def open_http(
        self, task: Task[ChatRequest], attempt: Attempt[Target], provider: HttpProvider, key: str | None
    ) -> Answer:
        """The head of a streamed answer.  Raises ``AttemptFailed`` if it is none."""
        answer = self.send(task, attempt, provider, key)
        try:
            task.learn(attempt, provider, answer.headers)
            if not 200 <= answer.status < 300:
                body = answer.read(self.max_bytes)
                raise task.refused(provider, answer.status, answer.headers, body)
        except BaseException:
            close(answer)
            raise
        return answer

    def send(self, task: Task[Request], attempt: Attempt[Target], provider: HttpProvider, key: str | None) -> Answer:
        """Send the request."""
        prepared = task.prepare(attempt, provider, key)
        answer = self.http.post(prepared, task.timeouts(attempt))
        answer.reads.until = attempt.started + attempt.timeout
        answer.reads.bind()
        return answer

    # --- by nature different from the twin ---

    def key(self, task: Task[Request], attempt: Attempt[Target], provider: HttpProvider) -> str | None:
        """The key now; a callable cannot be interrupted."""
        if provider.credential.fixed:
            return provider.credential.get()
        task.asking(attempt, provider)
        key = provider.credential.get()
        task.asked(attempt)
        return key

    def ask_custom(self, task: Task[Request], attempt: Attempt[Target], provider: Custom) -> Response:
        """Ask a provider the user wrote."""
        assert isinstance(task.request, ChatRequest)
        answer = as_answer(_sync_only(provider).start(task.request, attempt.timeout, stream=False))
        if isinstance(answer, ChatResponse):
            return answer
        assert isinstance(answer, Iterator)
        reading = task.reading(attempt)
        source = IteratorSource(answer)
        source.within(attempt.started + attempt.timeout)
        try:
            while source.pull(reading, task.owner.clock):
                check(reading)
        finally:
            source.close()
        check(reading)
        return reading.response()

    def open_custom(self, task: Task[ChatRequest], attempt: Attempt[Target], provider: Custom) -> Source:
        """Open the stream of a provider the user wrote."""
        answer = as_answer(_sync_only(provider).start(task.request, attempt.timeout, stream=True))
        if isinstance(answer, ChatResponse):
            return IteratorSource(iter(replay(answer)))
        assert isinstance(answer, Iterator)
        return IteratorSource(answer)

    def race(
        self, task: Task[Request], first: Attempt[Target], rescue_after: float, perform: Perform[Request, R]
    ) -> tuple[Attempt[Target], R] | None:
        """An attempt, and a second one elsewhere if it stays silent; the first success wins.  ``None`` if none did.

        Each runs in a thread of its own, because a blocked read cannot be left in any other way.  The loser's thread
        ends by itself at the latest when its attempt times out, and what it then brings is thrown away.
        """
        inbox: Inbox[R] = queue.SimpleQueue()
        contenders = [Contender(task, first, perform, inbox)]
        patience = rescue_after
        try:
            if not contenders[0].start(self.workers):  # no more threads: do without a rescue
                plain = self.attempt(task, first, perform)
                return None if plain is None else (first, plain)
            while running := [one for one in contenders if not one.attempt.released]:
                try:
                    contender, result = inbox.get(timeout=patience)
                except queue.Empty:
                    _give_up_late_ones(task, running)
                    rescue = task.rescue(first) if len(contenders) == 1 else None
                    if rescue is not None:
                        contenders.append(Contender(task, rescue, perform, inbox))
                        if not contenders[-1].start(self.workers):
                            task.overtaken(rescue)
                    patience = _patience(task, contenders)
                    continue
                if isinstance(result, Exception):
                    task.fell(contender.attempt, result)
                    if len(contenders) == 1:
                        return None
                elif isinstance(result, BaseException):
                    raise result
                else:
                    _leave(task, contenders, contender, inbox)
                    return contender.attempt, result
            return None
        except BaseException:
            _leave(task, contenders, None, inbox)
            raise

    def bury(self) -> None:
        """Close what finalisers left behind."""
        while self.orphans:
            with suppress(Exception):  # another thread may have taken the last one
                self.orphans.popleft().close()


class Contender(Generic[R]):
    """One attempt of a race, in a thread of its own that carries the caller's context."""

    def __init__(
        self, task: Task[Request], attempt: Attempt[Target], perform: Perform[Request, R], inbox: Inbox[R]
    ) -> None:
        self.attempt = attempt
        self._work = partial(perform, task, attempt)
        self._trace = task.trace_of(attempt)
        self._inbox = inbox
        self._lock = threading.Lock()
        self._unwanted = False

    def start(self, workers: Workers) -> bool:
        """Begin; false if there can be no more threads."""
        return workers.start(partial(contextvars.copy_context().run, self._run))

    def dismiss(self) -> None:
        """Whatever it brings from now on is thrown away."""
        with self._lock:
            self._unwanted = True

    def _run(self) -> None:
        token = self._trace.attach()
        try:
            result: R | BaseException = self._work()
        except BaseException as error:
            result = error
        finally:
            self._trace.detach(token)
        with self._lock:
            if not self._unwanted:
                self._inbox.put((self, result))
                return
        _discard(result)


class Closable(Protocol):
    """What holds a connection."""

    def close(self) -> None: ...


def close(held: Closable) -> None:
    """Let go of a connection; that it was broken is known already or does not matter any more."""
    with suppress(Exception):
        held.close()


class Source(Protocol):
    """Where the pieces of a stream come from."""

    def pull(self, reading: Reading, clock: Callable[[], float]) -> bool:
        """Fetch one more piece into the reading; false at the end."""
        ...

    def within(self, until: float) -> None:
        """The next piece must arrive by this monotonic time, as far as this source can see to it."""
        ...

    def drain(self, until: float) -> None:
        """The answer is complete: take what little may follow, so that the connection can be used again."""
        ...

    def sever(self) -> None:
        """Cut it off at once without any lock, for finalisers."""
        ...

    def close(self) -> None: ...


class HttpSource:
    """Bytes of an HTTP answer."""

    def __init__(self, answer: Answer, limit: int) -> None:
        self._answer = answer
        self._limit = limit

    def pull(self, reading: Reading, clock: Callable[[], float]) -> bool:
        data = self._answer.chunk(self._limit)
        if data is None:
            reading.eof(clock())
            return False
        reading.feed(data, clock())
        return True

    def within(self, until: float) -> None:
        self._answer.reads.until = until

    def drain(self, until: float) -> None:
        self._answer.reads.until = until
        with suppress(Exception):
            while self._answer.chunk(self._limit) is not None:
                pass

    def sever(self) -> None:
        self._answer.reads.sever()

    def close(self) -> None:
        self._answer.close()


class IteratorSource:
    """Pieces from a provider the user wrote.  Only that provider can bound its waits: it was given the timeout.  Here a
    piece that came too late is noticed when it comes."""

    def __init__(self, items: Iterator[object]) -> None:
        self._items = items
        self._until = math.inf

    def pull(self, reading: Reading, clock: Callable[[], float]) -> bool:
        for item in self._items:
            now = clock()
            if now > self._until:
                raise TimeoutError("the next piece came too late")
            feed_item(reading, item, now)
            return True
        finish_items(reading, clock())
        return False

    def within(self, until: float) -> None:
        self._until = until

    def drain(self, until: float) -> None:
        pass

    def sever(self) -> None:
        pass

    def close(self) -> None:
        close = getattr(self._items, "close", None)
        if close is not None:
            close()


_DRAIN = 0.05  # seconds an ended answer may take to let go of its connection
_GRACE = 0.02  # seconds an attempt may take to notice by itself that its time is up


class OpenStream(Opened):
    """A stream from its first content on."""

    __slots__ = ("source",)

    def __init__(self, task: Task[ChatRequest], attempt: Attempt[Target], reading: Reading, source: Source) -> None:
        super().__init__(task, attempt, reading)
        self.source: Source = source

    def begin(self) -> None:
        """Read up to the first content.  Raises what prevents it."""
        reading, clock = self.reading, self.task.owner.clock
        self.source.within(self.until())
        while not reading.committed:
            more = self.source.pull(reading, clock)
            check(reading)
            if not more:
                break
            self.punctual(self.until())
        self.committed()

    def next(self) -> StreamEvent | None:
        """The next event; ``None`` at the end of the answer.  Raises ``StreamInterrupted`` if it breaks."""
        reading = self.reading
        if self.over:
            return None
        if not reading.ready and not reading.ended:
            self.wait()
        if reading.ready:
            return reading.ready.popleft()
        self.end()
        return None

    def wait(self) -> None:
        """Read until there is something to hand over, or the end."""
        reading, clock = self.reading, self.task.owner.clock
        try:
            check(reading)
            reading.waiting(clock())
            while not reading.ready and not reading.ended:
                self.pull_within(self.until())
                if not reading.ready:
                    check(reading)
                    self.punctual(self.until())
        except Exception as error:
            if self.over:  # closed meanwhile by somebody else, which is why the read failed
                return
            failure = self.broken(silence(error, reading))
            close(self.source)
            raise failure from failure.__cause__
        except BaseException:
            self.close()
            raise

    def pull_within(self, until: float) -> None:
        """One more piece, in time as far as the source can see to it."""
        self.source.within(until)
        self.source.pull(self.reading, self.task.owner.clock)

    def end(self) -> None:
        """The answer is complete and handed over."""
        if not self.over:
            try:
                self.source.drain(self.task.owner.clock() + _DRAIN)
            finally:
                self.completed()
                close(self.source)

    def close(self) -> None:
        """Let go of the connection at once, whatever is left, also while another thread reads from it."""
        self.closed()
        self.source.sever()
        close(self.source)


def _leave(task: Task[Request], contenders: list[Contender[R]], winner: Contender[R] | None, inbox: Inbox[R]) -> None:
    """End the attempts that are still under way: overtaken by a winner, or abandoned with the call."""
    for contender in contenders:
        if contender is winner:
            continue
        contender.dismiss()
        if winner is not None:
            task.overtaken(contender.attempt)
        else:
            task.abandoned(contender.attempt)
    while not inbox.empty():  # it brought something in the same instant
        _discard(inbox.get()[1])


def _give_up_late_ones(task: Task[Request], running: list[Contender[R]]) -> None:
    """Time out what should have timed out by itself: name resolution, code of the user's and dripping headers cannot
    be interrupted."""
    for contender in running:
        attempt = contender.attempt
        if task.owner.clock() >= attempt.started + attempt.timeout + _GRACE:
            contender.dismiss()
            task.failed(attempt, TimeoutError("gave no answer in time"))


def _patience(task: Task[Request], contenders: list[Contender[R]]) -> float:
    """Seconds until one of them should have timed out by itself, or until a rescue that was refused may be asked for
    again."""
    ends = [one.attempt.started + one.attempt.timeout + _GRACE for one in contenders if not one.attempt.released]
    first = contenders[0].attempt
    if len(contenders) == 1 and first.rescue_after is not None:
        ends.append(first.started + first.rescue_after)
    return max(0.0, min(ends, default=0.0) - task.owner.clock())


def _discard(result: object) -> None:
    """Throw away what a loser brought."""
    if isinstance(result, OpenStream):
        close(result.source)


def _sync_only(provider: Custom) -> Custom:
    if provider.is_async:
        raise ConfigurationError(f"{provider!r} is async, which only AsyncResilientClient can ask")
    return provider
