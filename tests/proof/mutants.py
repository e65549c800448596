"""Bugs that others have had, put into the decision core one at a time, to see whether the simulation notices.

``python -m tests.proof.mutants [--seeds N] [--kills N] [--list] [NAME...]`` prints which invariant killed
each mutant and in how many seeds, and exits with status 1 if one survives.

A mutant is a context manager that patches ``decide`` in memory; its docstring names the bug it stands for.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

from resilient_llm.decide import breaker as breaker_module
from resilient_llm.decide import outcome as outcome_module
from resilient_llm.decide.breaker import Breaker, State, Window
from resilient_llm.decide.budget import Budget
from resilient_llm.decide.call import Call, Wait
from resilient_llm.decide.concurrency import Concurrency
from resilient_llm.decide.gate import RateGate, SlowGate
from resilient_llm.decide.health import Doubt, Health
from resilient_llm.decide.member import Attempt, Member, Refusal
from resilient_llm.decide.outcome import Onward, Outcome
from resilient_llm.decide.pool import Pool
from resilient_llm.errors import FaultKind
from resilient_llm.simulate.driver import Driver
from tests.proof.fuzz import fuzz
from tests.proof.invariants import Violation

# A mutant reaches into private parts and replaces functions by others; saying so once is enough.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, misc, attr-defined, type-arg"
# pyright: basic
# ruff: noqa: PLR0917

Mutant = Callable[[], AbstractContextManager[None]]
MUTANTS: dict[str, Mutant] = {}


@contextmanager
def _patched(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _wrapping(owner: Any, name: str) -> Callable[[Callable[..., Any]], Mutant]:
    """The decorated function replaces ``owner.name`` and gets the original as its first argument."""

    def register(replacement: Callable[..., Any]) -> Mutant:
        def mutant() -> AbstractContextManager[None]:
            original = owner.__dict__[name]

            def patched(*args: Any, **kwargs: Any) -> Any:
                return replacement(original, *args, **kwargs)

            return _patched(owner, name, patched)

        mutant.__doc__ = replacement.__doc__
        MUTANTS[replacement.__name__] = mutant
        return mutant

    return register


# --- generations, permits, leases ---


@_wrapping(Pool, "_judge")
def no_generation_check(original, self, attempt, now, outcome):
    """Results of calls begun before the trip decide the half-open verdict: Polly #217, Hystrix #1853."""
    attempt.generation = attempt.member.breaker.generation
    return original(self, attempt, now, outcome)


@_wrapping(Breaker, "may_probe")
def no_half_open_permit(original, self, now):
    """Half-open admits everybody: five Python breakers, termite, llmfuse."""
    return original(self, now) or self.state is State.HALF_OPEN


@_wrapping(Pool, "abandoned")
def cancel_is_failure(original, self, attempt, now):
    """A cancelled call counts against its provider: Hystrix #1721, purgatory."""
    with self._lock:
        self._release(attempt, now, Outcome.HARD)


@_wrapping(Pool, "abandoned")
def cancel_is_success(original, self, attempt, now):
    """A cancelled probe proves recovery: Polly v8, circuitbreaker, hyx."""
    self.succeeded(attempt, now)


@_wrapping(Pool, "_judge")
def cancel_leaks_permit(original, self, attempt, now, outcome):
    """A cancelled probe keeps its place for ever: resilience4j #544, Sentinel #1638, backstop."""
    if outcome is not Outcome.NEUTRAL:
        original(self, attempt, now, outcome)


@_wrapping(Breaker, "expire")
def no_lease_expiry(original, self, now, draw):
    """A probe that hangs blocks the way back for as long as it hangs: Polly, Hystrix, Sentinel."""
    return False


@_wrapping(Pool, "_speak")
def verdict_at_the_end(original, self, attempt, now):
    """A probe is judged when its stream ends, minutes later, rather than by its first token."""
    probing, attempt.probing = attempt.probing, False
    original(self, attempt, now)
    attempt.probing = probing


@_wrapping(Breaker, "succeeded")
def one_success_closes(original, self, now):
    """A single good probe closes the breaker, as in Hystrix, though two were asked for."""
    self.passed += self.state is State.HALF_OPEN
    return original(self, now)


