"""Bugs that others have had, put into the decision core one at a time, to see whether the simulation notices.

``python -m tests.proof.mutants [--seeds N] [--kills N] [--list] [NAME...]`` prints which invariant killed each mutant
and in how many seeds, and exits with status 1 if one survives.

A mutant is a context manager that patches ``decide`` in memory; its docstring names the bug it stands for.
"""

from __future__ import annotations

import argparse
import functools
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import ModuleType
from typing import Any, NamedTuple

from resilient_llm.decide import outcome as outcome_module
from resilient_llm.decide import patience as patience_module
from resilient_llm.decide import rescue as rescue_module
from resilient_llm.decide import streams as streams_module
from resilient_llm.decide import turned_away as turned_away_module
from resilient_llm.decide.attempt import Attempt
from resilient_llm.decide.breaker import Breaker, State
from resilient_llm.decide.budget import Budget
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.keys import Key, Refusal
from resilient_llm.decide.leases import Leases, Past
from resilient_llm.decide.line import Line
from resilient_llm.decide.member import Member
from resilient_llm.decide.outcome import Onward, Outcome
from resilient_llm.decide.pace import Meter
from resilient_llm.decide.pool import Pool
from resilient_llm.decide.rescue import Rescues
from resilient_llm.decide.slowness import Slowness
from resilient_llm.decide.statistics import Statistics
from resilient_llm.decide.verdict import Verdicts
from resilient_llm.decide.waiting import Waiting
from resilient_llm.errors import NoProviderAvailable
from resilient_llm.faults import FaultKind
from resilient_llm.simulate.driver import Driver
from tests.proof.fuzz import WORLDS
from tests.proof.invariants import Violation

# A mutant reaches into private parts and replaces functions by others; saying so once is enough.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, attr-defined, type-arg"
# pyright: basic
# ruff: noqa: PLR0917

Mutant = Callable[[], AbstractContextManager[None]]
MUTANTS: dict[str, Mutant] = {}
WORLD_OF: dict[str, str] = {}
"""In which world a mutant shows, where that is not ``any``."""


