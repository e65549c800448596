"""Fault schedules of what users meet: grey providers, token buckets, outages, a machine that stands still.

Times are seconds.  Unless it says otherwise, ``a`` is preferred, ``b`` stands behind it.  Outages have callers at equal
distances, so that the time until traffic is back is a matter of the client and not of chance.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

from resilient_llm.simulate.allowance import DIALECTS, Allowance
from resilient_llm.simulate.providers import Nature, Trouble
from resilient_llm.simulate.schedule import NOTHING, Schedule, Want, during, flapping
from resilient_llm.simulate.world import Stop

_QUICK: Final = Nature(first_token=0.2, sigma=0.3, pace=0.01)


_TWO: Final = Schedule(name="", what="", count=2)


def _schedule(name: str, what: str, base: Schedule = _TWO, **changes: Any) -> Schedule:
    """A schedule like another one but for what is given."""
    return replace(base, name=name, what=what, **changes)


def _grey(start: float, end: float, share: float) -> tuple[Trouble, ...]:
    """A share of the calls fails: half of the failures are 500, half are connections that are reset."""
    one = 1.0 - math.sqrt(1.0 - share)
    return (Trouble(start, end, "error", one), Trouble(start, end, "reset", one))


def _spells(start: float, end: float, share: float, mean: float, seed: int) -> tuple[Trouble, ...]:
    """Down for a share of the time, in spells of about ``mean`` seconds."""
    dice, found, at = random.Random(f"spells {seed}"), list[Trouble](), start
    while at < end:
        down = dice.expovariate(1.0 / mean)
        found.append(Trouble(at, min(end, at + down), "error"))
        at += down + dice.expovariate(share / (mean * (1.0 - share)))
    return tuple(found)


_SPELLS: Final = (("oracle", "it knows when a spell of less than a second ends"),)


def _greys() -> Iterator[Schedule]:
    """Providers that fail a share of their calls."""
    run = replace(_TWO, seconds=300.0, rate=4.0, deadline=10.0, fault=(0.0, 300.0))
    for share in (0.2, 0.4, 0.6, 0.8):
        name, told = f"{100 * share:.0f}", f"{share:.0%} of its calls"
        grey = _grey(0.0, 300.0, share)
        yield _schedule(f"grey-lone-{name}", f"the only provider fails {told}", hurt=grey, count=1, base=run)
        yield _schedule(
            f"grey-last-{name}", f"`a` is down, `b` fails {told}", hurt=during("error", 0.0, 300.0), rest=grey, base=run
        )
        yield _schedule(f"grey-both-{name}", f"each of two fails {told}", all=grey, base=run)
        spells = _spells(0.0, 300.0, share, 0.7, int(100 * share))
        told = f"both are down at once, {share:.0%} of the time"
        yield _schedule(f"grey-together-{name}", told, all=spells, base=run, waived=_SPELLS)
    last = _grey(0.0, 300.0, 0.55)
    yield _schedule(
        "grey-last-55", "`a` is down, `b` fails 55 %", hurt=during("error", 0.0, 300.0), rest=last, base=run
    )


def _mixtures() -> Iterator[Schedule]:
    """Both providers fail in several ways."""
    yield _schedule(
        "grey-day",
        "both fail a share of their calls for three hours, 10 to 40 %, drawn anew every five minutes",
        seconds=10800.0,
        rate=1.0,
        deadline=60.0,
        fault=(0.0, 10800.0),
        hurt=_drifting_greys(1),
        rest=_drifting_greys(2),
        want=Want(answered=0.99),
    )
    yield _schedule(
        "chaos-40",
        "each of two answers 40 % of its calls with 500, 503 or 429 (Retry-After: 1); five calls a second",
        seconds=30.0,
        rate=5.0,
        deadline=30.0,
        fault=(0.0, 30.0),
        even=True,
        all=(
            Trouble(0.0, 30.0, "error", 0.16),
            Trouble(0.0, 30.0, "overloaded", 0.16),
            Trouble(0.0, 30.0, "429", 0.16, retry_after=1.0),
        ),
        want=Want(answered=140 / 150),
        seeds=20,
    )


def _drifting_greys(seed: int) -> tuple[Trouble, ...]:
    dice = random.Random(f"greys {seed}")
    parts = [_grey(at, at + 300.0, dice.uniform(0.1, 0.4)) for at in range(0, 10800, 300)]
    return tuple(trouble for part in parts for trouble in part)


def _outages() -> Iterator[Schedule]:
    """The preferred provider is down once, for so long, under so many calls a second."""
    for length in (1.0, 5.0, 20.0, 60.0, 600.0, 3600.0):
        for rate in (0.1, 1.0, 10.0, 100.0):
            yield _outage(length, rate)
    yield _outage(40.0, 5.0, want=Want(back=16.0))
    yield _outage(5.0, 10.0, "outage-row", want=Want(back=5.0))
    yield _outage(20.0, 10.0, "outage-hang", kind="hang")
    yield _outage(20.0, 10.0, "outage-slow", kind="slow")
    for rate in (1.0, 0.2):
        for kind in ("break", "stall"):
            yield replace(
                _outage(20.0, rate, f"outage-{kind}-{rate:g}", kind=kind),
                losses=8,
                waived=(("oracle", "what streams cost that break after content"),),
            )
    yield replace(
        _outage(20.0, 10.0, "outage-grey"),
        what="`a` is down once for 20 s (error), `b` fails half of its calls, 10 calls a second",
        rest=_grey(0.0, math.inf, 0.5),
        layouts=("tiers", "tier"),
    )
    for half in (5.0, 20.0):
        yield _schedule(
            f"flapping-{half:.0f}",
            f"`a` is down for {half:.0f} s and up for as long, for five minutes; ten calls a second",
            seconds=400.0,
            rate=10.0,
            deadline=30.0,
            fault=(30.0, 330.0),
            hurt=flapping("error", 30.0, 330.0, half),
        )
    yield _schedule(
        "down-for-good",
        "`a` is down to the end; ten calls a second",
        seconds=330.0,
        rate=10.0,
        deadline=30.0,
        fault=(30.0, 330.0),
        hurt=during("error", 30.0, 1e9),
        for_good=True,
    )


def _outage(length: float, rate: float, name: str = "", kind: str = "error", want: Want = NOTHING) -> Schedule:
    start = max(30.0, 10.0 / rate)
    end = start + length
    seconds = end + max(60.0, 40.0 / rate)
    return _schedule(
        name or f"outage-{length:.0f}-{rate:g}",
        f"`a` is down once for {length:.0f} s ({kind}), {rate:g} calls a second",
        seconds=seconds,
        rate=rate,
        deadline=30.0,
        even=True,
        fault=(0.0, seconds),
        hurt=during(kind, start, end),
        outage=(start, end),
        want=want,
        seeds=1 if seconds * rate > 50_000 else None,
    )


def _half_broken() -> Iterator[Schedule]:
    for share in (0.2, 0.4, 0.6):
        yield _schedule(
            f"half-broken-{100 * share:.0f}",
            f"`a` fails {share:.0%} of its calls for ten minutes; ten calls a second",
            seconds=690.0,
            rate=10.0,
            deadline=30.0,
            fault=(30.0, 630.0),
            hurt=_grey(30.0, 630.0, share),
            half_broken=True,
        )


def _stalls() -> Iterator[Schedule]:
    """Streams that fall silent after three tokens."""
    for deadline in (2.0, 5.0, 30.0):
        calm = 25 * 1.2 * deadline
        for name, warm in ((f"stall-{deadline:.0f}", 0.0), (f"stall-known-{deadline:.0f}", calm)):
            seconds = warm + 60 * 1.2 * deadline
            yield _schedule(
                name,
                f"`a` stalls every stream after three tokens{', after 25 good calls' if warm else ''}; one call after "
                f"the other, each with {deadline:.0f} s",
                seconds=seconds,
                rate=1.0 / (1.2 * deadline),
                even=True,
                deadline=deadline,
                nature=_QUICK,
                output=30,
                fault=(warm, seconds),
                hurt=during("stall", warm, seconds),
                losses=10,
                want=Want(broken=5),
                waived=(("oracle", "what streams cost that break after content"),),
            )
        yield _schedule(
            f"stall-busy-{deadline:.0f}",
            f"the same under four calls a second, each with {deadline:.0f} s",
            seconds=300.0,
            rate=4.0,
            deadline=deadline,
            nature=_QUICK,
            output=30,
            fault=(30.0, 300.0),
            hurt=during("stall", 30.0, 300.0),
            losses=25,
            waived=(("oracle", "what streams cost that break after content"),),
        )
    for share in (0.2, 0.5):
        yield _schedule(
            f"stall-half-{100 * share:.0f}",
            f"`a` stalls {share:.0%} of its streams for five minutes; ten calls a second, each with 30 s",
            seconds=390.0,
            rate=10.0,
            deadline=30.0,
            nature=_QUICK,
            output=100,
            fault=(30.0, 330.0),
            hurt=during("stall", 30.0, 330.0, rate=share),
            losses=60,
            waived=(("oracle", "what streams cost that break after content"),),
        )


_BUCKET: Final = replace(
    _TWO, even=True, prompt=1000, output=30, rate=0.55, count=1, seconds=600.0, fault=(0.0, 600.0), deadline=30.0
)


def _buckets() -> Iterator[Schedule]:
    """A true token bucket: 30,000 tokens a minute, prompts of 1,000 tokens offered at 1.1 times that."""
    for dialect in DIALECTS:
        for burst in (60.0, 4.0):
            if dialect == "window" and burst < 60.0:
                continue
            limit = Allowance(tokens=30_000, dialect=dialect, burst=burst)
            what = f"{dialect} headers, a bucket of {500 * burst:,.0f} tokens"
            yield _schedule(
                f"bucket-{dialect}" + ("" if burst == 60.0 else "-small"),
                f"30,000 tokens a minute ({what}), 1,000-token prompts at 1.1 times that",
                base=_BUCKET,
                nature=Nature(allowance=limit),
            )


def _narrow_buckets() -> Iterator[Schedule]:
    """Buckets that hold little, count requests, tell nothing, or have somebody behind them."""
    run, small = _BUCKET, Allowance(tokens=30_000, burst=4.0)
    yield _schedule(
        "bucket-row",
        "22 prompts of 1,000 tokens at 1.1 times a bucket that holds 2,000 tokens",
        base=run,
        seconds=40.5,
        fault=(0.0, 40.5),
        nature=Nature(allowance=small),
        want=Want(answered=1.0),
    )
    requests = Allowance(requests=60, burst=5.0)
    yield _schedule(
        "bucket-requests",
        "60 requests a minute, five at once; offered at 1.1 times that",
        base=run,
        rate=1.1,
        seconds=300.0,
        fault=(0.0, 300.0),
        deadline=20.0,
        nature=Nature(allowance=requests),
    )


def _spill() -> Iterator[Schedule]:
    """Somebody stands behind a bucket, and one that tells nothing."""
    run = _BUCKET
    yield _schedule(
        "bucket-spill",
        "`a` allows 30,000 tokens a minute, twice that is asked for, `b` takes any number",
        seconds=600.0,
        rate=1.0,
        deadline=30.0,
        prompt=1000,
        output=30,
        fault=(0.0, 600.0),
        hurt_nature=Nature(allowance=Allowance(tokens=30_000)),
    )
    yield _schedule(
        "bucket-untold",
        "a bucket of 2,000 tokens that tells nothing but Retry-After",
        base=run,
        seconds=300.0,
        fault=(0.0, 300.0),
        nature=Nature(allowance=Allowance(tokens=30_000, burst=4.0, tells=False)),
    )
    yield _schedule(
        "bucket-of-others",
        "answers tell 60 requests a minute, which is another key's limit; four calls a second, and none is refused",
        base=run,
        seconds=300.0,
        rate=4.0,
        deadline=10.0,
        fault=(0.0, 300.0),
        nature=Nature(allowance=Allowance(requests=60, burst=4.0, enforced=False)),
        want=Want(answered=1.0),
    )


def _hints() -> Iterator[Schedule]:
    """Rate limits that are over in time, each met again and again."""
    gaps = [20.0 * turn for turn in range(1, 30)]
    yield _schedule(
        "hints-twice",
        "both answer 429 with Retry-After: 1 twice; one call, deadline 10",
        seconds=601.0,
        rate=0.05,
        even=True,
        deadline=10.0,
        nature=_QUICK,
        output=30,
        fault=(0.0, 601.0),
        all=tuple(Trouble(at - 0.1, at + 1.2, "429", retry_after=1.0) for at in gaps),
        want=Want(answered=1.0),
    )
    yield _schedule(
        "hint-55",
        "the only provider answers 429 with Retry-After: 55; deadline 120",
        seconds=3001.0,
        rate=1.0 / 150.0,
        even=True,
        fault=(0.0, 3001.0),
        count=1,
        all=tuple(Trouble(at - 0.1, at + 54.5, "429", retry_after=55.0) for at in range(150, 3001, 150)),
        want=Want(answered=1.0),
    )


def _hangs() -> Iterator[Schedule]:
    """Providers that hang, or are down together, for a moment."""
    gaps = [20.0 * turn for turn in range(1, 30)]
    yield _schedule(
        "lone-hang",
        "the only provider hangs at every third call; deadline 10",
        seconds=601.0,
        rate=0.05,
        even=True,
        deadline=10.0,
        nature=_QUICK,
        output=30,
        fault=(0.0, 601.0),
        count=1,
        all=tuple(Trouble(at - 0.1, at + 0.1, "hang") for at in gaps[2::3]),
        want=Want(answered=1.0),
    )
    yield _schedule(
        "lone-stuck",
        "the connections that the only provider's client has kept hang for 20 s, new ones work; deadline 10",
        seconds=120.0,
        rate=2.0,
        deadline=10.0,
        nature=_QUICK,
        output=30,
        fault=(0.0, 120.0),
        count=1,
        all=during("stuck", 40.0, 60.0),
        want=Want(answered=0.97),
    )


def _both_down() -> Iterator[Schedule]:
    """Everybody is down for less time than callers have."""
    for length in (3.0, 8.0):
        yield _schedule(
            f"both-down-{length:.0f}",
            f"both are down for {length:.0f} s, two calls a second, deadline 10",
            seconds=60.0,
            rate=2.0,
            even=True,
            deadline=10.0,
            nature=_QUICK,
            output=30,
            fault=(28.0, 36.0 + length),
            all=during("error", 30.0, 30.0 + length),
            outage=(30.0, 30.0 + length),
            want=Want(answered=1.0),
            seeds=10,
        )


def _network() -> Iterator[Schedule]:
    """Our own network is gone."""
    for length in (5.0, 60.0):
        yield _schedule(
            f"network-{length:.0f}",
            f"our own network is gone for {length:.0f} s: every connection is refused; ten calls a second",
            seconds=120.0 + length,
            rate=10.0,
            even=True,
            deadline=30.0,
            total=True,
            fault=(30.0, 30.0 + length),
            all=during("refuse", 30.0, 30.0 + length),
            outage=(30.0, 30.0 + length),
            want=Want(back=2.3),
            waived=(("oracle", "waiting behind a total outage ends after 10 s"),) if length > 5.0 else (),
        )


def _machine() -> Iterator[Schedule]:
    """Nothing is wrong with any provider: the client's machine stands still, its callers are in a hurry."""
    yield _schedule(
        "loop-still",
        "the event loop stands still for 2 s three times, 20 calls a second",
        seconds=150.0,
        rate=20.0,
        deadline=10.0,
        fault=(0.0, 150.0),
        stops=(Stop(30.0, 2.0), Stop(60.0, 2.0), Stop(90.0, 2.0)),
        want=Want(regret=2.0),
    )
    yield _schedule(
        "suspended",
        "the process is suspended for a minute twice, five calls a second",
        seconds=150.0,
        rate=5.0,
        deadline=10.0,
        fault=(0.0, 150.0),
        stops=(Stop(30.0, 60.0, True), Stop(160.0, 60.0, True)),
        want=Want(regret=2.0),
    )
    yield _schedule(
        "stale-connections",
        "for a minute half of the connections that were kept are closed by the other side; ten calls a second",
        seconds=120.0,
        rate=10.0,
        deadline=30.0,
        fault=(30.0, 90.0),
        all=(Trouble(30.0, 90.0, "stale", 0.5),),
        want=Want(answered=1.0, regret=1.0),
    )


