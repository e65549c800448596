"""What past calls say about a provider: how often it answers, and how fast.

The success estimate is a discounted Beta distribution, the latency estimate a damped peak: half-way up at once when a
call was slow, down with time when calls are fast.  Both forget, so that a provider nobody asks returns to the benefit
of the doubt.
"""

from __future__ import annotations

import math
from typing import Final

from resilient_llm.decide.outcome import Outcome
from resilient_llm.decide.slowness import Slowness
from resilient_llm.policy import Advanced as Policy

_PRIOR, _PRIOR_WEIGHT = 0.95, 5.0  # what is believed of a provider nobody asked yet, and how many calls that is worth
_SAMPLES = 64
_MIN_TOKENS = 8  # a shorter answer says nothing about the pace
_REFRESH = 8  # quantiles may lag this many samples behind: sorting at every call would cost more than the call...
_REFRESH_ALWAYS = 25  # ...but not while there are few, and decisions hang on whether there are 20
FRESH: Final = 2.0
"""Seconds within which evidence does not fade noticeably, and need not be faded."""


_SCORES = {Outcome.OK: 1.0, Outcome.SOFT: 0.5, Outcome.HARD: 0.0}


class Quantiles:
    """Quantiles of the last 64 samples: exact, right from 20 samples on, also where there are two usual values."""

    __slots__ = ("_ring", "_sorted", "count", "largest", "p95")

    def __init__(self) -> None:
        self._ring: list[float] = []
        self._sorted: list[float] = []
        self.count: int = 0
        self.p95: float = 0.0
        """The 95th percentile; 0 without samples."""
        self.largest: float = 0.0
        """The largest sample; 0 without samples."""

    def add(self, sample: float) -> None:
        """Take a sample, dropping the oldest beyond 64."""
        count = self.count
        if count < _SAMPLES:
            self._ring.append(sample)
        else:
            self._ring[count % _SAMPLES] = sample
        self.count = count = count + 1
        if count < _REFRESH_ALWAYS or not count % _REFRESH:
            self._refresh()

    def at(self, share: float) -> float | None:
        """The value that ``share`` of the samples do not exceed; ``None`` without samples."""
        values = self._sorted
        return values[min(len(values) - 1, int(share * len(values)))] if values else None

    def _refresh(self) -> None:
        self._sorted = values = sorted(self._ring)
        self.p95 = values[min(len(values) - 1, int(0.95 * len(values)))]
        self.largest = values[-1]