@_wrapping(Breaker, "_failed")
def failed_probe_ignored(original, self, now, outcome, draw, escalate):
    """A failing probe leaves the breaker half-open, to be hammered."""
    return False if self.state is State.HALF_OPEN else original(self, now, outcome, draw, escalate)


@_wrapping(Pool, "_release")
def released_twice(original, self, attempt, now, outcome):
    """Release is not idempotent: a stream closed twice gives back two permits."""
    attempt.released = False
    return original(self, attempt, now, outcome)


@_wrapping(Pool, "_release")
def in_flight_not_decremented(original, self, attempt, now, outcome):
    """Cancelled calls stay in the count of calls in flight: failsafe-go 0.9.2, httpcore's pool slots."""
    fresh = not attempt.released
    original(self, attempt, now, outcome)
    attempt.member.concurrency.in_flight += fresh and outcome is Outcome.NEUTRAL


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
    counts = {member: member.concurrency.in_flight for member in self._members.values()}
    original(self)
    for member, count in counts.items():
        member.concurrency.in_flight = count


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


@_wrapping(Breaker, "_failed")
def soft_is_consecutive(original, self, now, outcome, draw, escalate):
    """Shortages count towards failures in a row."""
    return original(self, now, Outcome.HARD, draw, escalate)


@_wrapping(Breaker, "succeeded")
def success_resets_nothing(original, self, now):
    """Failures in a row need not be in a row: five in a week open the breaker."""
    row = self.consecutive
    changed = original(self, now)
    if not changed:
        self.consecutive = row
    return changed


@_wrapping(Window, "_epoch")
def window_never_expires(original, self, now):
    """The sliding window keeps everything: last month's outage weighs on today."""
    original(self, now)
    return 0


@_wrapping(Window, "totals")
def tumbling_window(original, self, now):
    """A window that starts anew every minute, sold as a sliding one: Helicone, LiteLLM."""
    epoch = self._epoch(now)
    first = epoch - epoch % len(self._count)
    live = [i for i, e in enumerate(self._epochs) if first <= e <= epoch]
    return sum(self._count[i] for i in live), sum(self._bad[i] for i in live)


@_wrapping(Pool, "failed")
def wrong_provider_blamed(original, self, attempt, fault, now, **more):
    """The failure is booked on whoever was asked first: per-call state kept on the client (backstop)."""
    member, first = attempt.member, attempt.call.tried[0] if attempt.call.tried else attempt.member
    if first is not member and not attempt.released:
        first.health.judge(now, Outcome.HARD)
    original(self, attempt, fault, now, **more)


@_wrapping(Pool, "failed")
def counted_twice(original, self, attempt, fault, now, **more):
    """One failure is recorded by two layers: backstop's transport errors."""
    fresh = not attempt.released
    original(self, attempt, fault, now, **more)
    if fresh and outcome_module.disposition(fault).outcome is Outcome.HARD:
        attempt.member.breaker.record(now, Outcome.HARD, 0.5)


@_wrapping(Health, "judge")
def health_leaves_its_range(original, self, now, outcome):
    """A failure subtracts: the score runs below zero and nothing is ever chosen again."""
    original(self, now, outcome)
    if outcome is Outcome.HARD:
        self._good -= 3.0


@_wrapping(Health, "first_token")
def suspend_is_latency(original, self, now, seconds, prompt_tokens):
    """An hour of sleep is taken for an hour of waiting (the sample is not bounded by the timeout)."""
    original(self, now, seconds + (3600.0 if self.first.count % 50 == 49 else 0.0), prompt_tokens)


# --- open, gates ---


def open_time_uncapped() -> AbstractContextManager[None]:
    """The open period doubles without end."""
    original = breaker_module.equal_jitter
    return _patched(
        breaker_module, "equal_jitter", lambda base, cap, trips, draw: original(base, math.inf, trips, draw)
    )


def open_time_without_floor() -> AbstractContextManager[None]:
    """Full jitter where equal jitter was meant: an open period of nearly nothing."""
    return _patched(
        breaker_module, "equal_jitter", lambda base, cap, trips, draw: draw * min(cap, base * 2.0 ** min(trips, 64))
    )


