"""The providers of a client and everything they share: the routing table, the budgets, the lines, the lock.

One lock guards a whole pool.  It is held for a few microseconds of arithmetic and never across I/O, a callback, a log
line or an ``await``; one acquisition chooses *and* takes the lease, so two callers can never both get the last
permit.  A plain ``threading.Lock`` serves the sync client, the async client, any number of event loops and
free-threaded builds alike.

Finalisers may run on the very thread that holds the lock, so an attempt abandoned by the garbage collector is only
put on a queue (:meth:`Pool.abandon_later`), and whoever takes the lock next releases it.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TypeGuard

from resilient_llm import events
from resilient_llm.decide.ask import Ask
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.leases import SUCCESS_EARNS, Past
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import T
from resilient_llm.decide.outcome import OF_A_KEY, OK, Outcome
from resilient_llm.decide.pace import Limit
from resilient_llm.decide.shared import Shared
from resilient_llm.decide.verdict import our_network
from resilient_llm.decide.waiting import Refused
from resilient_llm.faults import Fault


class Pool(Shared[T]):
    """Shared by the clients that use it, the sync and the async one alike.  All times are monotonic seconds.

    ``draw`` returns random numbers from [0, 1); ``listening`` makes it record attempt events too (state changes are
    always recorded, for :meth:`take_events`).
    """

    # --- the life of an attempt ---

    def acquire(self, ask: Ask, past: Past, now: float) -> Attempt[T] | Refused:
        """Choose a provider and take a lease on it, or stand in line and be told how long to wait."""
        with self._lock:
            if self._abandoned:
                self._settle(now)
            if past.place is not None:
                past.place.woken = False
            self._verdicts.look(now)
            found = self._acquired(ask, past, now)
        if self._waiting.woken:
            self._wake()
        return found

    def _acquired(self, ask: Ask, past: Past, now: float) -> Attempt[T] | Refused:
        """The same under the lock; a recording pool writes down what this looks at."""
        leased = self._leases.acquire(ask, past, now)
        if isinstance(leased, Attempt):
            if past.place is not None or leased.member.line.waiting:
                self._left_line(leased, past.place, now)
            return leased
        return self._refused(ask, past, self._leases.extra.wait(past.cost) if leased else None, now)

    def _left_line(self, attempt: Attempt[T], place: Place | None, now: float) -> None:
        """A call that waited, or others wait for the same provider, has its lease."""
        line = attempt.member.line
        if line.waiting and (place is None or place.offer is not line):
            line.served(attempt.ask.tenant)
        if place is not None:
            self._waiting.leave(place, now)
        elif attempt.trial:  # the next one may follow it soon
            self._waiting.serve(attempt.member, now)

    def _refused(self, ask: Ask, past: Past, budget: float | None, now: float) -> Refused:
        place = past.place
        found = self._waiting.refuse(ask, past, budget, now)
        if place is not None and place.offer is not None:
            self._waiting.pass_on(place, place.offer, now)
        return found

    def leave(self, place: Place, now: float) -> None:
        """A call stops waiting."""
        with self._lock:
            self._waiting.leave(place, now)
        self._wake()

    def rescue(self, beside: Attempt[T], past: Past | None, now: float) -> Attempt[T] | None:
        """A second attempt beside one that is silent; ``None`` if there is to be none now, and ``beside.rescue_after``
        says when to ask again.  ``past=None``: the call wants none any more."""
        with self._lock:
            if past is None:
                beside.rescue_after = None
                return None
            found = self._rescued(beside, past, now)
        self._wake()
        return found

    def _rescued(self, beside: Attempt[T], past: Past, now: float) -> Attempt[T] | None:
        return self._leases.rescue(beside, past, now)

    def rescue_again(self, attempt: Attempt[T], pause: float, now: float) -> None:
        """The rescue beside this attempt failed: after a pause there may be another one."""
        with self._lock:
            if attempt.content_at is None and attempt.ask.hedged and self.policies.hedge.enabled:
                again = now - attempt.started + pause
                attempt.rescue_after = again if again < attempt.timeout else None

    def wait_for_key(self, attempt: Attempt[T]) -> None:
        """A callable is asked for the key: until it answers, nobody waits for the provider, whose silence therefore
        proves nothing."""
        with self._lock:
            attempt.waits_for_key = True
            attempt.member.pending.pop(attempt, None)

    def key_came(self, attempt: Attempt[T], now: float) -> bool:
        """The key is there, and the provider's time begins; false if it came too late."""
        with self._lock:
            took = now - attempt.started
            if attempt.released or took > attempt.timeout:
                return False
            attempt.waits_for_key = False
            attempt.started, attempt.delay = now, attempt.delay + took
            attempt.timeout = min(attempt.timeout, attempt.ask.deadline - now)
            attempt.member.pending[attempt] = now
            return True

    def first_content(self, attempt: Attempt[T], now: float) -> None:
        """The attempt gave its first sign of life: the verdict of a trial, and a latency sample.  At most once."""
        with self._lock:
            if attempt.content_at is None and not attempt.released:
                self._verdicts.first_content(attempt, now)
                self._serve(now, attempt.member)
        self._wake()

    def succeeded(self, attempt: Attempt[T], now: float, output_tokens: int = 0, tokens: int = 0) -> None:
        """The attempt is over and was answered.  ``tokens``: what it took of the rate limit; 0: unknown."""
        with self._lock:
            if self._abandoned:
                self._settle(now)
            if attempt.released:
                return
            self._verdicts.answered(attempt, output_tokens, now)
            if tokens and attempt.key.pace.limited:
                attempt.key.pace.settle(attempt.need, attempt.ask.tokens, tokens, output_tokens)
            extra = self._leases.extra
            if extra.tokens < extra.cap:
                extra.earn(SUCCESS_EARNS)
            self._release(attempt, OK, now)
        if self._waiting.woken:
            self._wake()

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> bool:
        """The attempt is over and failed.  Returns whether it counts among the attempts of its call: a trial of a
        provider that is down, a refusal that says when to come back, or the loss of our own network does not."""
        with self._lock:
            self._settle(now)
            if attempt.released:
                return True
            outcome = self._verdicts.failed(attempt, fault, now)
            self._verdicts.close_gates(attempt, fault, now)
            if outcome is not Outcome.GATED and (fault.status is not None or fault.code == "not_sent"):
                attempt.key.pace.give_back(attempt.need)
            self._release(attempt, outcome, now)
            if fault.kind in OF_A_KEY and not attempt.refused_alone:
                attempt.other_key = attempt.member.other_key(attempt.key, attempt.ask, now)
            trial = attempt.trial and outcome is not Outcome.NEUTRAL  # else nothing would bound or space them
            counted = not (trial or our_network(self._table.members.values(), now) or attempt.other_key)
        self._wake()
        return counted

    def abandoned(self, attempt: Attempt[T], now: float) -> None:
        """The attempt ended without a verdict (cancelled, closed): it judges nobody."""
        with self._lock:
            self._settle(now)
            self._release(attempt, Outcome.NEUTRAL, now)
        self._wake()

    def expired(self, attempt: Attempt[T], fault: Fault, silence: float, now: float) -> bool:
        """The call's own deadline ended the attempt; returns whether that speaks against its provider: it was late by
        its own measure, or its stream was silent for longer than it usually pauses."""
        with self._lock:
            self._settle(now)
            if attempt.released:
                return False
            outcome = self._verdicts.expired(attempt, fault, silence, now)
            if attempt.content_at is None:
                attempt.member.line.latest_first = True
            self._release(attempt, outcome, now)
        self._wake()
        return outcome is not Outcome.NEUTRAL

    def overtaken(self, attempt: Attempt[T], fault: Fault, now: float) -> tuple[bool, bool]:
        """Another attempt of the same call won.  Returns whether this one runs on until it is judged (a trial), and
        whether its lateness speaks against its provider.

        Without the second a provider that hangs, rescued every time, would never be found out.
        """
        with self._lock:
            self._settle(now)
            if attempt.released:
                return False, False
            if attempt.trial and attempt.content_at is None and now - attempt.started < attempt.timeout:
                return True, False
            late = attempt.late(now)
            self._release(attempt, self._verdicts.overtaken(attempt, fault, now), now)
        self._wake()
        return False, late

    def abandon_later(self, attempt: Attempt[T]) -> None:
        """As :meth:`abandoned`, but safe in a finaliser: takes no lock; the next operation releases it."""
        self._abandoned.append(attempt)

    def disown(self, call: int, now: float) -> None:
        """A call was interrupted, perhaps between two steps of this module: give back every lease that it holds."""
        with self._lock:
            for member in self._table.members.values():
                for attempt in [one for one, its in member.held.items() if its == call and self._is_ours(one)]:
                    self._release(attempt, Outcome.NEUTRAL, now)
        self._wake()

    def _is_ours(self, held: object) -> TypeGuard[Attempt[T]]:
        return isinstance(held, Attempt)

    def learn(self, attempt: Attempt[T], now: float, requests: Limit | None, tokens: Limit | None) -> None:
        """Take note of the rate limits a provider reported with the head of an answer."""
        with self._lock:
            member = attempt.member
            if not attempt.heard and attempt.generation >= member.born:
                self._hear(attempt)
            attempt.key.pace.report(requests, attempt.sent, now, tokens=False)
            attempt.key.pace.report(tokens, attempt.sent, now, tokens=True)
            if member.line.waiting:
                self._serve(now, member)
        self._wake()

    def named_model(self, attempt: Attempt[T], *, other: bool) -> None:
        """Whether an answer named another model than the one that was asked for."""
        if attempt.member.model_mismatch is not other:
            with self._lock:
                attempt.member.model_mismatch = other

    def remember(self, conversation: str, provider: str, until: float = math.inf) -> None:
        """Keep a conversation where it was answered, as long as its prompt is cached there."""
        with self._lock:
            self._table.remember(conversation, provider, until)

    # --- what other processes report ---

    def hint(self, provider: str, now: float, *, seconds: float) -> None:
        """Another process leaves this provider alone for so many seconds, because it fails or asked to.  See
        :mod:`resilient_llm.decide.heard`; nothing happens for an unknown provider."""
        with self._lock:
            member = self._table.members.get(provider)
            if member is not None:
                member.heard.report(now, seconds, draw=self.draw())

    def hint_over(self, provider: str, now: float) -> None:
        """Other processes ask it again."""
        with self._lock:
            member = self._table.members.get(provider)
            if member is not None:
                member.heard.over()
                self._serve(now, member)
        self._wake()

    # --- the outside ---

    def take_events(self) -> Iterable[events.Event]:
        """Events recorded since the last call, oldest first.  Call it without the lock; cheap when there are none."""
        recorded = self._verdicts.events
        return _taken(recorded) if recorded else ()

    def note(self, event: events.Event) -> None:
        """Add an event of the call's own."""
        self._verdicts.events.append(event)

    @property
    def budgets(self) -> dict[str, float]:
        """What is left of the allowances for extra attempts and for trials."""
        return {"extra": self._leases.extra.tokens, "trial": self._leases.trials.tokens}

    def close(self, now: float) -> None:
        """Wake everybody who waits; their calls end with ``ClientClosed``."""
        with self._lock:
            self.closed = True
            self._waiting.wake_all(now, *self._table.members.values())
        self._wake()

    def reset_after_fork(self) -> None:
        """In the child: a new lock, nothing in flight, nobody in line, and every lease of the parent is of an earlier
        generation.  What was learnt about the providers stays; what the parent's traffic earned is the parent's alone,
        or eight workers would spend its savings eight times (and one forked in an outage would begin with none)."""
        self._lock = threading.Lock()
        self._abandoned.clear()
        self._verdicts.events.clear()
        self._waiting.woken.clear()
        self._leases.fill_budgets()
        for member in self._table.members.values():
            member.reset_after_fork()


def _taken(recorded: deque[events.Event]) -> Iterator[events.Event]:
    while recorded:
        try:
            yield recorded.popleft()
        except IndexError:  # another thread took the last one
            return
