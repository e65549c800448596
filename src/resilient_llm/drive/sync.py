"""The sync driver: the only place where the sync client waits.

``Driver`` and ``OpenStream`` and their twins in ``aio`` follow the same text; a test compares them.  What differs by
nature, how attempts run at once and how the user's code is called, is in the classes below them.
"""

from __future__ import annotations

import contextvars
import math
import threading
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import suppress
from typing import Any

from resilient_llm.decide.call import Wait
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.engines import Engine, Limit, Seam, Source
from resilient_llm.drive.exchange import AnyExchange, FromCode
from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.drive.opened import Opened
from resilient_llm.drive.race import Race
from resilient_llm.drive.task import Task
from resilient_llm.drive.under_way import UnderWay, closed
from resilient_llm.drive.workers import Workers
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, StreamEvent
from resilient_llm.providers.custom import as_answer
from resilient_llm.providers.network import Network

_LOOK = 0.5  # seconds between two looks at a rescue that runs in another thread
_EARLY = 0.005  # seconds a timer may come too early


class Driver:
    """Carries out calls."""

    def __init__(self, owner: ProviderPool, engine: Engine) -> None:
        self.owner = owner
        self.seam: Seam[Engine] = Seam()
        self.workers: Workers = Workers()
        self._under_way = UnderWay()
        self._under_way.engine = engine

    def run(self, task: Task[Any]) -> AnyExchange:
        """Attempts and waits until one attempt is answered to the caller's liking, or streams its first content.

        Raises the call's final error."""
        under_way = self.under_way()
        if under_way.orphans:
            self.tidy(under_way)
        task.under_way = under_way
        with task:
            while True:
                step = task.next()
                if isinstance(step, Wait):
                    self.pause(under_way, task, step)
                    continue
                won = Contest(self, under_way, task, step).run()
                if won is not None and task.accept(won, self.verdict(task, won)):
                    return won

    def open(self, task: Task[ChatRequest]) -> OpenStream:
        """A stream, from its first content on."""
        return OpenStream(task, self.run(task), self.under_way(), self)

    def carry(self, under_way: UnderWay, task: Task[Any], exchange: AnyExchange) -> Exception | None:
        """Carry out an attempt; returns what it raised."""
        assert exchange.observer is not None
        token = exchange.observer.attach()
        under_way.began(exchange)
        try:
            self.perform(under_way, task, exchange)
        except Exception as error:
            return under_way.error_of(error)
        finally:
            under_way.exchanges.discard(exchange)
            exchange.observer.detach(token)
        return None

    def answered(self, under_way: UnderWay, task: Task[Any], exchange: AnyExchange) -> None:
        """Send and read; once more, without sealed reasoning or with another key, if that was refused; and part by part
        if the vendor divided the answer."""
        while True:
            try:
                self.exchanged(task, exchange, self.source(under_way, task, exchange))
                if not exchange.goes_on():
                    return
            except AttemptFailed as failure:
                exchange.again(failure)

    def exchanged(self, task: Task[Any], exchange: AnyExchange, source: Source) -> None:
        """Read until there is enough: a whole answer, a part of it, or the first content of a stream."""
        try:
            exchange.head(source.status, source.headers)
            while not exchange.enough:
                exchange.feed(self.pull(source), self.owner.clock())
        except BaseException:
            close(source)
            raise
        if not task.streams(exchange, source):
            close(source)

    def tidy(self, under_way: UnderWay) -> None:
        """Close what finalisers left behind."""
        while under_way.orphans:
            with suppress(Exception):  # another thread may have taken the last one
                under_way.orphans.popleft().close()

    # --- by nature different from the twin ---

    def under_way(self) -> UnderWay:
        """What is under way."""
        return self._under_way

    def perform(self, under_way: UnderWay, task: Task[Any], exchange: AnyExchange) -> None:
        """Send, and read until there is enough.  Every operation is bounded by the exchange's limit."""
        try:
            task.take_key(exchange)
            self.answered(under_way, task, exchange)
        except Exception:
            raise
        except BaseException:
            exchange.limit.discard()
            raise

    def source(self, under_way: UnderWay, task: Task[Any], exchange: AnyExchange) -> Source:
        """Send the request, or call the user's code."""
        if exchange.by_code:
            return CodeSource(exchange)
        if exchange.refused is not None:
            task.take_key(exchange)
        engine: Engine = under_way.engine
        if self.seam.altered:
            engine = self.seam.engine(engine)
        return engine.send(exchange.outgoing(), exchange.limit)

    def pull(self, source: Source) -> object | None:
        """The next piece."""
        return source.read()

    def verdict(self, task: Task[Any], exchange: AnyExchange) -> object:
        """What the caller's check says."""
        return task.verdict(exchange)

    def pause(self, under_way: UnderWay, task: Task[Any], wait: Wait) -> None:
        """Wait before the next attempt: so long, or until it is this call's turn."""
        if self.owner.wait is not None:
            self.owner.wait(wait.seconds)
            return
        woken = threading.Event()
        under_way.waiting.add(woken.set)
        try:
            place = wait.place
            if place is not None:
                place.wake = woken.set
                under_way.in_line.add(woken.set)
            if not (place is not None and place.woken) and not under_way.closing:
                woken.wait(min(wait.seconds, threading.TIMEOUT_MAX))
            if under_way.closing:
                raise closed()
        except BaseException:
            task.interrupted()
            raise
        finally:
            under_way.waiting.discard(woken.set)
            under_way.in_line.discard(woken.set)

    def retain(self, networks: AbstractSet[Network]) -> None:
        """Close connections of providers that are no more."""
        self._under_way.retain(networks)

    def close(self, drain: float) -> None:
        """Close: who waits is told so at once, what runs may finish within ``drain`` seconds and is ended then."""
        under_way = self.under_way()
        emptied = threading.Event()
        under_way.emptied = emptied.set
        under_way.wake()
        self.tidy(under_way)
        if under_way.calls and drain > 0:
            emptied.wait(min(drain, threading.TIMEOUT_MAX))
        under_way.end()
        self.tidy(under_way)
        under_way.engine.close()