class Statistics:
    """The record of one provider.  Not locked: the pool's lock is held by whoever calls."""

    samples: int = 0
    seen_at: float = math.inf
    """When it last answered or failed; ``inf`` before the first time."""
    latency: float | None = None
    """Estimated seconds to the first token of a short prompt; ``None`` until measured."""
    _good: float = 0.0
    _total: float = 0.0
    weighed_at: float = -math.inf
    """Until when its evidence has faded."""
    merit: float | None = None
    """How often it is drawn among equals, by its latency and its failures; 0 while its latency is unknown, ``None``
    since something was heard of it."""
    _latency_at: float = 0.0
    _fastest: float = math.inf

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.first: Quantiles = Quantiles()
        """Normalised times to the first token of streamed answers."""
        self.whole: Quantiles = Quantiles()
        """Normalised times of answers that arrive as a whole."""
        self.streams: Quantiles = Quantiles()
        """How long streamed answers take from start to end."""
        self.pauses: Quantiles = Quantiles()
        """The longest pause between two pieces of content of each stream."""
        self.slowness: Slowness = Slowness()
        self.pace: float | None = None
        """Seconds per output token once a stream runs; ``None`` until measured."""

    # --- questions ---

    @property
    def risk(self) -> float:
        """Seconds that its failures cost a call on average, by what was known when it was last heard of."""
        return (1.0 - self._rate()) * self.policy.failure_cost

    def success_rate(self, now: float) -> float:
        """Estimated probability that the next call is answered."""
        good, total = self._good, self._total
        if now - self.weighed_at > FRESH:
            fade = math.exp((self.weighed_at - now) / self.policy.memory)
            good, total = good * fade, total * fade
        return (good + _PRIOR * _PRIOR_WEIGHT) / (total + _PRIOR_WEIGHT)

    def error_rate(self) -> float | None:
        """Share of recent calls that failed, an overload counting half; ``None`` without any."""
        return (self._total - self._good) / self._total if self._total else None

    def scale(self, prompt_tokens: int) -> float:
        """How much longer the first token takes for a prompt of this length (prefill is linear in it)."""
        return 1.0 + prompt_tokens / self.policy.prompt_scale

    def complete(self, *, streaming: bool) -> float:
        """Seconds within which nearly all answers are complete; 0 while unknown."""
        return (self.streams if streaming else self.whole).p95

    # --- samples ---

    def judge(self, now: float, outcome: Outcome) -> None:
        """Count an outcome.  GATED, DISABLED and NEUTRAL say nothing about health."""
        score = _SCORES.get(outcome)
        if score is None:
            return
        if now - self.weighed_at > FRESH:
            self._fade(now)
        self._good += score
        self._total += 1.0
        self.seen_at = now
        self.samples += 1
        self.merit = None

    def weigh(self, now: float) -> float:
        """Its merit as it is now."""
        if now - self.weighed_at > FRESH:
            self._fade(now)
        merit = self._rate() / self.latency if self.latency else 0.0
        self.merit = merit = merit * merit
        return merit

    def first_token(self, now: float, seconds: float, prompt_tokens: int, *, calm: bool = False) -> float:
        """A streamed answer began after this long; returns how many times as long as usual that is.  ``calm``: nobody
        queued when it was asked for."""
        scale = 1.0 + prompt_tokens / self.policy.prompt_scale
        sample = seconds / scale
        self.first.add(sample)
        ratio = self.slowness.spoke(seconds, scale, 0.0, now, calm=calm)
        self._follow(now, sample)
        return ratio

    def whole_answer(
        self, now: float, seconds: float, prompt_tokens: int, output_tokens: int, *, calm: bool = False
    ) -> float:
        """An answer arrived as a whole after this long; returns how many times as long as usual that is.  ``calm``:
        nobody queued when it was asked for.

        Only the slowdown against what its length explains is evidence: the raw time measures how much the model had
        to say. A pace is assumed until the provider's own is known; where only whole answers are asked for, nine
        tenths of the fastest one seen bound it, or a model faster than assumed would seem to get faster with every
        call until no latency is left to compare.
        """
        pace = self.policy.seconds_per_token
        scale = 1.0 + prompt_tokens / self.policy.prompt_scale
        self.whole.add(seconds / scale)
        if output_tokens >= _MIN_TOKENS and seconds < self._fastest * output_tokens:
            self._fastest = seconds / output_tokens
        if self.pace is not None:
            pace = self.pace
        elif pace > 0.9 * self._fastest:
            pace = 0.9 * self._fastest
        writing = pace * output_tokens
        ratio = self.slowness.spoke(seconds, scale, writing, now, calm=calm)
        usual = self.latency
        if not usual:
            sample = max(seconds - writing, seconds * 0.1) / scale
        else:
            sample = usual * seconds / (usual * scale + writing)
        self._follow(now, sample)
        return ratio

    def overtaken(self, now: float, seconds: float, prompt_tokens: int) -> None:
        """An attempt was given up after this long without a sign of life: it would have taken at least that."""
        sample = seconds / self.scale(prompt_tokens)
        if self.latency is not None and sample > self.latency:
            self.first.add(sample)
            self._follow(now, sample)

    def stream_ended(self, whole: float, seconds: float, tokens: int) -> None:
        """A stream took ``whole`` seconds, and ``tokens`` output tokens ``seconds`` of them, after the first one.  Too
        few tokens say nothing about the pace."""
        self.streams.add(whole)
        if tokens >= _MIN_TOKENS and seconds > 0:
            pace = seconds / (tokens - 1)
            self.pace = pace if self.pace is None else self.pace + 0.2 * (pace - self.pace)

    @property
    def slower(self) -> bool:
        """Whether its latest answers took at least twice as long as usual."""
        return self.latency is not None and self.slowness.doubled(self.latency)

    def forgive(self) -> None:
        """Hold nothing against it any more: a person says that it is well."""
        self._good = self._total = 0.0
        self.merit = None

    # --- internals ---

    def _rate(self) -> float:
        return (self._good + _PRIOR * _PRIOR_WEIGHT) / (self._total + _PRIOR_WEIGHT)

    def _fade(self, now: float) -> None:
        fade, self.weighed_at = math.exp((self.weighed_at - now) / self.policy.memory), now
        self._good *= fade
        self._total *= fade

    def _follow(self, now: float, sample: float) -> None:
        """Let the estimate follow a sample."""
        latency = self.latency
        if latency is None:
            self.latency = sample
        elif sample > latency:
            self.latency = latency + 0.5 * (sample - latency)
        else:
            down = 0.05
            faded = (now - self._latency_at) / self.policy.memory
            if faded > down:  # below, the exponential is no more than that
                down = max(down, 1.0 - math.exp(-faded))
            self.latency = latency + down * (sample - latency)
        self._latency_at = now
