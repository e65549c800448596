"""Settings: frozen, keyword-only, validated when made, with the offending value in the message.

All durations are float seconds.  ``None`` means "no limit" or "learn it" where it is allowed.  Each default is one we
would defend in an incident review; the reason stands beside it.  A setting may be given as an object
(``Retry(max_attempts=2)``) or as a mapping (``{"max_attempts": 2}``), which is how configuration files arrive.  Every
mistake is a ``ConfigurationError``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, TypeVar, get_args

from resilient_llm.errors import ConfigurationError

OnBreak: TypeAlias = Literal["fail", "restart", "verify", "continue", "instruct"]
"""What follows when a stream breaks after content was handed over; :class:`Stream` says what each means."""

P = TypeVar("P", bound="Policy")

_MAX = sys.float_info.max
_DAY = 86400.0


class _Checked(type):
    """Makes a wrong field name the same kind of error as a wrong value."""

    if not TYPE_CHECKING:

        def __call__(cls, *args: object, **values: object) -> object:
            if args:
                raise ConfigurationError(f"{cls.__name__} takes named settings only, not {args[0]!r}")
            known = [field.name for field in fields(cls)]
            for name in values:
                if name not in known:
                    from difflib import get_close_matches  # noqa: PLC0415 - costs as much as the rest of this module

                    close = get_close_matches(str(name), known, 1)
                    guess = f" (did you mean {close[0]!r}?)" if close else ""
                    raise ConfigurationError(
                        f"{cls.__name__} has no setting {name!r}{guess}; it has {', '.join(known)}"
                    )
            return super().__call__(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy(metaclass=_Checked):
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

    def _check_bool(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise ConfigurationError(f"{type(self).__name__}.{name} must be True or False, not {value!r}")

    def _check_word(self, name: str, words: tuple[str, ...]) -> None:
        value = getattr(self, name)
        if value not in words:
            known = ", ".join(map(repr, words))
            raise ConfigurationError(f"{type(self).__name__}.{name} must be one of {known}, not {value!r}")

    def _check_order(self, low: str, high: str) -> None:
        if getattr(self, low) > getattr(self, high):
            raise ConfigurationError(
                f"{type(self).__name__}.{low} ({getattr(self, low)!r}) must not exceed {high} ({getattr(self, high)!r})"
            )


def as_policy(kind: type[P], value: P | Mapping[str, object] | None) -> P:
    """The policy itself, one made from a mapping, or the default one for ``None``.

    Raises ``ConfigurationError`` for anything else, and for a setting the policy does not have.
    """
    if value is None:
        return kind()
    if isinstance(value, kind):
        return value
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"expected a {kind.__name__} or a mapping of its settings, not {value!r}")
    return kind(**{str(name): setting for name, setting in value.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Policy):
    """How often one call may try, how long it may wait, and how much of all traffic may be extra attempts.

    ``max_attempts`` (6) counts the first attempt and everything after it, over all providers;
    ``max_attempts_per_provider`` (3) is what the vendors' SDKs make.  Rescues, trials of a provider that is down, and
    refusals that say when to come back are not counted.  A failed attempt moves to another provider at once; only when
    there is none is the same one asked again, after ``min(backoff_cap, backoff_base * 2**n)`` seconds shortened by up
    to a quarter (0.5 s doubling to 8 s, as in the vendors' SDKs).  A wait that a provider asked for (``Retry-After``)
    is made if nobody else can answer and it is at most ``max_wait`` (120 s) and ends before the deadline; a longer one
    is an error at once.  Behind an outage of all providers a call waits at most ``max_down_wait`` (10 s), so that no
    web worker hangs for the whole of a long deadline.

    ``budget`` (10) bounds extra attempts for the whole process: a token bucket from which an attempt after a sign of
    overload (429, 503, 529, a timeout) takes 1 and one after any other failure 0.25.  Each success earns 3 and every
    half minute 1, so that a small client may always try again.  Moving to a provider that is well is free.
    """

    max_attempts: int = 6
    max_attempts_per_provider: int = 3
    backoff_base: float = 0.5
    backoff_cap: float = 8.0
    max_wait: float = 120.0
    max_down_wait: float = 10.0
    budget: float = 10.0

    def __post_init__(self) -> None:
        self._check_whole("max_attempts", "max_attempts_per_provider")
        self._check("backoff_base", "backoff_cap", "max_wait", "max_down_wait", high=_DAY)
        self._check("budget", low=1.0, high=1e6)
        self._check_order("backoff_base", "backoff_cap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Breaker(Policy):
    """When a provider loses its traffic, and how it gets it back.

    It opens *softly* (asked only when nobody better is there) when it fails clearly more than ``ratio`` (0.15) of its
    calls: three failures in a row are enough, half of the calls failing within about eight.  It opens (down) after
    ``consecutive`` (5) failures in a row, or more for a provider that often failed before.

    The way back is the trial, a real call.  The first comes after ``open_base`` (1 s); while trials fail the wait grows
    with the time it has been open, up to ``open_cap`` (15 s); jitter shortens it by up to a quarter.  ``successes`` (2)
    in a row close it.  Each time it opens again within five minutes after it closed, more successes are asked for and
    the first wait doubles, up to a minute.
    """

    consecutive: int = 5
    ratio: float = 0.15
    open_base: float = 1.0
    open_cap: float = 15.0
    successes: int = 2

    def __post_init__(self) -> None:
        self._check_whole("consecutive", "successes")
        self._check("ratio", low=0.01, high=0.45)
        self._check("open_base", "open_cap", low=0.001, high=_DAY)
        self._check_order("open_base", "open_cap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hedge(Policy):
    """The rescue: a second attempt while the first gives no sign of life.

    It starts ``factor`` (2) times the 95th percentile of the provider's own first-token times after the first attempt,
    once 20 are known, and in any case when half of the time left to the deadline is gone; at another provider, or at
    the same one over a new connection where there is no other.  ``ratio`` (0.05) of all calls may be rescued, saved up
    to ten; leaving a provider whose breaker has opened costs nothing.  ``enabled=False`` turns it off; a call that must
    not be repeated says ``idempotent=False``.
    """

    enabled: bool = True
    factor: float = 2.0
    ratio: float = 0.05

    def __post_init__(self) -> None:
        self._check_bool("enabled")
        self._check("factor", low=1.0, high=1000.0)
        self._check("ratio", high=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts(Policy):
    """How long to wait for each sign of life.

    ``connect`` (5 s) as in the vendors' SDKs.  ``first_token``: ``None`` learns it, four times the provider's own
    slowest recent one, between 10 and 60 s (60 s before there are data), and never less than twice that one; where
    nobody else is well the attempt is not given up then, but another one made beside it (a busy provider does what it
    has accepted); a number fixes it, in any case.  ``idle`` (30 s) is the longest gap between two pieces of content,
    ``idle_tool_arguments`` (300 s) the same inside a tool call, where some vendors stay silent for minutes.
    Keep-alives reset neither.  An answer asked for as a whole gives no sign before it is done, so it is allowed
    ``first_token`` plus twice the time its ``max_tokens`` should take.
    """

    connect: float = 5.0
    first_token: float | None = None
    idle: float = 30.0
    idle_tool_arguments: float = 300.0

    def __post_init__(self) -> None:
        self._check("connect", "idle", "idle_tool_arguments", low=0.001, high=_DAY)
        self._check("first_token", low=0.001, high=_DAY, optional=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream(Policy):
    """What may happen inside a streamed answer.

    ``hold_tool_arguments`` (True) hands a tool call over when it is complete: no application can use half of its
    arguments, and until then a break can be repaired unseen.  ``max_bytes`` (64 MiB) bounds one answer.

    ``on_break`` says what follows when a stream breaks after content was handed over:

    * ``"fail"``: ``StreamInterrupted`` with the partial answer;
    * ``"restart"``: another answer, after a ``Restarted`` event that makes everything before it void;
    * ``"verify"``: the same model is asked again, and what follows is handed over once it has repeated what was; for
      requests with ``temperature=0`` or a ``seed``;
    * ``"continue"``: the rest, where the provider keeps it (background responses of OpenAI), or a provider that goes on
      with a text it is given the beginning of;
    * ``"instruct"``: the same, or where there is none, any model that is told to write on.

    A break that none of these can mend fails.  ``under_chat="stream"`` asks for a stream where the caller wants a whole
    answer and puts it together, so that a silent provider is noticed at its first token; ``"whole"`` does not, which
    costs less CPU.
    """

    hold_tool_arguments: bool = True
    on_break: OnBreak = "fail"
    under_chat: Literal["whole", "stream"] = "whole"
    max_bytes: int = 64 * 1024 * 1024

    def __post_init__(self) -> None:
        self._check_bool("hold_tool_arguments")
        self._check_word("on_break", get_args(OnBreak))
        self._check_word("under_chat", ("whole", "stream"))
        self._check_whole("max_bytes", low=1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits(Policy):
    """Rate limits and waiting in line.

    A rate-limit gate closes for as long as the provider asked, at most ``gate_cap`` (300 s); without a hint, or when
    the hints prove too short, for one second doubling to a minute.  At most ``max_queue`` (1000) calls wait for one
    provider; the next one is told at once.  ``reserve`` (0.1) is the share of every rate limit and of
    ``max_concurrency`` that is never given to calls with ``priority="batch"``.
    """

    gate_cap: float = 300.0
    max_queue: int = 1000
    reserve: float = 0.1

    def __post_init__(self) -> None:
        self._check("gate_cap", low=0.001, high=_DAY)
        self._check_whole("max_queue", low=0)
        self._check("reserve", high=0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate(Policy):
    """At most ``amount`` requests or tokens (``unit``) in ``per`` seconds."""

    amount: float
    per: float
    unit: Literal["requests", "tokens"]

    def __post_init__(self) -> None:
        self._check("amount", "per", low=1e-9)
        if self.unit not in ("requests", "tokens"):
            raise ConfigurationError(f"Rate.unit must be 'requests' or 'tokens', not {self.unit!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyTerms(Policy):
    """What is known of one key of a provider, and not the key.

    Providers whose keys have the same ``account`` share quota and credentials (``None``: with nobody).  ``fixed``: it
    is always the same, and not asked for anew.  ``rates`` are the limits that were declared for it; ``name`` is what to
    call it where there are several."""

    account: str | None = None
    fixed: bool = True
    rates: tuple[Rate, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Advanced(Policy):
    """Numbers that hardly anybody needs to change.

    ``memory`` (60 s) is the time constant with which evidence about a provider fades.  ``failure_cost`` (5 s): a
    failure is worth that much latency when equals are compared.  ``stickiness`` (0.7) keeps a conversation where it is
    unless another provider costs less than that share.  ``prompt_scale`` (4000 tokens) doubles the usual time to the
    first token.  ``seconds_per_token`` (0.03) is assumed until a provider's own pace is known.  A rescue comes no
    sooner than ``rescue_min`` (1 s) and, for streams, no later than ``rescue_max`` (10 s).  Learnt first-token timeouts
    lie between ``first_token_min`` and ``first_token_max`` (10 to 60 s), unless answers take longer than half of that.
    A gate closed by exhausted quota or bad credentials lets one attempt through after a minute, then after twice as
    long, up to ``slow_gate_cap`` (3600 s).
    """

    memory: float = 60.0
    failure_cost: float = 5.0
    stickiness: float = 0.7
    prompt_scale: float = 4000.0
    seconds_per_token: float = 0.03
    rescue_min: float = 1.0
    rescue_max: float = 10.0
    first_token_min: float = 10.0
    first_token_max: float = 60.0
    slow_gate_cap: float = 3600.0

    def __post_init__(self) -> None:
        self._check("memory", "prompt_scale", "seconds_per_token", low=0.001, high=1e9)
        self._check("stickiness", low=0.01, high=1.0)
        self._check("failure_cost", "rescue_min", "rescue_max", high=_DAY)
        self._check("first_token_min", "first_token_max", "slow_gate_cap", low=0.001, high=_DAY)
        self._check_order("rescue_min", "rescue_max")
        self._check_order("first_token_min", "first_token_max")


_PARTS: Final[dict[str, type[Policy]]] = {
    "retry": Retry,
    "breaker": Breaker,
    "hedge": Hedge,
    "timeouts": Timeouts,
    "stream": Stream,
    "limits": Limits,
    "advanced": Advanced,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Policies(Policy):
    """One of each; what a pool is run by.  Each may be given as a mapping of its settings."""

    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    hedge: Hedge = Hedge()
    timeouts: Timeouts = Timeouts()
    stream: Stream = Stream()
    limits: Limits = Limits()
    advanced: Advanced = Advanced()

    def __post_init__(self) -> None:
        for name, kind in _PARTS.items():
            object.__setattr__(self, name, as_policy(kind, getattr(self, name)))
