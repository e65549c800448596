"""The page for people: one HTML document that needs nothing else, and refreshes its own middle.

All of it is written here, on the server; the script only fetches the middle anew.  The policy allows that script, this
style and requests to where the page came from, and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from resilient_llm.client import Candidate, ProviderHealth
from resilient_llm.operate.endpoints.snapshot import Snapshot
from resilient_llm.operate.endpoints.style import STYLE
from resilient_llm.operate.plain import Plain

_SCRIPT: Final = """
const main = document.querySelector("main"), stale = document.querySelector("#stale");
let since = new Date();
async function refresh() {
  if (document.hidden) return;
  try {
    const answer = await fetch("?part=main", {cache: "no-store"});
    if (!answer.ok) throw new Error(answer.status);
    main.innerHTML = await answer.text();
    since = new Date();
    stale.hidden = true;
  } catch {
    stale.textContent = "No answer from this process since " + since.toLocaleTimeString() + ".";
    stale.hidden = false;
  }
}
setInterval(refresh, 2000);
document.addEventListener("visibilitychange", refresh);
"""


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


POLICY: Final = (
    f"default-src 'none'; script-src {_hash(_SCRIPT)}; style-src {_hash(STYLE)}; img-src data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Value of the header ``content-security-policy`` that the page is to be sent with."""

_STATES: Final = {
    "healthy": "healthy",
    "degraded": "degraded",
    "unhealthy": "down",
    "unknown": "no verdict yet",
}


def whole(seen: Snapshot) -> str:
    """The page."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<title>{escape(seen.client)}: LLM providers</title>\n<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n"
        f'<p id="stale" role="status" hidden></p>\n<main>\n{main(seen)}\n</main>\n'
        f"<script>{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def main(seen: Snapshot) -> str:
    """Its middle, which changes."""
    return "\n".join(
        (
            f"<header><h1>LLM providers <small>client {escape(seen.client)}</small></h1>{_verdict(seen)}</header>",
            f'<div class="tiles">{"".join(_tiles(seen))}</div>',
            *(_route(name, candidates, seen) for name, candidates in seen.routes.items()),
            _table("Objectives", seen.objectives),
            _table("Against what is usual", seen.anomalies),
            "<footer>Times are those of this process; other processes have their own view. "
            "For machines: <code>snapshot</code>, <code>readyz</code>, <code>livez</code>.</footer>",
        )
    )


def _verdict(seen: Snapshot) -> str:
    count, total = len(seen.admissible()), len(seen.providers)
    if seen.closed:
        state, text = "bad", "The client is closed."
    elif count == total:
        state, text = "good", "Every provider can be asked." if total > 1 else "The provider can be asked."
    elif count:
        state, text = "fair", f"{count} of {total} providers can be asked."
    else:
        wait = seen.opens_in()
        state, text = "bad", f"No provider can be asked now{'' if wait is None else f'; the next in {_time(wait)}'}."
    return f'<p class="verdict {state}">{escape(text)}</p>'


def _tiles(seen: Snapshot) -> Iterable[str]:
    providers = seen.providers.values()
    passed = {one.provider for route in seen.routes.values() for one in route if one.reason is not None}
    for value, label in (
        (str(sum(one.in_flight for one in providers)), "attempts under way"),
        (str(sum(one.waiting for one in providers)), "waiting in line"),
        (str(len(passed)), "passed over"),
        (f"{seen.budgets.get('extra', 0.0):.1f}", "second tries saved up"),
    ):
        yield f"<div><b>{escape(value)}</b><span>{escape(label)}</span></div>"


def _route(name: str, candidates: Sequence[Candidate], seen: Snapshot) -> str:
    title = "Providers, in order of preference" if len(seen.routes) == 1 else f"Route {name}"
    cards = "".join(_card(number, one, seen.providers[one.provider]) for number, one in enumerate(candidates, start=1))
    return f'<section><h2>{escape(title)}</h2><div class="cards">{cards}</div></section>'


def _card(number: int, candidate: Candidate, health: ProviderHealth) -> str:
    reason = candidate.reason
    told = "would be asked" if reason is None else reason
    kind = "asked" if reason is None else "passed"
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in _facts(health))
    score, state = round(100 * health.score), _state(health)
    return (
        f'<article class="{escape(health.state)}"><h3><span>{number}.</span> {escape(candidate.provider)}</h3>'
        f'<p class="state">{escape(state)}<small>{escape(candidate.model)}</small></p>'
        f'<p class="why {kind}">{escape(told)}</p>'
        f'<meter min="0" max="100" value="{score}" aria-label="health {score} of 100"></meter>'
        f"<dl>{facts}</dl></article>"
    )


def _state(health: ProviderHealth) -> str:
    if health.drained:
        return "drained"
    return "isolated" if health.breaker == "isolated" else _STATES.get(health.state, health.state)


def _facts(health: ProviderHealth) -> Iterable[tuple[str, str]]:
    limit = "" if health.limit is None else f" of {health.limit}"
    yield "under way, in line", f"{health.in_flight}{limit}, {health.waiting}"
    yield "breaker", _breaker(health)
    if health.samples:
        yield "answered", f"{100 * health.success_rate:.0f} %"
    if health.first_token_p50 is not None:
        yield "first token p50, p95", f"{_time(health.first_token_p50)}, {_time(health.first_token_p95)}"
    if health.answer_p50 is not None:
        yield "whole answer p50, p95", f"{_time(health.answer_p50)}, {_time(health.answer_p95)}"
    if health.requests_left is not None:
        yield "requests left", f"{health.requests_left:,}"
    if health.tokens_left is not None:
        yield "tokens left", f"{health.tokens_left:,}"
    if health.model_mismatch:
        yield "answers as", "another model than asked for"


def _breaker(health: ProviderHealth) -> str:
    state = health.breaker.replace("_", " ")
    if health.breaker in ("closed", "isolated"):
        return state
    trial = (
        "" if health.retry_in is None else f", trial in {_time(health.retry_in)}" if health.retry_in else ", trial due"
    )
    return f"{state} ({health.breaker_reason}){trial}"


def _table(title: str, told: Plain) -> str:
    """A table of whatever the objectives or anomalies tell; nothing if they tell nothing."""
    if isinstance(told, dict):
        told = [{"objective": name, **one} if isinstance(one, dict) else {name: one} for name, one in told.items()]
    rows = [row for row in told if isinstance(row, dict)] if isinstance(told, list) else []
    if not rows:
        return ""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in columns)
    body = "".join(f"<tr>{''.join(f'<td>{escape(_shown(row.get(c)))}</td>' for c in columns)}</tr>" for row in rows)
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<section><h2>{escape(title)}</h2><div class="scroll">{table}</div></section>'


def _shown(value: Plain) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {_shown(one)}" for name, one in value.items())
    return ", ".join(_shown(one) for one in value) if isinstance(value, list) else str(value)


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 0.001:
        return "< 1 ms"
    if seconds < 1.0:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120.0:
        return f"{seconds:.1f} s" if seconds < 10.0 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"
