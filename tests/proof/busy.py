"""A world of providers that have too much to do, hang, or refuse by chance, and books about when they are asked."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Final

from resilient_llm.decide.breaker import State
from resilient_llm.decide.member import Member
from resilient_llm.faults import Fault, FaultKind
from resilient_llm.policy import KeyTerms
from resilient_llm.simulate.client import Real
from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.world import Load
from tests.proof.limits import Demand

BUSY: Final[dict[str, str]] = {
    "B1": "where nobody else is well, an attempt is given up for its silence only when its call ends",
    "B2": "a lone provider that hangs is asked again at half of its call's time, no sooner than it would time out, and "
    "later where it usually takes longer than what is left then; one that has too much to do is not",
    "B3": "each provider that is down has its own wait, which any attempt there begins anew: at most a second, and six "
    "where it has too much to do",
    "B4": "a provider that is well, and where nobody waits for a sign of life, is not passed over for one of a later "
    "tier",
}

TROUBLED: Final = 90.0
"""Seconds of callers, trouble and adversary..."""
QUIET: Final = 30.0
"""...and of callers alone."""
_ENOUGH: Final = 30
"""Answers after which it is clear what is usual..."""
_CLEARLY: Final = math.log(4.0)
"""...of which the last three took four times as long at least."""
_DOUBLED: Final = 0.69
_SOONEST, _LAST_RESORT, _CROWDED = 0.2, 1.0, 6.0
_FIRST_TOKEN: Final = 10.0
"""Seconds after which a lone provider that is silent is asked again at the soonest."""


class Speed:
    """How long the answers of a provider took to begin."""

    def __init__(self) -> None:
        self.began: float = -math.inf
        """The latest start among the attempts that spoke."""
        self.heard: float = -math.inf
        """When one spoke last."""
        self._logs: list[float] = []
        self._longer = False
        """Whether an attempt was overtaken, which would have taken longer."""
        self._kinds: set[bool] = set()
        """Streams and whole answers, which do not take equally long."""

    def spoke(self, started: float, seconds: float, now: float, *, streaming: bool) -> None:
        """An answer began after so many seconds (of a short prompt)."""
        self._kinds.add(streaming)
        self.began = max(self.began, started)
        self.heard = now
        self._logs.append(math.log(max(seconds, 0.05)))

    def overtaken(self) -> None:
        """An attempt was given up."""
        self._longer = True

    def queues(self, started: float, now: float) -> bool:
        """Whether those who were asked before an attempt are answered still, and nobody who was asked since."""
        return self.began <= started and self.heard - started > (now - started) / 2.0

    @property
    def least(self) -> float:
        """Seconds to a sign of life that all of the latest answers took at least; 0 where there are too few, or of both
        kinds."""
        return math.exp(min(self._logs[-72:])) if len(self._logs) >= 72 and len(self._kinds) == 1 else 0.0

    @property
    def busy(self) -> bool | None:
        """Whether its latest answers took much longer than usual; ``None``: one may see it either way."""
        logs = self._logs
        if len(logs) < 20:
            return False
        before, last = logs[-103:-3], logs[-3:]
        usual = sum(before) / len(before)
        if len(logs) >= _ENOUGH and min(last) >= usual + _CLEARLY:
            return True if len(self._kinds) == 1 else None
        calm = max(logs) - min(logs) < _DOUBLED and not self._longer
        return False if calm else None


class Busy:
    """When providers are asked again, or given up."""

    def __init__(self, demand: Demand) -> None:
        self._demand = demand
        self.speeds: dict[Member[Provider], Speed] = {}
        self._crowded: dict[Member[Provider], bool | None] = {}
        self._down_at: dict[Member[Provider], tuple[State, float]] = {}
        """In which way a provider is down, and since when."""
        self._resort: dict[Member[Provider], float] = {}
        """When each of those that are down was due before this step."""

    def speed(self, member: Member[Provider]) -> Speed:
        """How fast a provider is."""
        return self.speeds.setdefault(member, Speed())

    def look(self, member: Member[Provider], now: float) -> None:
        """Before a step."""
        state, was = member.breaker.state, self._down_at.get(member)
        if not member.breaker.down:
            self._down_at.pop(member, None)
        elif was is None or was[0] is not state:
            self._down_at[member] = state, now
        self._resort[member] = member.resort_at

    def failed(self, member: Member[Provider], fault: Fault, *, spoke: bool, certain: bool = True) -> None:
        """An attempt failed.  ``certain``: that is known to count."""
        found: bool | None = fault.kind is FaultKind.OVERLOADED or (fault.kind is FaultKind.TIMEOUT and spoke)
        if fault.kind is FaultKind.TIMEOUT and not spoke:
            found = self.speed(member).busy
        same = certain or found is self._crowded.get(member, False)
        self._crowded[member] = found if same else None

    # --- attempts ---

    def leased(
        self, step: Real, *, down: bool, again: bool, members: Mapping[str, Member[Provider]], now: float
    ) -> None:
        """An attempt was allowed at a provider that was ``down`` before or not, beside another one there (``again``) or
        not; what that means for the waits."""
        member = step.member
        for other in members.values():
            if other is not member:
                most = max(self._resort.get(other, -math.inf), now + _LAST_RESORT)
                told = f"{step!r} keeps others from {other.id} for {other.resort_at - now} s"
                self._demand(other.resort_at <= most + 1e-6, "B3", told)
        if not down:
            return
        crowded = self._crowded.get(member, False)
        most = max(self._resort.get(member, -math.inf), now + (_LAST_RESORT if crowded is False else _CROWDED))
        self._demand(member.resort_at <= most + 1e-6, "B3", f"{member.id} is tried in {member.resort_at - now} s only")
        _, since = self._down_at.get(member, (State.OPEN, now))
        grown = max((now - since) / 4.0, _SOONEST)
        least = now + min(grown, _CROWDED if crowded else _LAST_RESORT)
        told = f"{member.id}, down, may be asked again {member.resort_at - now} s after {step!r}"
        self._demand(member.resort_at >= least - 1e-6, "B3", told)
        if not again and (crowded or step.kind == "hedge"):
            due = min(member.breaker.trial_at, self._resort.get(member, -math.inf))
            self._demand(now >= due - 1e-6, "B3", f"{step!r} although it is due in {due - now} s")

    def patient(self, step: Real, *, alone: bool, lone: bool, left: float, longest: float) -> None:
        """For how long an attempt may be silent.  ``alone``: nobody else is well; ``lone``: there is nobody else;
        ``longest``: seconds that it took this provider at most to answer a short prompt."""
        if step.ask.batch or not step.ask.repeatable:
            return
        if alone:
            self._demand(step.timeout >= left - 1e-6, "B1", f"{step!r} is given up {left - step.timeout} s early")
        if lone and step.kind != "hedge":
            due = step.rescue_after
            asked = due is not None and min(left / 2.0, _FIRST_TOKEN) - 1e-6 <= due <= left / 2.0 + 1e-6
            slow = longest * _scale(step) >= (left if due is None else due) - 1e-6
            in_vain = due is not None and self.speed(step.member).least * _scale(step) > left - due + 1e-6
            told = f"{step!r}, alone with {left} s left, is sent again after {due} s"
            self._demand((asked or slow) and not (asked and in_vain), "B2", told)

    def rescued(self, beside: Real, found: Real, now: float) -> None:
        """A second attempt was allowed."""
        if found.member is beside.member:
            speed = self.speed(beside.member)
            queued = speed.busy is True and speed.began <= beside.started
            queued = queued or speed.queues(beside.started, now - 1e-6)
            self._demand(not queued, "B2", f"{found!r} stands in the queue of {beside!r}")

    def not_rescued(self, beside: Real, longest: float, now: float) -> None:
        """There was none beside an attempt at a lone provider, though half of its time is gone, it can be paid for and
        nothing else is in its way."""
        speed = self.speed(beside.member)
        queued = speed.busy is not False and speed.began <= beside.started
        queued = queued or speed.queues(beside.started, now) or longest * _scale(beside) >= now - beside.started
        self._demand(queued, "B2", f"{beside!r} hangs and is not sent again")


def _scale(attempt: Real) -> float:
    """Times as long as for a short prompt that an answer takes."""
    return 1.0 + attempt.ask.tokens / 4000.0


# --- the world ---


def layout(seed: int) -> tuple[list[list[Provider]], Load]:
    """Who can be asked, and by whom.  Each world has a theme: too much to do, keys, rate limits, who is down, keys and
    rate limits."""
    dice = random.Random(f"busy {seed}")
    theme = seed % 5
    count = dice.choice((1, 2, 2) if theme in (0, 3) else (1, 1, 2))
    providers = [_provider(name, theme, dice) for name in "abc"[:count]]
    tiers = [providers] if dice.random() < 0.3 else [[provider] for provider in providers]
    load = Load(
        rate=dice.choice((1.0, 2.0)),
        streaming=dice.choice((1.0, 1.0, 0.5)),
        prompt=500,
        output=20,
        deadline=dice.choice((8.0, 20.0, 60.0)),
        unrepeatable=dice.choice((0.0, 0.0, 0.1)),
    )
    return tiers, load


def _provider(name: str, theme: int, dice: random.Random) -> Provider:
    nature = Nature(
        first_token=0.3,
        sigma=dice.choice((0.1, 0.3)),
        pace=0.01,
        rate=dice.choice((1.5, 2.5)) if theme == 0 else None,
        patience=dice.choice((5.0, 60.0, 120.0)),
    )
    provider = Provider(name, nature, _TROUBLES[theme](dice))
    count = dice.choice((1, 1, 2)) if theme == 1 else 1
    provider.keys = tuple(KeyTerms(account=f"{name} {key}") for key in range(count))
    return provider


def _too_much(dice: random.Random) -> list[Trouble]:
    """Less room, or slower answers; beside it some calls may fail, or the connections that were kept hang."""
    begin = dice.uniform(10.0, 40.0)
    end = begin + dice.uniform(20.0, 50.0)
    kind, factor = dice.choice((("shrink", 0.25), ("shrink", 0.5), ("slow", 8.0)))
    other = dice.choice((None, "stuck", "error"))
    found = Trouble(begin, end, kind, factor=factor)
    return [found] if other is None else [found, Trouble(begin, end, other, 0.3)]


def _bad_keys(dice: random.Random) -> list[Trouble]:
    """A share of the calls is refused, then perhaps all, and some once more after more than a minute."""
    kind, begin = dice.choice(("auth", "quota")), dice.uniform(3.0, 10.0)
    middle = begin + dice.uniform(5.0, 12.0)
    end = middle + dice.choice((0.0, 0.0, 15.0))
    later = dice.uniform(95.0, 105.0)
    chance = Trouble(begin, middle, kind, dice.choice((0.15, 0.3, 0.6)))
    return [chance, Trouble(middle, end, kind), Trouble(later, 120.0, kind, dice.choice((0.3, 1.0)))]


def _limits(dice: random.Random) -> list[Trouble]:
    begin = dice.uniform(0.0, 30.0)
    end, share = begin + dice.uniform(20.0, 50.0), dice.choice((0.1, 0.2, 0.4))
    return [Trouble(begin, end, "429", share, retry_after=dice.choice((None, 2.0, 6.0)))]


def _down(dice: random.Random) -> list[Trouble]:
    """All are down together, each for another reason, and perhaps for a second one."""
    begin, end = dice.uniform(15.0, 20.0), dice.uniform(60.0, 90.0)
    middle = begin + dice.choice((8.0, 12.0, 20.0))
    first, then = dice.choice(("error", "hang", "refuse")), dice.choice(("error", "hang", "overloaded", "overloaded"))
    return [Trouble(begin, middle, first), Trouble(middle, end, then, dice.choice((1.0, 1.0, 0.7)))]


def _both(dice: random.Random) -> list[Trouble]:
    """Refusals by chance of a rate limit that nobody has, and then of the key."""
    limit = Trouble(0.0, 80.0, "429", dice.choice((0.2, 0.4)), retry_after=dice.choice((2.0, 6.0)))
    return [limit, Trouble(30.0, 70.0, dice.choice(("auth", "quota")), dice.choice((0.3, 0.6)))]


_TROUBLES: Final = (_too_much, _bad_keys, _limits, _down, _both)
