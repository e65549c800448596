"""The circuit breaker of one provider: the one place where it loses its traffic, and gets it back, because of how it
answers.

Theory of operation
-------------------

A closed breaker weighs evidence.  It opens *softly* when the provider fails too often, became slow, or is silent: such
a provider still answers some calls, and is asked when nobody better is there.  It opens (*hard*) when the provider
failed so many times in a row that it must be down.

The way back is the *trial*: a real call that goes to the open provider although others are well.  The first trial is
due ``open_base`` seconds after it opened.  While trials fail, the time to the next one is as long as the breaker has
been open, between ``open_base`` and ``open_cap``: a short outage costs a short wait.  A success makes the next call a
trial too, and enough successes in a row close it.  A provider that relapses within five minutes needs more of them.

Two rules keep it honest:

* every change of state starts a new *generation*, and an attempt that began in an earlier one cannot move the breaker:
  calls last minutes, open periods seconds, so late results are the normal case and prove nothing about now (only
  where it opened on a presumption that proved void, the generation before is the current one again);
* a trial that ends without a verdict (cancelled, rate limited) gives its place back and judges nobody; one that never
  ends loses its place when its time is over.

Every change of state goes through :data:`TRANSITIONS`; the diagram in the documentation is drawn from it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from resilient_llm.decide.outcome import Outcome
from resilient_llm.policy import Breaker as Policy


class State(StrEnum):
    """``closed``: asked in its turn.  ``softly_open``: asked when nobody better is there.  ``open``: down, only tried.
    ``isolated``: held open by a person."""

    CLOSED = "closed"
    SOFTLY_OPEN = "softly_open"
    OPEN = "open"
    ISOLATED = "isolated"


CLOSED: Final = State.CLOSED
"""For questions asked at every call: looking up an enum's member costs Python 3.11 more than the question."""


_SOFT: Final = State.SOFTLY_OPEN


class Cause(StrEnum):
    """Why a breaker changes its state; the text is the reason that people are shown."""

    FAILING = "it failed too often"
    SLOW = "it became much slower"
    SILENT = "it gives no sign of life"
    STALLED = "its streams stopped"
    DOWN = "it failed many times in a row"
    TRIAL_PASSED = "a trial was answered"
    RECOVERED = "enough trials were answered"
    SPOKE = "it was not silent after all"
    ISOLATED = "isolated by hand"
    RESTORED = "restored by hand"


TRANSITIONS: Final[Mapping[tuple[State, Cause], State]] = MappingProxyType(
    {
        (State.CLOSED, Cause.FAILING): State.SOFTLY_OPEN,
        (State.CLOSED, Cause.SLOW): State.SOFTLY_OPEN,
        (State.CLOSED, Cause.SILENT): State.SOFTLY_OPEN,
        (State.CLOSED, Cause.STALLED): State.SOFTLY_OPEN,
        (State.CLOSED, Cause.DOWN): State.OPEN,
        (State.SOFTLY_OPEN, Cause.DOWN): State.OPEN,
        (State.SOFTLY_OPEN, Cause.RECOVERED): State.CLOSED,
        (State.SOFTLY_OPEN, Cause.SPOKE): State.CLOSED,
        (State.OPEN, Cause.TRIAL_PASSED): State.SOFTLY_OPEN,
        (State.OPEN, Cause.RECOVERED): State.CLOSED,
        (State.CLOSED, Cause.ISOLATED): State.ISOLATED,
        (State.SOFTLY_OPEN, Cause.ISOLATED): State.ISOLATED,
        (State.OPEN, Cause.ISOLATED): State.ISOLATED,
        (State.SOFTLY_OPEN, Cause.RESTORED): State.CLOSED,
        (State.OPEN, Cause.RESTORED): State.CLOSED,
        (State.ISOLATED, Cause.RESTORED): State.CLOSED,
    }
)

_PRESUMED: Final = frozenset({Cause.SILENT, Cause.STALLED})
"""Presumptions, which an answer makes void."""
RELAPSE: Final = 300.0
"""Seconds after it closed within which opening again is a relapse."""
LAST_RESORT: Final = 1.0
"""Seconds between two trials of a provider that is down, at most, where nobody else can be asked."""
_LONGEST_FIRST = 60.0  # seconds: the first wait after many relapses
_BROKEN_STREAMS = 4.0  # longer waits where a failed trial is likely to be a broken stream, which nobody can hide
_GROWTH = 0.7  # of the time it has been open: the wait for the next trial
_MOST_SUCCESSES = 10
_MOST_LEVEL = 5.0  # evidence at which it opens softly: three failures in a row
_SHARE_STEP = 1 / 16  # weight of one outcome in the share of failures
_USUAL_SHARE, _MOST_SHARE = 0.3, 0.9
_CHANCE = math.log(0.003)  # a run of failures this unlikely is an outage
_CROWDED = 6.0
_MOST_RELAPSES = 16
_SOONEST_LAST_RESORT = 0.2