MUTANTS |= {mutant.__name__: mutant for mutant in (open_time_uncapped, open_time_without_floor)}


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
def gate_opened_by_the_past(original, self, attempt, now, output_tokens=0):
    """An answer to a call begun before the 429 opens the gate."""
    if not attempt.released:
        attempt.member.gate.until = -math.inf
    original(self, attempt, now, output_tokens)


@_wrapping(RateGate, "close")
def hint_ignored(original, self, now, hint, draw, reason):
    """Three attempts in 0.13 s despite Retry-After: 3: backstop."""
    return original(self, now, None if hint is None else hint * 0.1, draw, reason)


@_wrapping(SlowGate, "admits")
def slow_gate_never_reopens(original, self, now):
    """Exhausted quota is for ever: nobody looks whether the bill was paid."""
    return not self.strikes


@_wrapping(Member, "refusal")
def gate_not_asked(original, self, call, now):
    """A closed gate does not keep calls away."""
    refusal = original(self, call, now)
    return None if refusal is Refusal.GATED else refusal


# --- budgets, attempts, waits ---


@_wrapping(Call, "next_attempt")
def sleep_after_last_attempt(original, self, now):
    """A pause after the last attempt, before the error: LiteLLM, 7.2 s."""
    if self.made >= self.pool.policies.retry.max_attempts and not self.answered and self.waited < 99.0:
        self.waited = 100.0
        return Wait(0.5, "backoff")
    return original(self, now)


@_wrapping(Call, "next_attempt")
def sleep_before_failover(original, self, now):
    """A pause although an idle provider is there: LiteLLM."""
    if self.made == 1 and not self.rested and self.deadline - now > 1.0:
        self.rested = True
        return Wait(0.5, "backoff")
    return original(self, now)


@_wrapping(Pool, "again")
def retry_budget_never_spent(original, self, call, now):
    """Retries without a budget: every metastable failure's fuel."""
    self.retries.tokens = self.retries.cap
    return original(self, call, now)


@_wrapping(Pool, "acquire")
def failover_budget_unlimited(original, self, call, now):
    """One call, seven providers, twenty-one attempts: LiteLLM's fallback groups."""
    self.failovers.tokens = self.failovers.cap
    return original(self, call, now)


@_wrapping(Pool, "acquire")
def first_attempts_cost_tokens(original, self, call, now):
    """First attempts are paid from the failover budget too (ours, once): it is empty when a provider fails."""
    found = original(self, call, now)
    if call.made == 1 and isinstance(found, Attempt):
        self.failovers.spend()
    return found


@_wrapping(Pool, "rescue")
def hedges_without_budget(original, self, call, beside, now):
    """Hedging without a budget doubles the load of a slow provider's peers."""
    self.hedges.tokens = self.hedges.cap
    return original(self, call, beside, now)


@_wrapping(Pool, "rescue")
def hedge_on_the_same_provider(original, self, call, beside, now):
    """The second attempt goes to the provider that is silent already."""
    with self._lock:
        if beside.released or beside.content_at is not None or beside.member.breaker.state is not State.CLOSED:
            return None
        return self._lease(call, beside.member, now, "hedge")


@_wrapping(Pool, "rescue")
def hedge_after_commit(original, self, call, beside, now):
    """The rescue timer fires although the first token is out: tokens of two answers in one stream."""
    spoke, beside.content_at = beside.content_at, None
    found = original(self, call, beside, now)
    beside.content_at = spoke
    return found


@_wrapping(Driver, "_fail")
def error_of_one_wins(original, self, flight, fault, now):
    """The first to fail decides, though another attempt still runs."""
    session = flight.session
    others = [other for other in session.flights if other is not flight]
    original(self, flight, fault, now)
    if others and not session.over:
        self.go_on(now, session)


@_wrapping(Pool, "_select")
def failed_provider_asked_again(original, self, call, now):
    """A failover may pick the provider that just failed: LiteLLM, 1 of 10 calls with a healthy sibling."""
    tried, call.tried = call.tried, ()
    found = original(self, call, now)
    call.tried = (*tried, *(member for member in call.tried if member not in tried))
    return found