class OpenStream(Opened):
    """A stream from its first content on."""

    def next(self) -> StreamEvent | None:
        """The next event; ``None`` at the end of the answer.  Raises ``StreamInterrupted`` if it breaks."""
        while self.hungry():
            self.step()
        event = self.ready()
        if event is None:
            self.end()
        return event

    def step(self) -> None:
        """Read one piece.  Raises ``StreamInterrupted`` if it breaks."""
        try:
            self.bound()
            if self.take(self.pull()):
                close(self.source)
                self.part(self.driver.source(self.under_way, self.task, self.exchange))
        except Exception as error:
            if not self.over:  # else closed meanwhile by somebody else, which is why the read failed
                self.go_on(error)
        except BaseException:
            self.close()
            raise

    def go_on(self, error: Exception) -> None:
        """It broke: let another attempt go on with the answer, or raise what ends it."""
        failure = self.broken(error)
        close(self.source)
        with self.between(failure):
            if not self.reading.ended:
                self.taken_over(self.driver.run(self.task))

    def end(self) -> None:
        """The answer is complete and handed over."""
        if not self.over:
            with self.ending():
                while not self.exchange.by_code and self.pull() is not None:
                    pass
            close(self.source)

    def close(self) -> None:
        """Let go of the connection at once, whatever is left, also while another thread reads from it."""
        self.closed()
        close(self.source)

    def pull(self) -> object | None:
        """The next piece."""
        piece: object | None = self.source.read()
        return piece


