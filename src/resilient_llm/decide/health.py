"""What past calls say about a provider: how often it answers, and how fast.

The success estimate is a discounted Beta distribution, the latency estimate a damped peak: half-way up at once when a
call was slow, down with time when calls are fast.  Both forget, so that a provider nobody asks returns to the benefit
of the doubt.  Two change detectors say when a provider has become bad, or slow.
"""

from __future__ import annotations

import math

from resilient_llm.decide.outcome import Outcome
from resilient_llm.policy import Health as Policy

FORGIVEN = 5.0  # time constants of memory without news after which nothing is held against a provider
_SAMPLES = 64
_UNFELT = 0.05  # seconds within which nobody minds how much slower it became
_MIN_TOKENS = 8  # a shorter answer says nothing about the pace
_FAILURE, _SUCCESS = math.log(0.30 / 0.05), math.log(0.95 / 0.70)
_DOUBTFUL = 5.0
_PROOFS, _MOST_PROOFS = 3, 9
_RELAPSE = 300.0  # seconds
_REFRESH = 8  # quantiles may lag this many samples behind: sorting at every call would cost more than the call...
_REFRESH_ALWAYS = 25  # ...but not while there are few, and decisions hang on whether there are 20
_STILL = 0.5  # seconds within which evidence does not fade noticeably, and need not be faded


_SCORES = {Outcome.OK: 1.0, Outcome.SOFT: 0.5, Outcome.HARD: 0.0}


class Quantiles:
    """Quantiles of the last 64 samples: exact, right from 20 samples on, and at home with two-humped data."""

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