@_wrapping(Call, "_give_up_if_over")
def one_attempt_too_many(original, self, now):
    """``max_attempts`` retries instead of attempts."""
    self.made -= 1
    try:
        original(self, now)
    finally:
        self.made += 1


@_wrapping(Call, "_wait")
def deadline_ignored(original, self, now, seconds, reason):
    """A wait that ends after the deadline: LiteLLM, 9.2 s for a timeout of 1."""
    deadline, self.deadline = self.deadline, math.inf
    try:
        return original(self, now, seconds, reason)
    finally:
        self.deadline = deadline


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
    self.onward = Onward.ANYWHERE


# --- panic, return, reconfiguration ---


@_wrapping(Pool, "_force")
def no_panic(original, self, call, now):
    """All breakers open: everybody fails until a timer runs out, although the provider is back."""


@_wrapping(Pool, "_select")
def panic_without_need(original, self, call, now):
    """Open breakers are tried although somebody healthy is there."""
    return self._force(call, now) or original(self, call, now)


@_wrapping(Call, "_nobody")
def error_without_retry_after(original, self, now, refused):
    """ "No provider available", and no word on when to come back."""
    error = original(self, now, refused)
    error.retry_after = None
    return error


@_wrapping(Breaker, "ramp")
def ramp_missing(original, self, now, floor, calls, seconds):
    """A recovered provider gets its whole traffic at once, and falls over: LiteLLM, Helicone."""
    return 1.0


@_wrapping(Pool, "replace")
def reload_forgets(original, self, routes, now):
    """A reload of the configuration closes every breaker."""
    self._members = {}
    return original(self, routes, now)


@_wrapping(Pool, "replace")
def removed_provider_asked(original, self, routes, now):
    """A removed provider keeps its place in the routing table."""
    table = self._routes
    removed = original(self, routes, now)
    self._routes = table
    return removed


@_wrapping(Pool, "_changed")
def events_tell_tales(original, self, member, before, now):
    """Every probe is reported as a change from open (ours, once): dashboards count trips that were none."""
    original(self, member, State.OPEN if member.breaker.state is State.HALF_OPEN else before, now)
    if before is State.HALF_OPEN and member.breaker.state is State.HALF_OPEN:
        original(self, member, State.OPEN, now)


@_wrapping(Pool, "take_events")
def listener_under_lock(original, self):
    """Listeners are called with the lock held: one that calls the client waits for itself."""
    with self._lock:
        yield from original(self)


@_wrapping(Pool, "_lease")
def looks_pile_up(original, self, call, member, now, kind):
    """While one call finds out how a provider is, so do all others (ours, once): a quarter of the traffic."""
    attempt = original(self, call, member, now, kind)
    member.exploration = None
    return attempt


@_wrapping(Doubt, "answered")
def doubt_is_for_ever(original, self, now):
    """A provider that failed often is never trusted again, however well it answers."""
    if not self.raised:
        original(self, now)


@_wrapping(Concurrency, "full")
def limit_is_a_wall(original, self, now):
    """A limit reached once is never left: the count of calls in flight is compared the wrong way round."""
    return self.in_flight > 0


@_wrapping(Budget, "earn")
def budget_overflows(original, self, amount):
    """A quiet week saves up a storm: the bucket has no brim."""
    self.tokens += amount


class Kill(NamedTuple):
    """How a mutant died: by which invariants, each in how many seeds."""

    mutant: str
    by: Counter[str]
    seeds: int

    @property
    def survived(self) -> bool:
        """Whether nothing noticed."""
        return not self.by


def hunt(name: str, seeds: Sequence[int], *, until: int | None = None) -> Kill:
    """Run a mutant through the seeds; stop after it was killed ``until`` times (``None``: never)."""
    by: Counter[str] = Counter()
    run = 0
    for seed in seeds:
        run += 1
        with MUTANTS[name]():
            try:
                fuzz(seed)
            except Violation as violation:
                by[violation.name] += 1
            except Exception as error:
                by[type(error).__name__] += 1
        if until is not None and sum(by.values()) >= until:
            break
    return Kill(name, by, run)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the kill table."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutants", description=__doc__)
    parser.add_argument("--seeds", type=int, default=120, help="seeds per mutant at the most (default 120)")
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