class Contest(Race):
    """The first attempt runs in the caller's thread, and its reads see to the timer; a second one runs in a thread of
    its own.  What the engine cannot bound (code of the user's, a client of theirs, a callable asked for a key), and a
    trial, which may have to run on, have a thread of their own from the start."""

    __slots__ = ("_changed", "_driver", "_lock", "_under_way")

    def __init__(self, driver: Driver, under_way: UnderWay, task: Task[Any], first: AnyExchange) -> None:
        super().__init__(task, first)
        self._driver = driver
        self._under_way = under_way
        self._lock = threading.Lock()
        self._changed: threading.Event | None = None

    def run(self) -> AnyExchange | None:
        """The winner, or ``None``.  Raises what ends the call."""
        first = self.first
        bounded = self._under_way.engine.bounded and not self._driver.seam.altered
        unbounded = not first.by_code and not bounded and self.task.owner.wait is None
        try:
            if not ((self.apart() or unbounded or (first.by_code and not self.alone)) and self._start(first)):
                first.limit.on_due = self._due
                self._arm()
                # in a context of its own: an interrupt at any instant leaves nothing current in the caller's
                contextvars.copy_context().run(self._carried, first)
                first.limit.on_due, first.limit.due_at = None, math.inf  # the caller sees to the timer from now on
            if not self.over:
                self._changed = threading.Event()
            while not self.over and self._changed is not None:
                self._step(self._changed)
        except BaseException:
            with self._lock:
                self.leave()
                won = self.won
            if won is not None:  # interrupted in the instant in which it succeeded
                self.task.abandoned(won)
                self._alone(won, None)
            raise
        finally:  # they refer to each other, and nothing is to wait for the garbage collector
            first.limit.due_at, first.limit.on_due = math.inf, None
        return self.outcome()

    def _step(self, changed: threading.Event) -> None:
        """Wait until one of them has ended, or for the time of the next."""
        if changed.wait(min(self.patience(), threading.TIMEOUT_MAX)):
            changed.clear()
            return
        with self._lock:
            self.give_up_late_ones()
            due = self.next_due()
        if due is not None and due <= 0.0:
            self._due()

    def _arm(self) -> None:
        """Come to the rescue when it is due, while the first attempt waits."""
        if self.first.limit.on_due is None:  # it has a thread of its own, and the caller sees to the timer
            return
        due = self.next_due()
        look = _LOOK if len(self.running) > 1 else math.inf  # how the others do is learnt by looking
        self.first.limit.due_at = self.task.owner.clock() + (look if due is None else min(due, look))
        if due == 0.0:
            self.first.limit.due()

    def _due(self) -> None:
        """The rescue is due: another attempt, or another look later."""
        with self._lock:
            due = self.next_due()
            found = self.due() if due is not None and due < _EARLY else None
        if found is not None and not self._start(found):
            with self._lock:
                self.ended(found, RuntimeError("no thread could be started for a rescue"))
        self._arm()

    def _start(self, exchange: AnyExchange) -> bool:
        """Begin in a thread; false if there can be no more of them."""
        context = contextvars.copy_context()
        return self._driver.workers.start(lambda: context.run(self._beside, exchange))

    def _beside(self, exchange: AnyExchange) -> None:
        """An attempt in a thread of its own."""
        try:
            self._carried(exchange)
        except BaseException as interrupted:  # by whoever ends threads
            with self._lock:
                self.ended(exchange, interrupted)
        if self._changed is not None:
            self._changed.set()

    def _carried(self, exchange: AnyExchange) -> None:
        error = self._driver.carry(self._under_way, self.task, exchange)
        with self._lock:
            lost = exchange.lost
            if not lost:
                self.ended(exchange, error)
        if lost:
            self._alone(exchange, error)

    def _alone(self, exchange: AnyExchange, error: BaseException | None) -> None:
        """It lost: report what a trial has shown, and throw the rest away."""
        self.task.judge(exchange, error)
        if exchange.source is not None:
            close(exchange.source)


def close(held: Source) -> None:
    """Let go of a connection; that it was broken is known already or does not matter any more."""
    with suppress(Exception):
        held.close()


class CodeSource(FromCode):
    """Pieces from a provider the user wrote.  Only that provider can bound its waits: it was given the timeout.  Here a
    piece that came too late is noticed when it comes; a whole answer that came too late is still an answer."""

    status: int | None = None
    headers: Mapping[str, str] = {}

    def __init__(self, exchange: AnyExchange) -> None:
        if exchange.provider.needs_loop:
            raise ConfigurationError(f"{exchange.provider!r} is async, which only AsyncResilientClient can ask")
        found = as_answer(exchange.started())
        self._whole = not isinstance(found, Iterator)
        self._items: Iterator[object] = found if isinstance(found, Iterator) else iter((found,))
        self._limit: Limit = exchange.limit
        self._context = contextvars.copy_context()  # one for all pieces: what a generator sets in it, it can reset

    def read(self) -> object | None:
        """The next piece; ``None`` at the end."""
        item = self._context.run(next, self._items, None)
        if item is not None and not self._whole:
            self._limit.left()
        return item

    def close(self) -> None:
        """Close the user's iterator."""
        close: Callable[[], object] | None = getattr(self._items, "close", None)
        if close is not None:
            self._context.run(close)