class Shift:
    """Raises its hand when latency has moved up for good: a one-sided CUSUM on the logarithm, against a slow
    baseline."""

    __slots__ = ("_baseline", "_count", "_sum", "raised")

    def __init__(self) -> None:
        self.raised: bool = False
        """Whether the shift is beyond doubt."""
        self._baseline = 0.0
        self._count = 0
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Take a latency."""
        value = math.log(seconds if seconds > _UNFELT else _UNFELT)
        self._count = count = self._count + 1
        excess = value - self._baseline
        self._baseline += excess / (count if count < 100 else 100)
        if count <= 20 or (self._sum == 0.0 and excess <= 0.7):
            return
        # 0.7 is a doubling: what ordinary scatter does must drain the sum faster than it fills it.
        self._sum = min(8.0, max(0.0, self._sum + excess - 0.7))
        if excess < 0.35:  # as fast as ever: two of these in a row and all is well again
            self._sum *= 0.5
        self.raised = self._sum > 3.0

    def forget(self) -> None:
        """Begin to sum up anew."""
        self.raised = False
        self._sum = 0.0


class Doubt:
    """Raises its hand when a provider fails too often to keep traffic that others could take, and takes it down when
    the provider has answered a few times.

    A one-sided CUSUM on outcomes (Page, 1954): each adds the logarithm of how much likelier it is from a provider that
    fails 30 % of its calls than from one that fails 5 %, which is nothing on average at 15 %.  Three failures in a row
    raise it, half the calls failing raise it within about eight, one failure in twenty hardly ever does.  A provider
    doubted again soon after it was cleared has to answer more often.
    """

    __slots__ = ("_cleared_at", "_needed", "level", "misses", "proofs", "raised")

    def __init__(self) -> None:
        self.raised: bool = False
        """Whether the doubt is beyond reason."""
        self.level: float = 0.0
        """What speaks against it; 0 for nothing."""
        self.proofs: int = 0
        """Answers since it was raised or last failed, less one for each race that was lost."""
        self.misses: int = 0
        """Failures and lost races in a row since it was raised."""
        self._needed = 0
        self._cleared_at = -math.inf

    def failed(self, now: float, weight: float) -> None:
        """Count a failure, or the share ``weight`` of one."""
        self.proofs = 0
        self.misses += self.raised
        self.level += weight * _FAILURE
        if not self.raised and self.level >= _DOUBTFUL:
            relapsed = now - self._cleared_at < _RELAPSE
            self._needed = min(_MOST_PROOFS, self._needed + _PROOFS) if relapsed else _PROOFS
            self.raised = True
            self.misses = 0

    def missed(self) -> None:
        """A call that was to find out how it is was answered by somebody else first.  That is one proof less rather
        than none at all: a healthy provider loses such a race now and then."""
        self.proofs = max(0, self.proofs - 1)
        self.misses += self.raised

    def answered(self, now: float) -> None:
        """Count a success."""
        if not self.raised:
            self.level = max(0.0, self.level - _SUCCESS)
            return
        self.misses = 0
        self.proofs += 1
        if self.proofs >= self._needed:
            self.raised = False
            self.proofs = 0
            self.level = 0.0
            self._cleared_at = now

    def forget(self) -> None:
        """Nothing was heard of it for long: what was held against it is void."""
        self.raised = False
        self.level = 0.0
        self.proofs = 0


class Health:
    """The record of one provider.  Not locked: the pool's lock is held by whoever calls."""

    __slots__ = (
        "_at",
        "_fastest",
        "_good",
        "_latency",
        "_latency_at",
        "_policy",
        "_total",
        "doubt",
        "first",
        "pace",
        "samples",
        "seen_at",
        "shift",
        "suspect",
        "whole",
    )

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._good = 0.0
        self._total = 0.0
        self._at: float | None = None
        self._latency: float | None = None
        self._latency_at = 0.0
        self._fastest = math.inf
        self.samples: int = 0
        self.seen_at: float | None = None
        """When it last answered or failed; ``None`` before the first time."""
        self.first: Quantiles = Quantiles()
        """Normalised times to the first token of streamed answers."""
        self.whole: Quantiles = Quantiles()
        """Normalised times of answers that arrive as a whole."""
        self.pace: float | None = None
        """Seconds per output token once a stream runs; ``None`` until measured."""
        self.shift: Shift = Shift()
        self.doubt: Doubt = Doubt()
        self.suspect: bool = False
        """Whether it is doubted, or its latency has shifted."""

    # --- questions ---

    def success_rate(self, now: float) -> float:
        """Estimated probability that the next call is answered."""
        policy, at = self._policy, self._at
        fade = 1.0 if at is None or now <= at else math.exp((at - now) / policy.memory)
        prior = policy.prior_weight
        return (self._good * fade + policy.prior * prior) / (self._total * fade + prior)

    @property
    def latency(self) -> float | None:
        """Estimated seconds to the first token of a short prompt; ``None`` until measured."""
        return self._latency

    def scale(self, prompt_tokens: int) -> float:
        """How much longer the first token takes for a prompt of this length (prefill is linear in it)."""
        return 1.0 + prompt_tokens / self._policy.prompt_scale

    # --- samples ---

    def judge(self, now: float, outcome: Outcome) -> None:
        """Count an outcome.  GATED, DISABLED and NEUTRAL say nothing about health."""
        score = _SCORES.get(outcome)
        if score is None:
            return
        if self._at is None:
            self._at = now
        elif now - self._at > _STILL:
            fade = math.exp((self._at - now) / self._policy.memory)
            self._good *= fade
            self._total *= fade
            self._at = now
        self._good += score
        self._total += 1.0
        if score < 1.0 or self.doubt.level:
            self._weigh(now, score)
        self.seen_at = now
        self.samples += 1

    def first_token(self, now: float, seconds: float, prompt_tokens: int) -> None:
        """A streamed answer began after this long."""
        sample = seconds / (1.0 + prompt_tokens / self._policy.prompt_scale)
        self.first.add(sample)
        self._feel(now, sample, self.shift)

    def whole_answer(self, now: float, seconds: float, prompt_tokens: int, output_tokens: int, pace: float) -> None:
        """An answer arrived as a whole after this long.

        Only the slowdown against what its length explains is evidence: the raw time measures how much the model had
        to say. ``pace`` is assumed until the provider's own is known; where only whole answers are asked for, nine
        tenths of the fastest one seen bound it, or a model faster than assumed would seem to get faster with every
        call until no latency is left to compare.
        """
        scale = 1.0 + prompt_tokens / self._policy.prompt_scale
        self.whole.add(seconds / scale)
        if output_tokens >= _MIN_TOKENS and seconds < self._fastest * output_tokens:
            self._fastest = seconds / output_tokens
        if self.pace is not None:
            pace = self.pace
        elif pace > 0.9 * self._fastest:
            pace = 0.9 * self._fastest
        writing = pace * output_tokens
        usual = self._latency
        if not usual:
            sample = max(seconds - writing, seconds * 0.1) / scale
        else:
            sample = usual * seconds / (usual * scale + writing)
        self._feel(now, sample, self.shift)

    def overtaken(self, now: float, seconds: float, prompt_tokens: int) -> None:
        """An attempt was given up after this long without a sign of life: it would have taken at least that."""
        sample = seconds / self.scale(prompt_tokens)
        if self._latency is not None and sample > self._latency:
            self.first.add(sample)
            self._feel(now, sample)

    def tokens_arrived(self, seconds: float, tokens: int) -> None:
        """``tokens`` output tokens took this long after the first one.  Too few say nothing."""
        if tokens >= _MIN_TOKENS and seconds > 0:
            pace = seconds / (tokens - 1)
            self.pace = pace if self.pace is None else self.pace + 0.2 * (pace - self.pace)

    def pardon(self) -> None:
        """Hold nothing against it any more: a person says that it is well."""
        self.doubt.forget()
        self.shift.forget()
        self.suspect = False
        self._good = self._total = 0.0

    # --- internals ---

    def _weigh(self, now: float, score: float) -> None:
        """Let an outcome raise or clear the doubt."""
        doubt = self.doubt
        if self.seen_at is not None and now - self.seen_at > FORGIVEN * self._policy.memory:
            doubt.forget()
        if score < 1.0:
            doubt.failed(now, 1.0 - score)
        else:
            doubt.answered(now)
        self.suspect = doubt.raised or self.shift.raised

    def _feel(self, now: float, sample: float, shift: Shift | None = None) -> None:
        """Let the estimate follow a sample, and ``shift`` see it."""
        if shift is not None:
            shift.add(sample)
            self.suspect = shift.raised or self.doubt.raised
        latency = self._latency
        if latency is None:
            self._latency = sample
        elif sample > latency:
            self._latency = latency + 0.5 * (sample - latency)
        else:
            down = 0.05
            faded = (now - self._latency_at) / self._policy.memory
            if faded > down:  # below, the exponential is no more than that
                down = max(down, 1.0 - math.exp(-faded))
            self._latency = latency + down * (sample - latency)
        self._latency_at = now
