"""When a call that gives no sign of life gets a second chance elsewhere, and how long it may stay silent."""

from __future__ import annotations

from resilient_llm.decide.health import Health
from resilient_llm.policy import Hedge, Timeouts


def rescue_delay(policy: Hedge, health: Health, prompt_tokens: int, *, streaming: bool) -> float | None:
    """Seconds after which an attempt is late and a second one may start; ``None`` while too little is known to tell
    late from usual.  Without hedging it still tells who is late.

    The textbook trigger, the 95th percentile itself, spends its whole allowance on ordinary stragglers and has none
    left when a provider hangs; twice that is a rescue.  The upper bound holds for first tokens only, as a whole answer
    may rightly take minutes, and brings no rescue before its provider usually speaks: a model that thinks for half a
    minute is not late after ten seconds.
    """
    seen = health.first if streaming else health.whole
    if seen.count < policy.min_samples:
        return None
    usual = seen.p95 * health.scale(prompt_tokens)
    delay = policy.factor * usual
    if streaming and delay > policy.max_delay:
        return max(policy.max_delay, usual)
    return delay if delay > policy.min_delay else policy.min_delay


def first_token_timeout(policy: Timeouts, health: Health, prompt_tokens: int) -> float:
    """Seconds a streamed answer may take to begin."""
    if policy.first_token is not None:
        return policy.first_token
    if health.first.count < 20:
        return policy.first_token_initial
    # 64 samples cannot resolve a 99th percentile; a tenth above the largest stands in for it.
    slowest = health.first.largest * 1.1 * health.scale(prompt_tokens)
    return min(max(4.0 * slowest, policy.first_token_min), policy.first_token_max)


def whole_timeout(policy: Timeouts, health: Health, prompt_tokens: int, max_tokens: int) -> float:
    """Seconds a whole answer may take: the time to begin plus twice what its length should need."""
    pace = health.pace or policy.seconds_per_token
    return first_token_timeout(policy, health, prompt_tokens) + 2.0 * max_tokens * pace


def probe_lease(low: float, high: float, health: Health, prompt_tokens: int, *, streaming: bool) -> float:
    """Seconds a probe may stay silent before it counts as failed.

    Streams speak at the first token.  A whole answer says nothing until it is done, so its lease is at least ``high``.
    """
    seen = health.first if streaming else health.whole
    usual = 3.0 * seen.p95 * health.scale(prompt_tokens)
    return min(max(usual, low), high) if streaming else max(usual, high)