def _tight() -> Iterator[Schedule]:
    """Callers who leave less time than two answers take."""
    for deadline in (5.0, 10.0):
        yield _schedule(
            f"tight-{deadline:.0f}",
            f"whole answers that take 3 s or more, each with {deadline:.0f} s; two calls a second",
            seconds=300.0,
            rate=2.0,
            deadline=deadline,
            streaming=0.0,
            fault=(0.0, 300.0),
            want=Want(regret=5.0, attempts=1.1),
        )
    for share in (0.3, 0.6):
        yield _schedule(
            f"tight-hang-{100 * share:.0f}",
            f"`a` hangs at {share:.0%} of its calls for five minutes; whole answers, ten a second, each with 10 s",
            seconds=390.0,
            rate=10.0,
            deadline=10.0,
            streaming=0.0,
            fault=(30.0, 330.0),
            hurt=during("hang", 30.0, 330.0, rate=share),
            losses=250,
            want=Want(attempts=1.2),
            waived=(("oracle", "half of a call's time is gone before anybody can know, and an answer takes the rest"),),
        )


def _saturated() -> Iterator[Schedule]:
    """The preferred provider queues what it cannot do at once; the other one has room for everybody."""
    for deadline, streaming in ((10.0, 0.0), (10.0, 1.0), (120.0, 0.5)):
        yield _schedule(
            f"saturated-{deadline:.0f}{'-streams' if streaming == 1.0 else ''}",
            f"`a` can do two thirds of twelve calls a second for five minutes, and queues the rest; each has "
            f"{deadline:.0f} s",
            seconds=900.0,
            rate=12.0,
            deadline=deadline,
            streaming=streaming,
            fault=(300.0, 600.0),
            hurt=(Trouble(300.0, 600.0, "shrink", factor=0.4),),
            hurt_nature=Nature(rate=20.0),
            want=Want(attempts=1.1 if deadline == 10.0 and not streaming else 1.05),
        )


def _thinking() -> Iterator[Schedule]:
    """Models that decide themselves how long they think."""
    run = replace(_TWO, seconds=600.0, fault=(0.0, 600.0), want=Want(regret=20.0))
    fifth, half = Nature(second_hump=0.2, hump=8.0), Nature(second_hump=0.5, hump=20.0)
    told = "everybody thinks for 8 s before a fifth of its answers; ten calls a second"
    yield _schedule("thinking", told, run, rate=10.0, streaming=1.0, nature=fifth)
    yield _schedule("thinking-whole", told, run, rate=10.0, streaming=0.0, nature=fifth)
    told = "everybody thinks for 20 s before half of its answers; five calls a second"
    yield _schedule("thinking-half", told, run, rate=5.0, deadline=120.0, nature=half)


EVERYDAY: Final = (
    *_greys(),
    *_mixtures(),
    *_outages(),
    *_half_broken(),
    *_stalls(),
    *_buckets(),
    *_narrow_buckets(),
    *_spill(),
    *_hints(),
    *_hangs(),
    *_both_down(),
    *_network(),
    *_machine(),
    *_tight(),
    *_saturated(),
    *_thinking(),
)
"""In the order in which they are run."""
