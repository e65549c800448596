"""Settings: frozen, keyword-only, validated when made, with the offending value in the message.

All durations are float seconds.  ``None`` means "no limit" wherever it is allowed.  Each default is one we would
defend in an incident review; the reason stands beside it.  A setting may be given as an object
(``Retry(max_attempts=2)``) or as a mapping (``{"max_attempts": 2}``), which is how configuration files arrive.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeVar

from resilient_llm.errors import ConfigurationError

P = TypeVar("P", bound="Policy")

_MAX = sys.float_info.max


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Base of all settings."""

    def _check(self, *names: str, low: float = 0.0, high: float = _MAX, optional: bool = False) -> None:
        """Every named field is a finite number in [low, high]; ``None`` too if ``optional``."""
        for name in names:
            value = getattr(self, name)
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                wanted = f"a finite number of at least {low:g}" + (f" and at most {high:g}" if high < _MAX else "")
                raise ConfigurationError(
                    f"{type(self).__name__}.{name} must be {wanted}{' or None' if optional else ''}, not {value!r}"
                )

    def _check_whole(self, *names: str, low: int = 1) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ConfigurationError(
                    f"{type(self).__name__}.{name} must be a whole number of at least {low}, not {value!r}"
                )

    def _check_order(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise ConfigurationError(
                f"{type(self).__name__}.{low} ({getattr(self, low)!r}) must not exceed {high} ({getattr(self, high)!r})"
            )


def as_policy(kind: type[P], value: P | Mapping[str, object] | None) -> P:
    """The policy itself, one made from a mapping, or the default one for ``None``.

    Raises ``ConfigurationError`` for anything else, and for a field the policy does not have.
    """
    if value is None:
        return kind()
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"expected a {kind.__name__} or a mapping of its fields, not {value!r}")
    known = [field.name for field in fields(kind)]
    for name in value:
        if name not in known:
            raise ConfigurationError(f"{kind.__name__} has no field {name!r}; it has {', '.join(known)}")
    return kind(**value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Policy):
    """How often one call may try, and how much of all traffic may be second tries.

    ``max_attempts`` (3) counts the first attempt and everything after it, over all providers, hedges not included:
    the SRE book's per-request limit.  A failed attempt moves to another provider at once; only when there is none
    does it wait ``U(0, min(backoff_cap, backoff_base * 2**n))`` seconds (full jitter; 0.5 s doubling to 8 s is what
    the vendors' SDKs use) and try the same one again.  A server's Retry-After of up to ``max_wait`` (60 s) is waited
    for if nobody else can answer; a longer one is an error at once.

    Two token buckets bound amplification for the whole pool.  They are filled by success, not by time, so that an
    idle client has no allowance to storm with: a retry at the same provider costs 1 token of a bucket of ``budget``
    (10), and each successful call earns ``budget_ratio`` (0.2); a failover costs 1 of ``failover_budget`` (10), and
    each success earns ``failover_ratio`` (0.5: as many as the breaker tolerates failures before it opens).
    """

    max_attempts: int = 3
    backoff_base: float = 0.5
    backoff_cap: float = 8.0
    max_wait: float = 60.0
    budget: float = 10.0
    budget_ratio: float = 0.2
    failover_budget: float = 10.0
    failover_ratio: float = 0.5

    def __post_init__(self) -> None:
        self._check_whole("max_attempts")
        self._check("backoff_base", "backoff_cap", "max_wait", "budget", "failover_budget", high=86400)
        self._check("budget_ratio", "failover_ratio", high=1.0)
        self._check_order("backoff_base", "backoff_cap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker(Policy):
    """When a provider is taken out, and how it comes back.

    It opens after ``consecutive`` (5) hard failures in a row, or when at least ``min_samples`` (10) calls of the last
    ``window`` (60 s, an exact ring of ``buckets``) are at least ``ratio`` (0.5) bad.  The first catches an outage at
    one call a minute, the second a half-broken provider; either alone misses the other.  It stays open
    ``min(open_cap, open_base * 2**k)`` with equal jitter (5 s doubling to 60 s), k growing per trip and shrinking per
    calm minute.  Then one real call at a time probes it; ``successes`` (2) close it.  A probe that gives no sign for
    three times the usual first-token time, but at least ``probe_lease_min`` and at most ``probe_lease_max`` (5 to 30
    s), is a failed one: a hanging probe must not block the way back.

    Probes earn their right from traffic, ``probe_ratio`` (0.05) per call, and from time, one per ``probe_refill``
    (120 s): by traffic alone a client with one call a minute would wait half an hour.  When nobody is eligible, one
    forced probe per ``panic_interval`` (1 s) and provider goes through regardless.
    """

    consecutive: int = 5
    window: float = 60.0
    buckets: int = 10
    min_samples: int = 10
    ratio: float = 0.5
    open_base: float = 5.0
    open_cap: float = 60.0
    successes: int = 2
    probe_lease_min: float = 5.0
    probe_lease_max: float = 30.0
    probe_ratio: float = 0.05
    probe_refill: float = 120.0
    panic_interval: float = 1.0

    def __post_init__(self) -> None:
        self._check_whole("consecutive", "buckets", "min_samples", "successes")
        self._check("window", "open_base", "open_cap", "probe_lease_min", "probe_lease_max", low=0.001, high=86400)
        self._check("probe_refill", "panic_interval", low=0.001, high=86400)
        self._check("ratio", low=0.01, high=1.0)
        self._check("probe_ratio", high=1.0)
        self._check_order("open_base", "open_cap")
        self._check_order("probe_lease_min", "probe_lease_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Policy):
    """How past calls make a score, and what the score does.

    The success estimate is a Beta distribution with prior mean ``prior`` (0.95) and weight ``prior_weight`` (5 calls)
    whose evidence fades with time constant ``memory`` (60 s): an unused provider returns to the prior and gets
    another chance.  Latency is the time to first token divided by ``1 + prompt_tokens / prompt_scale`` (4000), so
    that a long prompt is not mistaken for illness.  A failure is worth ``failure_cost`` (5 s) of latency.  A provider
    of a shared tier unseen for ``stale_after`` (30 s) is explored with a call that another one backs up after
    ``race_after`` (1 s).  After its breaker closed, a provider's share grows from ``ramp_floor`` (0.1) to full over
    ``ramp_calls`` (5) successes or ``ramp_seconds`` (60), whichever is sooner.  ``stickiness`` (0.7) keeps a
    conversation where it is unless another provider costs less than that share of it.
    """

    prior: float = 0.95
    prior_weight: float = 5.0
    memory: float = 60.0
    prompt_scale: float = 4000.0
    failure_cost: float = 5.0
    stale_after: float = 30.0
    race_after: float = 1.0
    overdue_factor: float = 3.0
    ramp_floor: float = 0.1
    ramp_calls: int = 5
    ramp_seconds: float = 60.0
    stickiness: float = 0.7

    def __post_init__(self) -> None:
        self._check("prior", "ramp_floor", "stickiness", low=0.01, high=1.0)
        self._check("prior_weight", "memory", "prompt_scale", "overdue_factor", low=0.001)
        self._check("failure_cost", "stale_after", "race_after", "ramp_seconds", high=86400)
        self._check_whole("ramp_calls")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge(Policy):
    """The rescue: a second attempt elsewhere while the first gives no sign of life.

    It starts ``factor`` (2) times the 95th percentile of the provider's own first-token times after the first
    attempt, between ``min_delay`` (1 s) and ``max_delay`` (10 s; later for a provider that usually needs longer, and
    for whole answers, which may take minutes), once ``min_samples`` (20) are known.  Before that, and in any case at
    the latest, it starts when half the time left to the deadline is gone, so that a hang leaves time for somebody else:
    without a deadline, a provider that is not known yet may be silent for its whole timeout.  Each call
    earns ``ratio`` (0.05) of a hedge, at most ``cap`` (10) are saved up.  At twice the 95th percentile ordinary
    stragglers leave the savings alone, so that they are there when a provider hangs.  ``enabled=False`` turns it off;
    a call that must not be repeated says ``idempotent=False``.
    """

    enabled: bool = True
    factor: float = 2.0
    min_samples: int = 20
    min_delay: float = 1.0
    max_delay: float = 10.0
    ratio: float = 0.05
    cap: float = 10.0

    def __post_init__(self) -> None:
        if not isinstance(self.enabled, bool):
            raise ConfigurationError(f"Hedge.enabled must be True or False, not {self.enabled!r}")
        self._check("factor", low=1.0)
        self._check_whole("min_samples")
        self._check("min_delay", "max_delay", high=86400)
        self._check("ratio", high=1.0)
        self._check("cap")
        self._check_order("min_delay", "max_delay")


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts(Policy):
    """How long to wait for each sign of life.

    ``connect`` (5 s) as in the vendors' SDKs.  ``first_token``: ``None`` learns it, four times the provider's own
    99th percentile, between ``first_token_min`` and ``first_token_max`` (10 to 60 s) and 30 s before there are data;
    a number fixes it.  ``idle`` (30 s) is the longest gap between two pieces of content, ``idle_tool_arguments`` (300
    s) the same inside a tool call, where some vendors stay silent for minutes.  Keep-alives reset neither.  An answer
    asked for as a whole gives no sign before it is done, so it is allowed ``first_token`` plus twice the time its
    ``max_tokens`` should take; ``seconds_per_token`` (0.03) is assumed until the provider's own pace is known.
    """

    connect: float = 5.0
    first_token: float | None = None
    first_token_min: float = 10.0
    first_token_max: float = 60.0
    first_token_initial: float = 30.0
    idle: float = 30.0
    idle_tool_arguments: float = 300.0
    seconds_per_token: float = 0.03

    def __post_init__(self) -> None:
        self._check("connect", "first_token_min", "first_token_max", "first_token_initial", low=0.001, high=86400)
        self._check("idle", "idle_tool_arguments", "seconds_per_token", low=0.001, high=86400)
        self._check("first_token", low=0.001, high=86400, optional=True)
        self._check_order("first_token_min", "first_token_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Policy):
    """What may happen inside a streamed answer.

    ``hold_tool_arguments`` (True) hands a tool call over when it is complete: no application can use half of its
    arguments, and until then a break can be repaired unseen.  ``on_break="fail"`` raises ``StreamInterrupted`` with the
    partial answer when a stream breaks after content was handed over.  ``max_bytes`` (64 MiB) bounds one answer.
    """

    hold_tool_arguments: bool = True
    on_break: Literal["fail"] = "fail"
    max_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        if not isinstance(self.hold_tool_arguments, bool):
            raise ConfigurationError(
                f"Stream.hold_tool_arguments must be True or False, not {self.hold_tool_arguments!r}"
            )
        if self.on_break != "fail":
            raise ConfigurationError(f"Stream.on_break must be 'fail', not {self.on_break!r}")
        self._check_whole("max_bytes", low=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Policy):
    """What a provider may have in flight, and how long its gates stay closed.

    ``max_concurrency`` ``None``: unlimited until the provider throttles; then a limit appears (``decrease``, 0.7, of
    what was in flight), grows by one per round of successes, and is forgotten after ``forget`` (600 s) without
    throttling.  An open stream counts until it is closed.  A rate-limit gate closes for at most ``gate_cap`` (300 s);
    without a hint, or when the hints prove too short, for ``min(gate_backoff_cap, 2**k)`` seconds with equal jitter.
    Exhausted quota and wrong credentials close a slow gate: one attempt after ``slow_base`` (60 s), doubling to
    ``slow_cap`` (3600 s).
    """

    decrease: float = 0.7
    forget: float = 600.0
    gate_cap: float = 300.0
    gate_backoff_cap: float = 60.0
    slow_base: float = 60.0
    slow_cap: float = 3600.0

    def __post_init__(self) -> None:
        self._check("decrease", low=0.1, high=0.99)
        self._check("forget", "gate_cap", "gate_backoff_cap", "slow_base", "slow_cap", low=0.001, high=86400)
        self._check_order("slow_base", "slow_cap")


_PARTS: Final[dict[str, type[Policy]]] = {
    "retry": Retry,
    "breaker": Breaker,
    "health": Health,
    "hedge": Hedge,
    "timeouts": Timeouts,
    "stream": Stream,
    "limits": Limits,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies:
    """One of each; what a pool is run by.  Each may be given as a mapping of its fields."""

    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    health: Health = Health()
    hedge: Hedge = Hedge()
    timeouts: Timeouts = Timeouts()
    stream: Stream = Stream()
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            object.__setattr__(self, name, as_policy(kind, getattr(self, name)))
