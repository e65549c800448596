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
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from itertools import count
from typing import Generic

from resilient_llm import events
from resilient_llm.decide.attempt import Ask, Attempt
from resilient_llm.decide.gate import Limit
from resilient_llm.decide.leases import Leases, Past
from resilient_llm.decide.line import Place
from resilient_llm.decide.member import T
from resilient_llm.decide.outcome import OK, Outcome
from resilient_llm.decide.patience import LATE_TIMER, longest_pause
from resilient_llm.decide.report import health_of, why_not
from resilient_llm.decide.routes import Routes, Table
from resilient_llm.decide.verdict import Verdicts
from resilient_llm.decide.waiting import Refused, Waiting
from resilient_llm.errors import ConfigurationError
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.health import ProviderHealth
from resilient_llm.policy import Policies

_MAX_CONVERSATIONS = 4096
_STANDSTILL = 0.5  # seconds


class Pool(Generic[T]):
    """Shared by the clients that use it, the sync and the async one alike.  All times are monotonic seconds.

    ``draw`` returns random numbers from [0, 1); ``listening`` makes it record attempt events too (state changes are
    always recorded, for :meth:`take_events`).
    """

    def __init__(self, routes: Routes[T], policies: Policies, draw: Callable[[], float]) -> None:
        self.policies = policies
        self.draw = draw
        self.closed = False
        self._noticed_at, self._resumed_at, self._usual_gap = -math.inf, -math.inf, 60.0
        self._lock = threading.Lock()
        self._abandoned: deque[Attempt[T]] = deque()
        self._conversations: OrderedDict[str, str] = OrderedDict()
        self._numbers = count(1)
        self._table: Table[T] = Table(policies)
        self._table.install(routes)
        self._verdicts: Verdicts[T] = Verdicts(self._table.members, draw)
        self._leases: Leases[T] = Leases(self._table, self._verdicts, policies, draw, self._conversations)
        self._waiting: Waiting[T] = Waiting(self._table, policies)

    # --- configuration ---

    @property
    def listening(self) -> bool:
        """Whether attempt events are recorded too."""
        return self._verdicts.listening

    @listening.setter
    def listening(self, value: bool) -> None:
        self._verdicts.listening = value

    def replace(self, routes: Routes[T], now: float) -> tuple[str, ...]:
        """Swap the providers.  State is kept for every id that stays; attempts in flight at removed ones end in peace.

        Returns the ids that were removed.  Raises ``ConfigurationError`` and changes nothing if the new routes are
        unusable.
        """
        with self._lock:
            gone = self._table.install(routes)
            self._verdicts.members = self._table.members
            removed = tuple(sorted(member.id for member in gone))
            for provider in removed:
                self._verdicts.events.append(events.OperatorChanged(now, provider, "removed"))
            self._waiting.wake_all(now, *gone, *self._table.members.values())
        self._wake()
        return removed

    @property
    def route_names(self) -> tuple[str, ...]:
        """The routes, the default one first."""
        return tuple(self._table.routes)

    def targets(self, route: str | None = None) -> tuple[T, ...]:
        """The providers of a route in order of preference (none if there is no such route); of all routes, each once,
        for ``None``."""
        if route is None:
            return tuple(member.target for member in self._table.members.values())
        return tuple(member.target for member in self._table.order(route))

    # --- the life of an attempt ---

    def number(self) -> int:
        """A number for a new call: calls are served in this order where they wait."""
        return next(self._numbers)

    def acquire(self, ask: Ask, past: Past, now: float) -> Attempt[T] | Refused:
        """Choose a provider and take a lease on it, or stand in line and be told how long to wait."""
        with self._lock:
            if self._abandoned:
                self._settle(now)
            place = past.place
            if place is not None:
                place.woken = False
            self._notice(now)
            found: Attempt[T] | Refused
            leased = self._leases.acquire(ask, past, now)
            if isinstance(leased, Attempt):
                found = leased
                if place is not None:
                    self._waiting.leave(place, now)
            else:
                budget = self._leases.extra.wait(past.cost) if leased else None
                found = self._waiting.refuse(ask, past, budget, now)
                if place is not None and place.offer is not None:
                    self._waiting.pass_on(place, now)
        self._wake()
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
            found = self._leases.rescue(beside, past, now)
        self._wake()
        return found

    def rescue_again(self, attempt: Attempt[T], pause: float, now: float) -> None:
        """The rescue beside this attempt failed: after a pause there may be another one."""
        with self._lock:
            if attempt.content_at is None and attempt.ask.repeatable and self.policies.hedge.enabled:
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
                self._verdicts.spoke(attempt, now)
                elapsed = now - attempt.started
                if self._notice(now) and not self._stood_still(attempt, now):
                    sample = attempt.member.statistics.first_token(now, elapsed, attempt.ask.tokens)
                    self._verdicts.latency(attempt, sample, now)
                self._waiting.serve(attempt.member, now)
        self._wake()

    def succeeded(self, attempt: Attempt[T], now: float, output_tokens: int = 0) -> None:
        """The attempt is over and was answered."""
        with self._lock:
            if self._abandoned:
                self._settle(now)
            if attempt.released:
                return
            self._answered(attempt, now, output_tokens)
            self._release(attempt, OK, now)
        self._wake()

    def _answered(self, attempt: Attempt[T], now: float, output_tokens: int) -> None:
        """An answer is proof of more than its provider's health."""
        member, spoke_at = attempt.member, attempt.content_at
        if spoke_at is not None:
            member.statistics.stream_ended(now - attempt.started, now - spoke_at, output_tokens)
            if attempt.pause:
                member.statistics.pauses.add(attempt.pause)
        else:
            self._verdicts.spoke(attempt, now)
            elapsed = now - attempt.started
            if self._notice(now) and not self._stood_still(attempt, now):
                sample = member.statistics.whole_answer(now, elapsed, attempt.ask.tokens, output_tokens)
                self._verdicts.latency(attempt, sample, now)
        gate = member.gate
        if gate.strikes or gate.width < math.inf:
            gate.succeeded(attempt.started)
        if attempt.slow_lease:
            member.own_gate.open()
            member.account_gate.open()
        extra = self._leases.extra
        if extra.tokens < extra.cap:
            extra.earn(1.0)

    def failed(self, attempt: Attempt[T], fault: Fault, now: float) -> bool:
        """The attempt is over and failed.  Returns whether it counts among the attempts of its call: a trial of a
        provider that is down, a refusal that says when to come back, or the loss of our own network does not."""
        with self._lock:
            self._settle(now)
            if attempt.released:
                return True
            outcome = self._verdicts.outcome(attempt, fault, now)
            silent = fault.kind is FaultKind.TIMEOUT and attempt.content_at is None
            if silent and now - attempt.started > attempt.timeout + LATE_TIMER:
                outcome = Outcome.NEUTRAL  # this process stood still; its timer says nothing
                self._verdicts.not_taken(attempt.member, "verdict", "late", now)
            self._verdicts.close_gates(attempt, fault, now)
            self._release(attempt, outcome, now)
            counted = not (attempt.trial or self._verdicts.local(now))
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
            stopped = attempt.content_at is not None and silence >= longest_pause(attempt.member.statistics)
            guilty = (stopped or attempt.late(now)) and now <= attempt.ask.deadline + LATE_TIMER
            outcome = self._verdicts.outcome(attempt, fault, now) if guilty else Outcome.NEUTRAL
            self._release(attempt, outcome, now)
        self._wake()
        return guilty

    def overtaken(self, attempt: Attempt[T], fault: Fault, now: float) -> tuple[bool, bool]:
        """Another attempt of the same call won.  Returns whether this one is to run on until it is judged (a trial), and
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
            if not late and attempt.ask.streaming and attempt.content_at is None and not attempt.waits_for_key:
                attempt.member.statistics.overtaken(now, now - attempt.started, attempt.ask.tokens)
            self._release(attempt, self._verdicts.outcome(attempt, fault, now) if late else Outcome.NEUTRAL, now)
        self._wake()
        return False, late

    def paused(self, attempt: Attempt[T], seconds: float) -> None:
        """The longest pause between two pieces of content of a stream that is about to end."""
        with self._lock:
            attempt.pause = seconds

    def abandon_later(self, attempt: Attempt[T]) -> None:
        """As :meth:`abandoned`, but safe in a finaliser: takes no lock; the next operation releases it."""
        self._abandoned.append(attempt)

    def disown(self, ask: Ask, now: float) -> None:
        """A call was interrupted, perhaps between two steps of this module: give back every lease that it holds."""
        with self._lock:
            for member in self._table.members.values():
                for attempt in [one for one, its in member.held.items() if its is ask]:
                    if isinstance(attempt, Attempt):
                        self._release(attempt, Outcome.NEUTRAL, now)
        self._wake()

    def learn(self, attempt: Attempt[T], now: float, requests: Limit | None, tokens: Limit | None) -> None:
        """Take note of the rate-limit headroom a provider reported."""
        with self._lock:
            attempt.member.gate.learn(now, requests, tokens)

    def remember(self, conversation: str, provider: str) -> None:
        """Keep a conversation where it was answered."""
        with self._lock:
            self._conversations[conversation] = provider
            self._conversations.move_to_end(conversation)
            if len(self._conversations) > _MAX_CONVERSATIONS:
                self._conversations.popitem(last=False)

    def _notice(self, now: float) -> bool:
        """Notice that this process stood still: nothing at all happened for much longer than usual."""
        gap, self._noticed_at = now - self._noticed_at, now
        if gap > _STANDSTILL and gap > 20.0 * self._usual_gap:
            self._resumed_at = now
        self._usual_gap += 0.05 * (min(gap, 60.0) - self._usual_gap)
        return True

    def _stood_still(self, attempt: Attempt[T], now: float) -> bool:
        """Whether this process stood still while the attempt was under way: then how long it took proves nothing."""
        due = attempt.rescue_after or attempt.timeout
        woke = attempt.started < self._resumed_at and now - self._resumed_at < LATE_TIMER
        return woke or now - attempt.started > due + LATE_TIMER

    def _release(self, attempt: Attempt[T], outcome: Outcome, now: float) -> None:
        """Give the lease back, exactly once; an attempt of a parent process holds nothing here."""
        if attempt.released:
            return
        attempt.member.held.pop(attempt, None)  # first of all and in one step: whatever interrupts the rest, it is free
        attempt.released = True
        if attempt.generation >= attempt.member.born:
            self._verdicts.ended(attempt, outcome, now)
            self._waiting.serve(attempt.member, now)

    def _settle(self, now: float) -> None:
        """Release what finalisers left behind."""
        while self._abandoned:
            self._release(self._abandoned.popleft(), Outcome.NEUTRAL, now)

    def _wake(self) -> None:
        """Wake those who were offered a place, without the lock."""
        woken = self._waiting.woken
        while woken:
            try:
                place = woken.popleft()
            except IndexError:  # another thread took the last one
                return
            place.wake()

    # --- operators ---

    def operate(self, provider: str, action: str, now: float) -> None:
        """``drain`` (no new attempts), ``isolate`` (hold the breaker open), ``restore`` (undo both, open every gate, and
        hold nothing against it).

        Raises ``ConfigurationError`` for an id the pool does not have, and for any other action.
        """
        with self._lock:
            member = self._table.members.get(provider)
            if member is None:
                known = ", ".join(self._table.members)
                raise ConfigurationError(f"there is no provider {provider!r}; there are {known}")
            before = member.breaker.state
            if action == "drain":
                member.drained = True
            elif action == "isolate":
                member.breaker.isolate(now)
            elif action == "restore":
                member.restore(now)
            else:
                raise ConfigurationError(f"a provider can be drained, isolated or restored, not {action!r}")
            self._verdicts.changed(member, before, now)
            self._verdicts.events.append(events.OperatorChanged(now, provider, action))
            self._waiting.wake_all(now, member)
        self._wake()

    def in_flight(self, provider: str) -> int:
        """Attempts under way at a provider, open streams included; 0 for an unknown one."""
        member = self._table.members.get(provider)
        return 0 if member is None else member.in_flight

    def explain(self, ask: Ask, now: float) -> list[tuple[T, str | None]]:
        """The providers of the call's route in order, each with why it would not be asked now, or only if nobody better
        can be (``None``: it would)."""
        with self._lock:
            self._settle(now)
            return [(member.target, why_not(ask, member, now)) for member in self._table.order(ask.route)]

    def snapshot(self, now: float) -> tuple[ProviderHealth, ...]:
        """Every provider as it stands."""
        with self._lock:
            self._settle(now)
            return health_of(list(self._table.members.values()), now)

    # --- the outside ---

    def take_events(self) -> Iterable[events.Event]:
        """Events recorded since the last call, oldest first.  Call it without the lock; cheap when there are none."""
        recorded = self._verdicts.events
        while recorded:
            try:
                yield recorded.popleft()
            except IndexError:  # another thread took the last one
                return

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
