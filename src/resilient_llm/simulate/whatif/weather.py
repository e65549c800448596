"""What vendors are like: how fast on a usual day, and how often something is wrong.

Both are starting points from public measurements, not promises: give your own where you have them.
"""

from __future__ import annotations

import math
import random
from types import MappingProxyType
from typing import Final, NamedTuple

from resilient_llm.simulate.providers import Nature, Trouble

SPEEDS: Final = MappingProxyType(
    {
        "openai": Nature(first_token=0.9, pace=0.022),
        "azure_openai": Nature(first_token=0.9, pace=0.022),
        "anthropic": Nature(first_token=1.7, pace=0.018),
        "bedrock": Nature(first_token=1.7, pace=0.018),
        "gemini": Nature(first_token=0.4, pace=0.005),
        "vertex_ai": Nature(first_token=0.4, pace=0.005),
        "mistral": Nature(first_token=0.4, pace=0.02),
        "deepseek": Nature(first_token=1.7, pace=0.03),
        "xai": Nature(first_token=2.5, pace=0.01),
        "groq": Nature(first_token=0.2, pace=0.004),
    }
)
"""Median seconds to the first token of a short prompt, and seconds a token, by vendor.

From hourly probes of 15 models in 2026 (https://www.jonathanwrede.de/en/blog/ttft-varies-13x-across-llm-providers/) and
published comparisons; models of one vendor differ by several times.
"""
USUAL: Final = Nature()
"""Of every other vendor."""
SPEEDS_SOURCE: Final = "hourly probes of 15 models, 2026, and published comparisons; models of one vendor differ"


class Frequency(NamedTuple):
    """Incidents of one severity: how many a year, the median of their minutes, the spread (of the logarithm), and the
    share of calls that fails."""

    a_year: float
    minutes: float
    sigma: float
    share: float


YEARS: Final = MappingProxyType(
    {
        "openai": (Frequency(44, 90, 1.2, 0.1), Frequency(34, 74, 1.2, 0.5), Frequency(10, 52, 1.2, 1.0)),
        "anthropic": (Frequency(40, 85, 1.2, 0.1), Frequency(47, 28, 1.2, 0.5), Frequency(2, 120, 1.2, 1.0)),
    }
)
"""Counts and medians of the incidents that the vendors' own status pages reported from November 2023 to October 2024
(minor, major, critical), as collected by the study "LLM outages and incidents" (ICPE 2025).  Status pages tell no error
rates: minor is read as a tenth of the calls failing, major as half, critical as all."""
OTHERS: Final = (Frequency(42, 88, 1.2, 0.1), Frequency(40, 50, 1.2, 0.5), Frequency(6, 60, 1.2, 1.0))
"""Of vendors without a record: the mean of the two."""
YEAR: Final = 365 * 86400.0
YEAR_SOURCE: Final = (
    "drawn from how often and how long the status pages of OpenAI and Anthropic reported incidents from November 2023 "
    "to October 2024 (study of LLM outages, ICPE 2025); minor is read as 10 % of calls failing, major 50 %, critical "
    "all; other vendors as the mean of the two; servers of your own stay well"
)
_LONGEST: Final = 12 * 60.0
_OWN: Final = frozenset({"ollama", "vllm", "llama_cpp", "hf_tgi"})


def speed(vendor: str) -> Nature:
    """What a vendor is like on a usual day."""
    return SPEEDS.get(vendor, USUAL)


def year(vendor: str, seed: int) -> tuple[Trouble, ...]:
    """A year of incidents of one vendor, the same for every provider of it; a draw by the seed."""
    if vendor in _OWN:
        return ()
    dice = random.Random(f"year {vendor} {seed}")
    found: list[Trouble] = []
    for frequency in YEARS.get(vendor, OTHERS):
        at = dice.expovariate(frequency.a_year / YEAR)
        while at < YEAR:
            minutes = min(_LONGEST, frequency.minutes * math.exp(frequency.sigma * dice.gauss(0.0, 1.0)))
            kind = "error" if dice.random() < 0.8 else "hang"
            found.append(Trouble(at, min(YEAR, at + 60.0 * minutes), kind, frequency.share))
            at += dice.expovariate(frequency.a_year / YEAR)
    return tuple(sorted(found))
