"""The settings of the policies: name, default, and a sentence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from resilient_llm.policy import Policies, Policy
from tables.markdown import code, plain, table
from tables.states import transitions

SENTENCES = {
    "retry.max_attempts": "attempts of one call, the first included, over all providers",
    "retry.max_attempts_per_provider": "of these at one provider; rescues, trials and waits that a provider asked for "
    "do not count",
    "retry.backoff_base": "seconds before the same provider is asked again, doubling, shortened by up to a quarter",
    "retry.backoff_cap": "its most",
    "retry.max_wait": "the longest wait that a provider may ask for (`Retry-After`); a longer one is an error at once",
    "retry.max_down_wait": "seconds a call waits behind an outage of all providers, deadline or not",
    "retry.budget": "extra attempts saved up for the whole process",
    "breaker.consecutive": "failures in a row that open it hard (more for a provider that often failed before)",
    "breaker.ratio": "it opens softly when clearly more than this share of calls fails: three in a row, or half of "
    "about eight",
    "breaker.open_base": "seconds until the first trial",
    "breaker.open_cap": "seconds between two trials at most, unless it relapsed",
    "breaker.successes": "answered trials in a row that close it",
    "hedge.enabled": "whether silent calls are rescued",
    "hedge.factor": "times the 95th percentile of the provider's own first-token times: then a rescue starts",
    "hedge.ratio": "share of all calls that may be rescued, saved up to ten",
    "timeouts.connect": "seconds to connect",
    "timeouts.first_token": "seconds to the first content; `None`: learnt, four times the slowest recent one, 60 at "
    "first",
    "timeouts.idle": "the longest gap between two pieces of content",
    "timeouts.idle_tool_arguments": "the same inside a tool call",
    "stream.hold_tool_arguments": "hand a tool call over when it is complete",
    "stream.on_break": "what follows when a stream breaks after content was handed over: `'fail'` raises "
    "`StreamInterrupted`; `'restart'`, `'verify'`, `'continue'` and `'instruct'` go on",
    "stream.under_chat": "`'stream'`: `chat()` asks for a stream and puts it together, so that silence is noticed at "
    "the first token",
    "stream.max_bytes": "bound of one answer",
    "limits.gate_cap": "the longest a rate limit closes a gate",
    "limits.max_queue": "calls that may wait for one provider; the next one is told at once",
    "limits.reserve": 'share of every limit that is kept from calls with `priority="batch"`',
    "advanced.memory": "seconds with which evidence about a provider fades",
    "advanced.failure_cost": "seconds of latency that a failure is worth when equals are compared",
    "advanced.stickiness": "a conversation moves only to a provider that costs less than this share",
    "advanced.prompt_scale": "tokens of prompt that double the usual time to the first token",
    "advanced.seconds_per_token": "assumed until a provider's own pace is known",
    "advanced.rescue_min": "a rescue comes no sooner",
    "advanced.rescue_max": "and, for streams, no later",
    "advanced.first_token_min": "the least that a learnt first-token timeout may be",
    "advanced.first_token_max": "the most, unless answers take longer than half of it; also while nothing is known",
    "advanced.slow_gate_cap": "longest wait for a provider whose quota is exhausted or whose key is refused",
}
"""What each setting is.  One that is missing here stops the generation."""


def groups() -> dict[str, Policy]:
    """Every policy with its defaults, by the name of its setting."""
    policies = Policies()
    return {group.name: getattr(policies, group.name) for group in fields(policies)}


def _rows(group: str, policy: Policy) -> list[list[str]]:
    names = [f"{group}.{one.name}" for one in fields(policy)]
    missing = [name for name in names if name not in SENTENCES]
    if missing:
        raise SystemExit(f"docs/tables/policies.py has no sentence for {', '.join(missing)}")
    return [[code(name), code(repr(getattr(policy, name.partition(".")[2]))), SENTENCES[name]] for name in names]


def one(group: str) -> str:
    """The table of one policy."""
    return table(["setting", "default", "what it is"], _rows(group, groups()[group]))


def some(*names: str) -> Callable[[], str]:
    """A table of these settings, for a page about one mechanism."""
    every = {row[0].strip("`"): row for group, policy in groups().items() for row in _rows(group, policy)}
    return lambda: table(["setting", "default", "what it is"], [every[name] for name in names])


def chapters() -> str:
    """Every policy: its explanation, and its table."""
    said = []
    for name, policy in groups().items():
        said.append(f"## {type(policy).__name__}\n\n{plain(type(policy).__doc__)}\n\n{one(name)}")
    return "\n\n".join(said)


SECTIONS = {
    "reference/policies.md": {"policies": chapters},
    "mechanisms/breaker.md": {
        "states": transitions,
        "defaults": some(*(f"breaker.{one}" for one in ("consecutive", "ratio", "open_base", "open_cap", "successes"))),
    },
    "mechanisms/gate.md": {"defaults": some("limits.gate_cap", "retry.max_wait", "advanced.slow_gate_cap")},
    "mechanisms/retry.md": {
        "defaults": some(
            *(f"retry.{one}" for one in ("max_attempts", "max_attempts_per_provider", "backoff_base", "backoff_cap")),
            "retry.max_wait",
        ),
    },
    "mechanisms/budget.md": {"defaults": some("retry.budget", "hedge.ratio")},
    "mechanisms/rescue.md": {
        "defaults": some(
            *("hedge.enabled", "hedge.factor", "hedge.ratio", "advanced.rescue_min", "advanced.rescue_max"),
        ),
    },
    "mechanisms/deadline.md": {
        "defaults": some(*(f"timeouts.{one}" for one in ("connect", "first_token", "idle", "idle_tool_arguments"))),
    },
    "mechanisms/line.md": {"defaults": some("limits.max_queue", "limits.reserve", "retry.max_wait")},
    "mechanisms/health.md": {
        "defaults": some(*(f"advanced.{one}" for one in ("memory", "failure_cost", "stickiness", "prompt_scale"))),
    },
    "mechanisms/last-resort.md": {"defaults": some("retry.max_down_wait", "breaker.open_base")},
}