class Breaker:
    """State of one breaker.  Not locked: the pool's lock is held by whoever calls.

    Failing too often is a one-sided CUSUM on outcomes (Page, 1954): each adds the logarithm of how much likelier it is
    from a provider that fails twice ``ratio`` of its calls than from one that fails a third of it, which is nothing on
    average at about ``ratio``.  Down is a run of failures that a provider as broken as it was lately would show once in
    a hundred times.
    """

    cause: Cause | None = None
    """Why it is in its state; ``None`` if it never changed."""
    reason: str = ""
    passed: int = 0
    """Trials answered in a row."""
    trial_at: float = -math.inf
    """When the next trial is due; of no meaning while closed."""
    tried_at: float = -math.inf
    """When the last trial began."""
    closed_at: float = -math.inf
    failed_at: float = -math.inf
    """When it failed last."""
    ends_late: bool = False
    """Whether it failed after content had come, lately: then a trial is judged at the end of its answer."""
    timed_out: bool = False
    """Whether its last failure was silence."""
    crowded: bool = False
    """Whether its last failure was a sign of overload."""
    _share: float = _USUAL_SHARE
    _relapses: int = 0
    since: float = -math.inf
    """When it opened."""
    _down_at: float = -math.inf
    _run_at: float = -math.inf
    _broke_at: float = -math.inf  # when it failed after content last
    _before: int = 0  # the generation in which it was presumed to be silent or stalled
    _latest: int = 0  # the highest generation

    def __init__(self, policy: Policy) -> None:
        # What every call asks: Python 3.11 reads an attribute of the class four times as slowly.
        self.state: State = CLOSED
        self.generation: int = 0
        self.run: int = 0
        """Failures in a row."""
        self._failures = 0
        self._level = 0.0
        self.govern(policy)

    def govern(self, policy: Policy) -> None:
        """Go by this policy from now on."""
        self.policy = policy
        well, broken = policy.ratio / 3.0, 2.0 * policy.ratio
        self._bad, self._good = math.log(broken / well), math.log((1.0 - well) / (1.0 - broken))

    # --- questions ---

    @property
    def soft(self) -> bool:
        """Whether it is open but the provider answers some calls."""
        return self.state is _SOFT

    @property
    def down(self) -> bool:
        """Whether asking it is likely to be in vain: it is only tried, also as the last resort."""
        return self.state is State.OPEN or (self.state is State.SOFTLY_OPEN and self.cause is Cause.SILENT)

    @property
    def together(self) -> bool:
        """Whether a trial starts beside another attempt: against silence and slowness it would cost its caller time."""
        return self.timed_out or self.cause is Cause.SILENT or self.cause is Cause.SLOW

    @property
    def share(self) -> float:
        """The share of its calls that failed lately."""
        return self._share_after(self._failures)

    def last_resort_wait(self, now: float) -> float:
        """Seconds to the next trial where nobody else can be asked: short while it is down for not long, for it may be
        merely half broken, and a second later; six where it fails for want of room, which more requests make worse."""
        most = LAST_RESORT * (_CROWDED if self.crowded else 1.0)
        return min(max((now - self._down_at) / 4.0, _SOONEST_LAST_RESORT), most)

    def trial_wait(self, now: float) -> float:
        """Seconds from one trial to the next: as long as it has been open, within bounds."""
        base, cap = self.policy.open_base, self.policy.open_cap
        first = min(max(_LONGEST_FIRST, base), base * 2.0**self._relapses)
        wait = min(max(first, _GROWTH * (now - self.since)), max(first, cap))
        return min(wait * (_BROKEN_STREAMS if self._costly else 1.0), max(_LONGEST_FIRST, base, cap))

    @property
    def needed(self) -> int:
        """Trials that must be answered in a row to close it."""
        level = 1 + self._relapses + self._costly
        return min(self.policy.successes * level, max(_MOST_SUCCESSES, self.policy.successes))

    # --- outcomes ---

    def succeeded(self, now: float) -> bool:
        """Count a success of the current generation; returns whether the state changed."""
        if self._failures:
            self._share = self._share_after(self._failures)
            self.run, self._failures, self._run_at = 0, 0, -math.inf
        self._share -= self._share * _SHARE_STEP
        if self.state is CLOSED:
            if self._level:
                self._level = max(0.0, self._level - self._good)
            return False
        if self.state is State.ISOLATED:
            return False
        if self.cause is Cause.SILENT:  # it speaks: who has nobody better may ask it
            self.cause, self.reason = Cause.SLOW, Cause.SLOW.value
        self.passed += 1
        self.trial_at = now
        self.ends_late = self.ends_late and now - self._broke_at < RELAPSE
        if self.passed >= self.needed:
            self._move(Cause.RECOVERED, now)
            return True
        if self.state is State.OPEN:
            self._move(Cause.TRIAL_PASSED, now)
            return True
        return False

    def failed(
        self, now: float, outcome: Outcome, draw: float, *, started: float = math.inf, after_content: bool = False
    ) -> bool:
        """Count a failure of the current generation, of an attempt that began at ``started``; returns whether the state
        changed.  HARD and SOFT count (SOFT half, and not towards the run)."""
        self.failed_at = now
        weight = 1.0 if outcome is Outcome.HARD else 0.5
        if outcome is Outcome.HARD:
            self._failures += 1
            if started >= self._run_at:
                # Failures often come sooner than answers: of attempts that ran at the same time one counts.
                self.run, self._run_at = self.run + 1, now
        if self.state is State.ISOLATED:
            return False
        if after_content:
            self._broke_at = now
        self.ends_late = after_content or (
            self.ends_late and self.state is not CLOSED and now - self._broke_at < RELAPSE
        )
        if self.state is not CLOSED:
            if self.passed and after_content:  # some of its streams break: as a relapse
                self._relapses = min(self._relapses + 1, _MOST_RELAPSES)
            self.passed = 0
            self._schedule(now, draw)
        if self.state is not State.OPEN and self.run >= self._down():
            self._move(Cause.DOWN, now, draw, f"{self.run} failures in a row")
            return True
        if self.state is CLOSED:
            self._level += weight * self._bad
            if self._level >= _MOST_LEVEL:
                self._move(Cause.FAILING, now, draw)
                return True
        return False

    def suspected(self, cause: Cause, now: float, draw: float) -> bool:
        """It became slow, gives no sign of life, or its streams stopped; returns whether the state changed."""
        if self.state is not CLOSED:
            return False
        self._move(cause, now, draw)
        self.ends_late, self._broke_at = cause is Cause.STALLED, now
        return True

    def fell_silent(self, now: float, seconds: float) -> None:
        """One that was slow, or failed too often, gave no sign of life for so long: it answers no calls any more."""
        failing = self.cause is Cause.FAILING and now - self.failed_at >= seconds
        if self.soft and (failing or self.cause is Cause.SLOW):
            self.cause, self.reason = Cause.SILENT, Cause.SILENT.value

    def spoke(self, now: float) -> bool:
        """What was taken for silent or stalled spoke: the presumption is void; returns whether the state changed."""
        if self.state is not _SOFT or self.cause not in _PRESUMED:
            return False
        self._move(Cause.SPOKE, now)
        return True

    # --- trials and people ---

    def isolate(self, now: float) -> None:
        """Hold it open until :meth:`restore`."""
        if self.state is not State.ISOLATED:
            self._move(Cause.ISOLATED, now)

    def restore(self, now: float) -> None:
        """Close it by hand, and hold nothing against the provider."""
        if self.state is not CLOSED:
            self._move(Cause.RESTORED, now)
        self.run, self._failures, self._level, self._relapses, self._share = 0, 0, 0.0, 0, _USUAL_SHARE
        self.closed_at, self.ends_late = -math.inf, False

    # --- internals ---

    @property
    def _costly(self) -> bool:
        """Whether a trial is likely to cost its caller the answer: streams break after content again and again, or fall
        silent, which takes longest to be found out."""
        return self.ends_late and (self._relapses > 0 or self.crowded or self.cause is Cause.STALLED)

    def _down(self) -> int:
        """How many failures in a row mean that it is down."""
        if self._share <= _USUAL_SHARE:
            return self.policy.consecutive
        return max(self.policy.consecutive, math.ceil(_CHANCE / math.log(min(_MOST_SHARE, self._share))))

    def _share_after(self, failures: int) -> float:
        """The share of failures after a run of them."""
        return 1.0 - (1.0 - self._share) * (1.0 - _SHARE_STEP) ** failures

    def _schedule(self, now: float, draw: float) -> None:
        """The next trial, up to a quarter sooner."""
        wait = self.trial_wait(now)
        self.trial_at = max(now, max(self.tried_at, self.since) + wait * (1.0 - 0.25 * draw))

    def _move(self, cause: Cause, now: float, draw: float = 0.0, reason: str = "") -> None:
        before, self.state = self.state, TRANSITIONS[self.state, cause]
        self.reason = reason or cause.value
        if cause is Cause.SPOKE:  # as if it had never opened: what began before still counts
            self.generation, self.cause, self.passed = self._before, cause, 0
            return
        if cause in _PRESUMED:
            self._before = self.generation
        self._latest = self.generation = max(self._latest, self.generation) + 1
        if self.state is CLOSED:
            self.passed, self._level, self.ends_late, self.timed_out, self.cause = 0, 0.0, False, False, cause
            if cause is Cause.RECOVERED:
                self.closed_at = now
        elif cause is not Cause.TRIAL_PASSED:
            self.passed, self.cause = 0, cause
            self._down_at = now
            if before is CLOSED:
                relapsed = now - self.closed_at < RELAPSE
                if cause not in _PRESUMED:
                    self._relapses = min(self._relapses + 1, _MOST_RELAPSES) if relapsed else 0
                self.since = now
                self._schedule(now, draw)
