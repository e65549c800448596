"""What a fault schedule is, and how troubles are written down."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final, NamedTuple

from resilient_llm.simulate.providers import Nature, Provider, Trouble
from resilient_llm.simulate.world import Load, Stop

_USUAL: Final = Nature()


class Want(NamedTuple):
    """What must hold beyond the goals of every schedule; ``None``: nothing is demanded.

    ``answered`` is the least share of calls during the fault, ``broken`` the most of its first fourteen calls that may
    fail, ``back`` the most seconds until the preferred provider has its traffic back, ``regret`` the most seconds in
    which it was well and not used, ``attempts`` the most attempts a call.
    """

    answered: float | None = None
    broken: int | None = None
    back: float | None = None
    regret: float | None = None
    attempts: float | None = None


NOTHING: Final = Want()


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What happens to whom.  ``fault`` is when (from, to); ``total`` says that meanwhile nobody can answer.

    The first ``hurt_count`` providers are the hurt ones, the others have the troubles of ``rest``, everybody those of
    ``all``; with ``drift`` each one's speed is redrawn after so many seconds (``None``: never).  ``stops`` are when the
    client's machine stands still.

    ``each`` has further troubles of each provider (empty: none).

    ``outage`` is when the preferred provider was down as a whole (``None``: never): its traffic must come back in time.
    ``for_good``: the preferred one, and only it, is down to the end; ``half_broken``: the hurt one answers some calls.
    ``losses`` are calls of a run that finding out may cost where no second attempt can make up for it (streams that
    break after content).  ``waived`` are goals that are not demanded of it, with the reason; ``seeds`` how many runs it
    takes (``None``: the usual number).
    """

    name: str
    what: str
    seconds: float = 3600.0
    rate: float = 1.0
    fault: tuple[float, float] = (900.0, 1800.0)
    hurt: tuple[Trouble, ...] = ()
    rest: tuple[Trouble, ...] = ()
    all: tuple[Trouble, ...] = ()
    each: tuple[tuple[Trouble, ...], ...] = ()
    nature: Nature = _USUAL
    hurt_nature: Nature | None = None
    hurt_count: int = 1
    drift: float | None = None
    count: int = 3
    deadline: float = 120.0
    streaming: float = 1.0
    even: bool = False
    prompt: int | None = None
    output: int | None = None
    stops: tuple[Stop, ...] = ()
    total: bool = False
    outage: tuple[float, float] | None = None
    for_good: bool = False
    half_broken: bool = False
    losses: int = 0
    want: Want = NOTHING
    waived: tuple[tuple[str, str], ...] = ()
    seeds: int | None = None
    classic: bool = False
    """Judged by the goals for a single call a second as well: 1.05 attempts a call, a 99th percentile within 1.5 times
    the oracle's."""
    layouts: tuple[str, ...] = ("tiers",)
    reference: str = ""

    def providers(self) -> list[Provider]:
        """``a`` and its peers, fresh."""
        return [self._provider(index) for index in range(self.count)]

    def _provider(self, index: int) -> Provider:
        hurt = index < self.hurt_count
        nature = self.hurt_nature if hurt and self.hurt_nature else self.nature
        drift = drifting(index + 1, self.seconds, self.drift) if self.drift else ()
        own = self.each[index] if self.each else ()
        return Provider(chr(ord("a") + index), nature, (*(self.hurt if hurt else self.rest), *self.all, *own, *drift))

    def load(self) -> Load:
        """Who asks; prompts and answers of a given length are all that long."""
        load = Load()
        return Load(
            rate=self.rate,
            deadline=self.deadline,
            streaming=self.streaming,
            even=self.even,
            prompt=self.prompt or load.prompt,
            prompt_sigma=load.prompt_sigma if self.prompt is None else 0.0,
            output=self.output or load.output,
            output_sigma=load.output_sigma if self.output is None else 0.0,
        )

    @property
    def well(self) -> bool:
        """Whether somebody is well all the time."""
        return any(not provider.ever_troubled for provider in self.providers())


def during(kind: str, start: float = 900.0, end: float = 1800.0, **more: float) -> tuple[Trouble, ...]:
    return (Trouble(start, end, kind, **more),)


def flapping(kind: str, start: float, end: float, half: float) -> tuple[Trouble, ...]:
    """Down for ``half`` seconds, up for as long, and so on."""
    count = int((end - start) / (2 * half))
    return tuple(Trouble(start + 2 * half * i, start + 2 * half * i + half, kind) for i in range(count))


def drifting(seed: int, seconds: float, every: float) -> tuple[Trouble, ...]:
    """A rate of service that changes by up to five times, redrawn ``every`` seconds."""
    dice = random.Random(f"drift {seed}")
    return tuple(
        Trouble(i * every, (i + 1) * every, "slow", factor=dice.choice((1.0, 5.0))) for i in range(int(seconds / every))
    )
