"""What response headers say about the headroom left, for every vendor's dialect.

It runs on each successful answer, so which headers speak of limits is remembered by their names; without any it returns
the shared :data:`EMPTY`.  Formats and traps: OpenAI and Groq send Go durations, Azure seconds,
Anthropic RFC 3339 times, OpenRouter epoch milliseconds, Hugging Face and Cloudflare the IETF structured fields; a
negative number means "unknown" at Azure.  Anything unreadable is unknown, never an exception.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType

from resilient_llm.wire.faults import times


@dataclass(frozen=True, slots=True)
class Limit:
    """One bucket.  ``None`` is unknown throughout.

    ``reset_in`` is seconds until the bucket is *full* again, which may be long after the next request would pass.
    ``window`` is ``"minute"``, ``"hour"``, ``"day"``, ``"month"``, or a length such as ``"300s"`` or ``"5h"``.
    """

    limit: int | None = None
    remaining: int | None = None
    reset_in: float | None = None
    window: str | None = None


UNKNOWN = Limit()
"""The bucket nobody mentioned."""


@dataclass(frozen=True, slots=True)
class RateLimits:
    """All buckets of one answer; one that was not mentioned is :data:`UNKNOWN` (all fields ``None``).

    ``other`` holds the rarer ones by name: ``tokens_month``, ``tokens_dynamic``, ``unified``, ``tokens_prompt``...
    ``over_limit`` means the vendor served the request although a soft limit had been passed.
    """

    requests: Limit = UNKNOWN
    tokens: Limit = UNKNOWN
    input_tokens: Limit = UNKNOWN
    output_tokens: Limit = UNKNOWN
    other: Mapping[str, Limit] = field(default_factory=lambda: MappingProxyType({}))
    over_limit: bool = False

    def known(self) -> Mapping[str, Limit]:
        """The buckets that were mentioned, by name."""
        named = {name: getattr(self, name) for name in _ATTRIBUTES}
        return {name: limit for name, limit in named.items() if limit is not UNKNOWN} | dict(self.other)


EMPTY = RateLimits()
"""No header spoke of limits."""

_ATTRIBUTES = ("requests", "tokens", "input_tokens", "output_tokens")
_WINDOWS = {"second": 1, "minute": 60, "hour": 3_600, "day": 86_400, "week": 604_800, "month": 2_592_000}
_ALIASES = {"": "requests", "req": "requests", "request": "requests", "token": "tokens"}
_OWN_WINDOWS: Mapping[str, Mapping[str, str]] = {
    # Groq's header names are OpenAI's, but requests are counted per day and tokens per minute (documented).
    "groq": {"requests": "day", "tokens": "minute"},
}

# Patterns are compiled when an answer first needs them: importing the library must stay cheap.

# Header name -> (base, field, further words).  The first that matches decides.
_NAMES: tuple[tuple[str, str], ...] = (
    (r"anthropic-ratelimit-(?P<base>.+)-(?P<field>limit|remaining|reset)", ""),
    (r"x-ratelimitbysize-(?P<field>limit|remaining|reset)(?:-(?P<base>.+))?", "tokens-"),
    (r"ratelimitbysize-(?P<field>limit|remaining|reset)", "tokens-minute"),
    (r"x-tokenlimit-(?P<field>limit|remaining|reset)(?:-(?P<base>.+))?", "tokens-"),
    (r"x-trial-endpoint-call-(?P<field>limit|remaining)", "requests-minute"),
    (r"x-endpoint-monthly-call-(?P<field>limit|remaining)", "requests-month"),
    (r"(?:x-)?ratelimit-(?P<field>limit|remaining|reset)(?:-(?P<base>.+))?", ""),
)
_INTEGER = r"(-?[0-9]{1,15})(?:\.[0-9]+)?(?:[,;].*)?"
_GROUPED = r"[0-9]{1,3}(?:,[0-9]{3}){1,4}"  # 1,000
_ITEM = r'"([^"]*)"'
_PARAMETER = r"(?:^|[;,\s])(q|w|r|t|limit|remaining|reset)\s*=\s*([0-9]{1,15})(?![0-9.])"
_PARAMETERS = {"q": "q", "w": "w", "r": "r", "t": "t", "limit": "q", "remaining": "r", "reset": "t"}


def parse_rate_limit(vendor: str, headers: Mapping[str, str] | None, *, now: float | None = None) -> RateLimits:
    """The limits an answer's headers tell.

    Names are matched without regard to case.  ``now`` is the wall clock in epoch seconds, for absolute reset times; a
    ``Date`` header wins over it, and without either those are unknown.  Never raises; no limit headers give
    :data:`EMPTY`.
    """
    telling = _telling(tuple(headers)) if headers else ()
    if not headers or not telling:
        return EMPTY
    relevant = {name: str(headers[raw]) for raw, name in telling}
    dates = [str(value) for raw, value in headers.items() if str(raw).lower() == "date"]
    clock = times.clock_of({"date": dates[-1] if dates else ""}, now)
    buckets = dict(_structured(relevant)) if "ratelimit" in relevant else {}
    buckets.update(_named(vendor, relevant, clock))
    over_limit = relevant.get("x-ratelimit-over-limit", "").strip().lower() in {"yes", "true", "1"}
    if not buckets and not over_limit:
        return EMPTY
    other = {name: limit for name, limit in buckets.items() if name not in _ATTRIBUTES}
    return RateLimits(
        requests=buckets.get("requests", UNKNOWN),
        tokens=buckets.get("tokens", UNKNOWN),
        # Fireworks limits prompt and generated tokens under names of its own.
        input_tokens=buckets.get("input_tokens") or other.get("tokens_prompt", UNKNOWN),
        output_tokens=buckets.get("output_tokens") or other.get("tokens_generated", UNKNOWN),
        other=MappingProxyType(other),
        over_limit=over_limit,
    )


@lru_cache(maxsize=64)  # a vendor sends the same names with every answer
def _telling(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """The headers that speak of limits, as they are written and in lower case."""
    lower = [(name, str(name).lower()) for name in names]
    return tuple((raw, name) for raw, name in lower if "limit" in name or "-call-" in name)


def _named(vendor: str, headers: Mapping[str, str], clock: float | None) -> Iterator[tuple[str, Limit]]:
    found: dict[tuple[str, str | None], dict[str, str]] = {}
    for name, value in headers.items():
        place = _place(name)
        if place is not None:
            base, window, what = place
            found.setdefault((base, window), {})[what] = value
    taken: set[str] = set()
    # The shortest window gets the plain name: it is the one that throttles first.
    ordered = sorted(found.items(), key=lambda item: (item[0][0], _WINDOWS.get(item[0][1] or "", 0)))
    for (base, window), values in ordered:
        limit = _limit(values, window or _OWN_WINDOWS.get(vendor, {}).get(base), clock)
        if limit is None:
            continue
        name = f"{base}_{window}" if window == "month" or (window and base in taken) else base
        taken.add(base)
        yield name, limit


@lru_cache(maxsize=256)  # vendors send the same few names on every answer
def _place(name: str) -> tuple[str, str | None, str] | None:
    """Which bucket (base name and window) and which of its numbers a header is about."""
    for pattern, prefix in _NAMES:
        match = re.fullmatch(pattern, name)
        if match:
            groups = match.groupdict()
            words = (prefix + (groups.get("base") or "")).strip("-").split("-")
            window = words.pop() if words[-1] in _WINDOWS else None
            base = "_".join(words)
            return _ALIASES.get(base, base), window, groups["field"]
    return None


def _limit(values: Mapping[str, str], window: str | None, clock: float | None) -> Limit | None:
    """The bucket, or ``None`` if nothing of it is known."""
    limit, remaining = (_integer(values.get(key)) for key in ("limit", "remaining"))
    reset_text = values.get("reset")
    reset_in = times.reset(reset_text, clock) if reset_text else None
    if limit is None and remaining is None and (reset_in is None or len(values) > 1):
        return None  # Azure's -1/-1/0: the reset of a bucket that has no numbers says nothing
    return Limit(limit, remaining, reset_in, window)


def _integer(text: str | None) -> int | None:
    if text is not None and text.isascii() and text.isdigit() and len(text) < 16:
        return int(text)
    if text and re.fullmatch(_GROUPED, text.strip()):
        text = text.replace(",", "")
    match = re.fullmatch(_INTEGER, text.strip()) if text else None
    value = int(match[1]) if match else -1
    return value if value >= 0 else None


def _structured(headers: Mapping[str, str]) -> Iterator[tuple[str, Limit]]:
    """``ratelimit: "api";r=999;t=295`` with ``ratelimit-policy: "api";q=1000;w=300`` (draft-ietf-httpapi-ratelimit)."""
    policies = _items(headers.get("ratelimit-policy", ""))
    states = _items(headers.get("ratelimit", ""))
    for index, (name, state) in enumerate(states):
        policy = next((p for n, p in policies if n == name), policies[index][1] if index < len(policies) else {})
        quota = state.get("q", policy.get("q"))
        width = policy.get("w")
        reset_in = times.bounded(float(state["t"])) if "t" in state else None
        limit = Limit(quota, state.get("r"), reset_in, f"{width}s" if width else None)
        if limit != UNKNOWN:
            yield ("requests" if index == 0 else f"requests_{name or index}"), limit


def _items(text: str) -> list[tuple[str, dict[str, int]]]:
    """The list's items as (name, parameters).  The old draft's ``limit=100, remaining=50, reset=30`` is one item."""
    if '"' not in text:
        parameters = {_PARAMETERS[key]: int(value) for key, value in re.findall(_PARAMETER, text)}
        return [("", parameters)] if parameters else []
    items: list[tuple[str, dict[str, int]]] = []
    for piece in text.split(","):
        names = re.findall(_ITEM, piece)
        found = {_PARAMETERS[key]: int(value) for key, value in re.findall(_PARAMETER, re.sub(_ITEM, "", piece))}
        # Hugging Face writes `"fixed window";"api";q=1000`: the last string is the name.
        items.append((names[-1] if names else "", found))
    return items
