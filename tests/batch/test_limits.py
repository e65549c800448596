"""How long a batch takes at limits, in virtual time, beside what the limits alone would take."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from resilient_llm.errors import Fault, FaultKind
from tests.batch.mapped import Mapped
from tests.decide.crowd import Server

PROMPTS, ANSWER = 1500, 0.12


def ideal(rate: float) -> float:
    """Seconds for all prompts: the first second's at once, and one answer at the end."""
    return (PROMPTS - rate) / rate + ANSWER


def server(rate: int, *, hints: bool = True) -> Server:
    return Server({"requests": rate, "per": 1.0}, seconds=0.1, hints=hints)


@pytest.mark.parametrize(
    ("batch", "rates", "hints", "most", "refused"),
    [
        (False, (100,), True, 1.12, 0.03),
        (True, (100,), True, 1.1, 0.02),
        (False, (80, 40), True, 1.15, 0.03),
        (True, (80, 40), True, 1.15, 0.02),
        (False, (80,), False, 1.3, 0.1),
        (True, (80,), False, 1.3, 0.1),
    ],
)
def test_a_batch_takes_hardly_longer_than_its_limits(
    batch: bool, rates: tuple[int, ...], hints: bool, most: float, refused: float
) -> None:
    """A batch may use nine tenths of a limit that counts the requests of each second."""
    run = Mapped(
        {name: server(rate, hints=hints) for name, rate in zip("ab", rates, strict=False)}, PROMPTS, batch=batch
    )
    crowd = run.crowd
    assert not crowd.lost
    assert crowd.seconds <= most * ideal(sum(rates) * (0.9 if batch and hints else 1.0))
    assert crowd.refused <= refused * PROMPTS


class Bucket(Server):
    """A limit that fills all the time, as the vendors' do: so many at once, and as many in each second."""

    def begin(self, clock: Callable[[], float]) -> None:
        self._clock, self._level, self._at = clock, 100.0, 0.0

    def admit(self, key: int, tokens: int) -> tuple[dict[str, str], Fault | None]:
        now = self._clock()
        self._level, self._at = min(100.0, self._level + 100.0 * (now - self._at)), now
        fits = self._level >= 1.0
        self._level -= fits
        headers = {
            "x-ratelimit-limit-requests": "100",
            "x-ratelimit-remaining-requests": str(int(self._level)),
            "x-ratelimit-reset-requests": f"{(100.0 - self._level) / 100.0:.3f}s",
        }
        return headers, None if fits else Fault(FaultKind.RATE_LIMITED, status=429, retry_after=0.01)


def test_a_batch_takes_all_that_comes_back_of_a_limit_that_fills_all_the_time() -> None:
    """What is kept for others is a tenth of what is there, and not of what comes back."""
    crowd = Mapped({"a": Bucket(seconds=0.1)}, PROMPTS, batch=True).crowd
    assert not crowd.lost
    assert crowd.seconds <= 1.1 * ideal(100)
    assert crowd.refused <= 0.01 * PROMPTS