@contextmanager
def _attribute(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _wrapping(owner: Any, name: str, *, world: str = "any") -> Callable[[Callable[..., Any]], Mutant]:
    """The decorated function replaces ``owner.name`` and gets the original as its first argument; it shows in this
    world."""

    def register(replacement: Callable[..., Any]) -> Mutant:
        def mutant() -> AbstractContextManager[None]:
            homes = [owner] if isinstance(owner, ModuleType) else owner.__mro__
            home = next(kind for kind in homes if name in kind.__dict__)
            original = home.__dict__[name]

            def patched(*args: Any, **kwargs: Any) -> Any:
                return replacement(original, *args, **kwargs)

            return _patched(home, name, patched)

        mutant.__doc__ = replacement.__doc__
        MUTANTS[replacement.__name__], WORLD_OF[replacement.__name__] = mutant, world
        return mutant

    return register


# --- generations, trials, leases ---


@_wrapping(Verdicts, "judge")
def no_generation_check(original, self, attempt, outcome, now):
    """Results of calls begun before the trip decide about the way back: Polly #217, Hystrix #1853."""
    attempt.generation = attempt.member.breaker.generation
    return original(self, attempt, outcome, now)


@_wrapping(Pool, "abandoned")
def cancel_is_failure(original, self, attempt, now):
    """A cancelled call counts against its provider: Hystrix #1721, purgatory."""
    with self._lock:
        self._release(attempt, Outcome.HARD, now)


@_wrapping(Pool, "abandoned")
def cancel_is_success(original, self, attempt, now):
    """A cancelled trial proves recovery: Polly v8, circuitbreaker, hyx."""
    self.succeeded(attempt, now)


@_wrapping(Verdicts, "ended")
def cancelled_trial_keeps_its_place(original, self, attempt, outcome, now):
    """A cancelled trial keeps its place for ever: resilience4j #544, Sentinel #1638, backstop."""
    trial = attempt.member.trial
    original(self, attempt, outcome, now)
    if outcome is Outcome.NEUTRAL and trial is attempt:
        attempt.member.trial = trial


@_wrapping(Breaker, "succeeded")
def one_success_closes(original, self, now):
    """A single good trial closes the breaker, as in Hystrix, though two were asked for."""
    self.passed += 10 if self.state is not State.CLOSED else 0
    return original(self, now)


@_wrapping(Breaker, "failed")
def failed_trial_ignored(original, self, now, outcome, draw, **more):
    """A failing trial changes nothing, and the next follows at once."""
    return False if self.state is not State.CLOSED else original(self, now, outcome, draw, **more)


@_wrapping(Call, "failed")
def reported_twice(original, self, attempt, fault, now):
    """A result that is reported a second time counts a second time."""
    attempt.released = False
    return original(self, attempt, fault, now)


@_wrapping(Pool, "_release")
def in_flight_not_decremented(original, self, attempt, outcome, now):
    """Cancelled calls stay in the count of calls in flight: failsafe-go 0.9.2, httpcore's pool slots."""
    fresh = not attempt.released
    original(self, attempt, outcome, now)
    if fresh and outcome is Outcome.NEUTRAL:
        attempt.member.held[attempt] = 0


@_wrapping(Pool, "abandon_later")
def dropped_streams_leak(original, self, attempt):
    """A stream that is dropped without being closed keeps its lease: LightRAG #3634."""


@_wrapping(Pool, "abandon_later")
def finaliser_takes_the_lock(original, self, attempt):
    """A finaliser takes the lock its own thread holds: sentry-python #803, wandb #11402."""
    self.abandoned(attempt, 0.0)


@_wrapping(Pool, "reset_after_fork")
def fork_keeps_counts(original, self):
    """A forked worker believes that its parent's calls are its own: otel-python #4626."""
    held = {member: len(member.held) for member in self._table.members.values()}
    original(self)
    for member, count in held.items():
        member.held.update((object(), 0) for _ in range(count))


# --- what counts ---


def _outcome(kind: FaultKind, outcome: Outcome) -> AbstractContextManager[None]:
    table = dict(outcome_module._TABLE)
    table[kind] = outcome_module.Disposition(outcome, table[kind].onward)
    return _patched(outcome_module, "_TABLE", table)


def rate_limit_is_failure() -> AbstractContextManager[None]:
    """A 429 opens the breaker: LiteLLM, Linkerd."""
    return _outcome(FaultKind.RATE_LIMITED, Outcome.HARD)


def caller_mistake_is_failure() -> AbstractContextManager[None]:
    """A 400 opens the breaker: TensorZero, Portkey."""
    return _outcome(FaultKind.BAD_REQUEST, Outcome.HARD)


def rate_limit_is_success() -> AbstractContextManager[None]:
    """A 429 counts as a good, fast answer, and attracts traffic."""
    return _outcome(FaultKind.RATE_LIMITED, Outcome.OK)


def shortage_is_hard() -> AbstractContextManager[None]:
    """A provider without room (529) is treated as one that is down."""
    return _outcome(FaultKind.OVERLOADED, Outcome.HARD)


MUTANTS |= {
    mutant.__name__: mutant
    for mutant in (rate_limit_is_failure, caller_mistake_is_failure, rate_limit_is_success, shortage_is_hard)
}


@_wrapping(Breaker, "succeeded")
def success_resets_nothing(original, self, now):
    """Failures in a row need not be in a row: five in a week open the breaker."""
    run = self.run
    changed = original(self, now)
    self.run = run
    return changed


@_wrapping(Breaker, "failed")
def never_opens(original, self, now, outcome, draw, **more):
    """A breaker that counts and never opens: Polly's defaults at one call a second."""
    if self.state is State.CLOSED:
        return False
    return original(self, now, outcome, draw, **more)


@_wrapping(Pool, "failed")
def wrong_provider_blamed(original, self, attempt, fault, now):
    """The failure is booked on whoever comes first in the list: per-call state kept on the client (backstop)."""
    first = next(iter(self._table.members.values()))
    if first is not attempt.member and not attempt.released:
        first.statistics.judge(now, Outcome.HARD)
    return original(self, attempt, fault, now)


@_wrapping(Pool, "failed")
def counted_twice(original, self, attempt, fault, now):
    """One failure is recorded by two layers: backstop's transport errors."""
    fresh = not attempt.released
    counted = original(self, attempt, fault, now)
    if fresh and outcome_module.disposition(fault).outcome is Outcome.HARD:
        attempt.member.breaker.failed(now, Outcome.HARD, 0.5)
    return counted


@_wrapping(Statistics, "judge")
def statistics_leave_their_range(original, self, now, outcome):
    """A failure subtracts: the score runs below zero and nothing is ever chosen again."""
    original(self, now, outcome)
    if outcome is Outcome.HARD:
        self._good -= 6.0


@_wrapping(Statistics, "first_token")
def suspend_is_latency(original, self, now, seconds, prompt_tokens, *, calm=False):
    """An hour of sleep is taken for an hour of waiting."""
    slept = 3600.0 if self.first.count % 50 == 49 else 0.0
    return original(self, now, seconds + slept, prompt_tokens, calm=calm)


# --- open, gates ---


@_wrapping(Breaker, "_schedule")
def open_time_uncapped(original, self, now, draw):
    """The open period doubles without end."""
    original(self, now, draw)
    self.trial_at = now + 600.0


@_wrapping(Breaker, "_schedule")
def open_time_without_floor(original, self, now, draw):
    """Full jitter where a part of it was meant: an open period of nearly nothing."""
    self.trial_at = now + 0.01 * draw


@_wrapping(RateGate, "_until")
def gate_shortened(original, self, now, wait, reason):
    """A later, smaller hint replaces a larger one."""
    self.until = -math.inf
    return original(self, now, wait, reason)


@_wrapping(RateGate, "_until")
def gate_uncapped(original, self, now, wait, reason):
    """Retry-After: 7200 closes a provider for two hours: LiteLLM's 24 h, anthropic's 49 days."""
    opens = original(self, now, wait, reason)
    if wait >= 200.0:
        self.until = opens + 3600.0
    return self.until


@_wrapping(Pool, "succeeded")
def gate_opened_by_the_past(original, self, attempt, now, *tokens):
    """An answer to a call begun before the 429 opens the gate."""
    if not attempt.released:
        attempt.member.gate.open()
    original(self, attempt, now, *tokens)


@_wrapping(RateGate, "close")
def hint_ignored(original, self, now, hint, *rest, **more):
    """Three attempts in 0.13 s despite Retry-After: 3: backstop."""
    return original(self, now, None if hint is None else hint * 0.1, *rest, **more)


@_wrapping(SlowGate, "admits")
def slow_gate_never_reopens(original, self, now):
    """Exhausted quota is for ever: nobody looks whether the bill was paid."""
    self.stated = True
    return not self.strikes


@_wrapping(Member, "refusal")
def gate_not_asked(original, self, *call, **more):
    """A closed gate does not keep calls away."""
    refusal = original(self, *call, **more)
    return None if refusal is Refusal.GATED else refusal


@_wrapping(Member, "refusal")
def limit_not_asked(original, self, *call, **more):
    """A concurrency limit is a wish: more are sent than it allows."""
    refusal = original(self, *call, **more)
    return None if refusal is Refusal.FULL else refusal


@_wrapping(Member, "refusal")
def limit_is_a_wall(original, self, *call, **more):
    """A provider with a limit is full as soon as one call is under way."""
    refusal = original(self, *call, **more)
    return Refusal.FULL if refusal is None and self.target.max_concurrency and self.in_flight else refusal


# --- budgets, attempts, waits ---


@_wrapping(Call, "next_attempt")
def sleep_before_failover(original, self, now):
    """A pause although an idle provider is there: LiteLLM."""
    if self.past.number == 2 and not hasattr(self, "slept") and self.deadline - now > 1.0:
        self.slept = True
        return Wait(0.5, "backoff")
    return original(self, now)


@_wrapping(Leases, "_pay")
def second_tries_cost_nothing(original, self, cost, now):
    """Retries without a budget: every metastable failure's fuel."""
    return True


@_wrapping(Rescues, "_pay_for_rescue")
def rescues_cost_nothing(original, self, beside, rescuer, elapsed, now):
    """Hedging without a budget doubles the load of a slow provider's peers."""
    return True


@_wrapping(Budget, "earn")
def budget_overflows(original, self, amount):
    """A quiet week saves up a storm: the bucket has no brim."""
    self.tokens += amount


@_wrapping(Rescues, "rescue")
def rescue_after_commit(original, self, beside, past, now):
    """The rescue timer fires although the first token is out: tokens of two answers in one stream."""
    spoke, beside.content_at = beside.content_at, None
    due, beside.rescue_after = beside.rescue_after, beside.rescue_after or 0.0
    found = original(self, beside, past, now)
    beside.content_at = spoke
    beside.rescue_after = due if found is None and spoke is not None else beside.rescue_after
    return found


@_wrapping(Rescues, "rescue")
def rescue_on_the_same_connection(original, self, beside, past, now):
    """The second attempt goes to the provider that is silent already, although others are well."""
    self._allowed = lambda ask, past: [beside.member]
    try:
        return original(self, beside, past, now)
    finally:
        del self._allowed


@_wrapping(Driver, "_fail")
def error_of_one_wins(original, self, flight, fault, now):
    """The first to fail decides, though another attempt still runs."""
    session = flight.session
    others = [other for other in session.flights if other is not flight]
    original(self, flight, fault, now)
    if others and not session.over:
        self.go_on(now, session)


@_wrapping(Leases, "_first_choice")
def failed_provider_asked_again(original, self, ask, past, now):
    """A failover may pick the provider that just failed: LiteLLM, 1 of 10 calls with a healthy sibling."""
    tried, past.tried = past.tried, {}
    try:
        return original(self, ask, past, now)
    finally:
        past.tried = tried


@_wrapping(Call, "failed")
def attempts_not_counted(original, self, attempt, fault, now):
    """One call, seven providers, twenty-one attempts: LiteLLM's fallback groups."""
    original(self, attempt, fault, now)
    self.past.counted = 0
    self.past.tried = {provider: min(count, 0) for provider, count in self.past.tried.items()}


@_wrapping(Call, "rescue")
def rescues_under_way_not_counted(original, self, beside, now):
    """A rescue of a rescue of a rescue: nine attempts of a call that may make six."""
    under_way = sum(not attempt.trial for attempt in self._running)
    self.past.counted -= under_way
    try:
        return original(self, beside, now)
    finally:
        self.past.counted += under_way


@_wrapping(Call, "_give_up_if_over")
def one_attempt_too_many(original, self, now):
    """``max_attempts`` retries instead of attempts."""
    self.past.counted -= 1
    try:
        original(self, now)
    finally:
        self.past.counted += 1


@_wrapping(Call, "next_attempt")
def deadline_ignored(original, self, now):
    """A wait that ends after the deadline: LiteLLM, 9.2 s for a timeout of 1."""
    step = original(self, now)
    return Wait(step.seconds + 60.0, step.reason, step.place) if isinstance(step, Wait) else step


@_wrapping(Call, "next_attempt")
def no_wait_at_all(original, self, now):
    """A wait in which no time passes: a busy loop."""
    step = original(self, now)
    return Wait(0.0, step.reason, step.place) if isinstance(step, Wait) else step


@_wrapping(Call, "next_attempt")
def timeout_per_attempt(original, self, now):
    """Each attempt gets its whole timeout, however little is left of the call."""
    step = original(self, now)
    if isinstance(step, Attempt):
        step.timeout += 30.0
    return step


@_wrapping(Call, "failed")
def rejected_request_goes_on(original, self, attempt, fault, now):
    """An unanswered question is asked of everybody, although the first said that it is malformed."""
    original(self, attempt, fault, now)
    self._onward = Onward.ANYWHERE
    self.past.tried = {provider: min(count, 1) for provider, count in self.past.tried.items()}


@_wrapping(Call, "_may_have_run")
def effects_repeated(original, self):
    """A request that may have taken effect is sent again: two charges on one card."""
    return False


@_wrapping(Leases, "_lease")
def effects_tried_out(original, self, ask, past, member, kind, now):
    """A call that must not be repeated is spent on a trial, and rescued."""
    return original(self, ask._replace(repeatable=True), past, member, "trial" if kind == "failover" else kind, now)


@_wrapping(Leases, "acquire")
def exclusions_ignored(original, self, ask, past, now):
    """The last resort overrides which providers the caller allows: data leaves its region."""
    return original(self, ask._replace(unsuitable={}), past, now)


# --- last resort, return, reconfiguration ---


@_wrapping(Call, "next_attempt")
def no_last_resort(original, self, now):
    """All breakers open: everybody fails at once until a timer runs out, although the provider is back."""
    step = original(self, now)
    if isinstance(step, Wait) and step.reason == "down":
        self._leave(now)
        raise self._error(NoProviderAvailable, "no provider can be asked now", 1.0)
    return step


@_wrapping(Member, "trial_due")
def trials_without_need(original, self, now):
    """Open breakers are tried at every call although somebody healthy is there."""
    return True


@_wrapping(Call, "_nobody")
def error_without_retry_after(original, self, found, now):
    """ "No provider available", and no word on when to come back."""
    error = original(self, found, now)
    error.retry_after = None
    return error


@_wrapping(Pool, "replace")
def reload_forgets(original, self, routes, now):
    """A reload of the configuration closes every breaker."""
    self._table.members = {}
    return original(self, routes, now)


@_wrapping(Pool, "replace")
def removed_provider_asked(original, self, routes, now):
    """A removed provider keeps its place in the routing table."""
    table = self._table.routes
    removed = original(self, routes, now)
    self._table.routes = table
    return removed


@_wrapping(Verdicts, "changed")
def events_tell_tales(original, self, member, before, now):
    """A change is told twice: dashboards count trips that were none."""
    original(self, member, before, now)
    original(self, member, before, now)


@_wrapping(Pool, "take_events")
def listener_under_lock(original, self):
    """Listeners are called with the lock held: one that calls the client waits for itself."""
    with self._lock:
        yield from original(self)


# --- the line ---


@_wrapping(Line, "first")
def last_come_first_served(original, self, now, but=None):
    """Who came last is woken first."""
    waiting = [place for place in self.waiting if place.offer is None and place is not but]
    return waiting[-1] if waiting else None


@_wrapping(Line, "first")
def oldest_first_after_silence(original, self, now, but=None):
    """Who has waited longest is asked first, and has no time left for an answer that takes longer than ever."""
    latest, self.latest_first = self.latest_first, False
    try:
        return original(self, now, but)
    finally:
        self.latest_first = latest


@_wrapping(Pool, "failed")
def trials_never_count(original, self, attempt, fault, now):
    """A trial that judges nobody counts as no attempt, and the same call makes the next one at once."""
    return original(self, attempt, fault, now) and not attempt.trial


@_wrapping(Line, "may_pass", world="lines")
def queue_jumped(original, self, *more):
    """A new call takes the room that somebody was waiting for."""
    return True


@_wrapping(Meter, "take")
def limit_not_counted(original, self, cost, now):
    """What is sent is not taken from the limit: every client that only looks at the last answer's headers."""
    self.advance(now)


@_wrapping(Key, "fits_at")
def reserve_given_away(original, self, ask, *more, **options):
    """A batch takes the share that is kept for those who wait for their answer."""
    return original(self, ask._replace(batch=False), *more, **options)


@_wrapping(Line, "first")
def batch_first(original, self, now, but=None):
    """A batch that came first is served first, though somebody waits."""
    waiting = [place for place in self.waiting if place.offer is None and place is not but]
    return min(waiting, key=lambda place: place.number, default=None)


@_wrapping(Line, "served", world="lines")
def large_tenant_first(original, self, tenant):
    """One customer's thousand calls stand before another's one."""


@_wrapping(Verdicts, "_look_at_streams")
def one_quiet_stream_is_enough(original, self, member, now):
    """One stream that pauses takes away its provider's traffic."""
    with _patched(streams_module, "_SEVERAL", 1):
        original(self, member, now)


@_wrapping(Verdicts, "judge")
def stopped_stream_fails_twice(original, self, attempt, outcome, now):
    """A stream that failed because it fell silent fails once more when it ends."""
    stopped, attempt.stopped = attempt.stopped, False
    original(self, attempt, outcome, now)
    attempt.stopped = stopped


@_wrapping(Attempt, "slow")
def deadline_is_failure(original, self, now):
    """A deadline that ends an attempt speaks against its provider, however little time there was."""
    return self.content_at is None


@_wrapping(Leases, "_may_try")
def broken_answers_cost_nothing(original, self, member):
    """A provider whose streams break is tried as often as its breaker allows, whatever its callers lose."""
    return member.breaker.ends_late or original(self, member)


@_wrapping(Waiting, "_wake")
def nobody_woken(original, self, place, now):
    """Room is given back, and who waits for it sleeps on: asyncio.Semaphore, bpo-45997."""
    place.woken_at = now


@_wrapping(Waiting, "_wake")
def woken_under_the_lock(original, self, place, now):
    """Who waits is woken while the lock is held."""
    original(self, place, now)
    place.wake()


@_wrapping(Waiting, "leave")
def left_behind_in_line(original, self, place, now):
    """Who gave up or was served keeps its place in line."""


# --- a provider that has too much to do ---


@_wrapping(patience_module, "_given_up_after", world="busy")
def accepted_and_given_up(original, policies, left, end):
    """What a busy provider has accepted is given up for its silence, and asked once more: a retry storm's fuel."""
    return end


@_wrapping(rescue_module, "_overloaded", world="busy")
def busy_taken_for_hanging(original, beside, elapsed):
    """A second attempt stands in the queue behind the first."""
    return False


@_wrapping(rescue_module, "_overloaded", world="busy")
def hanging_taken_for_busy(original, beside, elapsed):
    """A lone provider that hangs over one connection is not asked over another one."""
    return True


@_wrapping(rescue_module, "_overloaded", world="busy")
def queue_that_moved_on(original, beside, elapsed):
    """A call that others overtook stands in no queue, and is not sent again all the same."""
    return beside.member.statistics.slower


@_wrapping(rescue_module, "_overloaded", world="busy")
def queue_taken_for_hanging(original, beside, elapsed):
    """A provider that answers still what it was asked before is taken for one that hangs."""
    return beside.member.statistics.slower and beside.member.good_start <= beside.started


@_wrapping(Slowness, "doubled", world="busy")
def never_slower(original, self, seconds):
    """However much slower its answers become, a provider is never busy."""
    return False


@_wrapping(Slowness, "doubled", world="busy")
def slower_at_once(original, self, seconds):
    """A provider that nobody knows yet is busy."""
    return self._answers < 20 or original(self, seconds)


@_wrapping(Slowness, "full", world="busy")
def idle_and_full(original, self, waiting, now, left):
    """Where answers take longer, a provider at which nobody waits is passed over too."""
    return self.suspected


@_wrapping(patience_module, "again_after", world="busy")
def lone_provider_asked_twice_at_once(original, policies, seen, ask, left):
    """Each call to a lone provider is sent a second time after two seconds."""
    return min(2.0, original(policies, seen, ask, left))


@_wrapping(patience_module, "again_after", world="busy")
def slow_lone_provider_asked_twice(original, policies, seen, ask, left):
    """Each call to a lone provider that usually takes two thirds of the time is sent twice."""
    return min(left / 2.0, original(policies, seen, ask, left))


@_wrapping(patience_module, "again_after", world="busy")
def lone_provider_asked_once(original, policies, seen, ask, left):
    """A call that hangs at a lone provider hangs until its deadline."""
    return math.inf


@_wrapping(Verdicts, "outcome", world="busy")
def no_overload_is_a_crowd(original, self, attempt, fault, now):
    """A provider that says that it has no room is tried every second like any other that is down."""
    found = original(self, attempt, fault, now)
    attempt.member.breaker.crowded = False
    return found


@_wrapping(Verdicts, "outcome", world="busy")
def every_silence_is_a_crowd(original, self, attempt, fault, now):
    """A provider that hangs is spared like one that has too much to do, and is found well again late."""
    found = original(self, attempt, fault, now)
    attempt.member.breaker.crowded |= attempt.member.breaker.timed_out
    return found


# --- who is down ---


@_wrapping(Leases, "_last_resort", world="busy")
def one_wait_for_all(original, self, ask, past, down, now):
    """One without room, tried every six seconds, keeps those that are down from their trials for as long."""
    found = original(self, ask, past, down, now)
    if found is not None and found.member in down:
        for member in down:
            member.resort_at = found.member.resort_at
    return found


@_wrapping(Rescues, "_rescuer", world="busy")
def rescues_at_any_time(original, self, ask, past, late, now):
    """Fifty calls that hang together send fifty rescues at once to a provider that is down."""
    with ExitStack() as stack:
        for member in self._table.members.values():
            stack.enter_context(_attribute(member, "resort_at", -math.inf))
        return original(self, ask, past, late, now)


@_wrapping(Leases, "_lease", world="busy")
def rescues_begin_no_wait(original, self, ask, past, member, kind, now):
    """A rescue at a provider that is down does not put off the next one."""
    at = member.resort_at
    found = original(self, ask, past, member, kind, now)
    if kind == "hedge":
        member.resort_at = at
    return found


@_wrapping(Leases, "_last_resort", world="busy")
def hope_is_a_crowd(original, self, ask, past, down, now):
    """A provider without room gets every call that has waited long, all at once."""
    with ExitStack() as stack:
        if past.last_hope:
            for member in down:
                stack.enter_context(_attribute(member.breaker, "crowded", False))
        return original(self, ask, past, down, now)


# --- whose key is refused ---


@_wrapping(SlowGate, "by_chance", world="busy")
def chance_obeyed(original, self, now):
    """One bad replica behind a gateway, and everybody waits for a minute."""
    return False


@_wrapping(SlowGate, "by_chance", world="busy")
def bad_key_taken_for_chance(original, self, now):
    """A key that is refused for good is a failure like any other, and every call meets it."""
    return True


@_wrapping(SlowGate, "answered", world="busy")
def chance_by_the_past(original, self, started, now):
    """The answer to a call that began before a key was revoked shows that it was not."""
    original(self, math.inf, now)


@_wrapping(SlowGate, "answered", world="busy")
def chance_for_ever(original, self, started, now):
    """What once was chance is chance for good, also when the key is revoked an hour later."""
    original(self, started, now)
    if self.chance_until > now:
        self.chance_until = math.inf


@_wrapping(SlowGate, "refused", world="busy")
def never_proven(original, self, now):
    """However many are refused in a row, it is chance: a revoked key is sent with every call."""
    original(self, now)
    self.row = min(self.row, 9)


@_wrapping(SlowGate, "refused", world="busy")
def proven_at_once(original, self, now):
    """After one refusal of its key a call that has nobody else is not sent."""
    original(self, now)
    self.row += 9


@_wrapping(turned_away_module, "_gate", world="busy")
def provider_blamed_for_a_key(original, attempt, fault):
    """One bad key of two closes its provider."""
    return None if original(attempt, fault) is None else attempt.member.own_gate


@_wrapping(Member, "other_key", world="busy")
def other_key_not_used(original, self, key, ask, now):
    """One bad key of two is chance, and its calls fail, though the other one works."""
    return False


# --- who was refused alone ---


@_wrapping(Past, "may_ask_at", world="busy")
def refused_and_back_at_once(original, self, member):
    """A call that was told to wait asks again as soon as the gate is open for others."""
    return -math.inf


@_wrapping(Past, "may_ask_at", world="busy")
def refused_for_good(original, self, member):
    """A call that was told to wait for two seconds never asks again."""
    return math.inf if original(self, member) > -math.inf else -math.inf


@_wrapping(Verdicts, "_limited", world="busy")
def only_the_gate_waits(original, self, attempt, fault, now):
    """Where the gate opens early, the call that closed it goes first, before the time it was told."""
    original(self, attempt, fault, now)
    if not attempt.refused_alone:
        attempt.not_before = -math.inf


@_wrapping(Leases, "_last_resort", world="busy")
def last_hope_of_who_is_to_wait(original, self, ask, past, down, now):
    """A call that was told to wait is sent in spite of a refused key."""
    until, past.not_before = past.not_before, {}
    try:
        return original(self, ask, past, down, now)
    finally:
        past.not_before = until


class Kill(NamedTuple):
    """How a mutant died: by which invariants, each in how many seeds."""

    mutant: str
    by: Counter[str]
    seeds: int

    @property
    def survived(self) -> bool:
        """Whether nothing noticed."""
        return not self.by


@functools.cache
def holds(world: str, seed: int) -> bool:
    """Whether every invariant holds without a mutant."""
    try:
        WORLDS[world](seed)
    except Violation:
        return False
    return True


def hunt(name: str, seeds: Sequence[int], *, until: int | None = None) -> Kill:
    """Run a mutant through the seeds in which nothing is wrong without it; stop after it was killed ``until`` times
    (``None``: never).  Errors that are no violation are raised: a mutant that does not fit the core shows nothing."""
    by: Counter[str] = Counter()
    run, world = 0, WORLD_OF.get(name, "any")
    for seed in seeds:
        if not holds(world, seed):
            continue
        run += 1
        with MUTANTS[name]():
            try:
                WORLDS[world](seed)
            except Violation as violation:
                by[violation.name] += 1
        if until is not None and sum(by.values()) >= until:
            break
    return Kill(name, by, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the kill table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=480, help="seeds per mutant at the most (default 480)")
    parser.add_argument(
        "--kills", type=int, default=3, help="be content with so many kills (default 3; 0: run all seeds)"
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="mutants (default: all)")
    parser.add_argument("--list", action="store_true", help="the names of mutants and what they stand for")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in MUTANTS]
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; --list tells what there is")
    if options.seeds < 1 or options.kills < 0:
        parser.error("--seeds must be 1 or more and --kills 0 or more")
    if options.list:
        for name, mutant in MUTANTS.items():
            print(f"{name:32} {(mutant.__doc__ or name).splitlines()[0]}")
        return 0
    survivors = 0
    for name in options.names or MUTANTS:
        kill = hunt(name, range(options.seeds), until=options.kills or None)
        survivors += kill.survived
        how = " ".join(f"{invariant}:{count}" for invariant, count in kill.by.most_common()) or "SURVIVED"
        print(f"{name:32} {sum(kill.by.values()):4}/{kill.seeds:<4} {how}", flush=True)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
