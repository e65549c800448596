"""Events of the client as sentences."""

from __future__ import annotations

from collections.abc import Iterable

from resilient_llm.decide import events

_QUIET = 0.25  # seconds within which the same sentence about the same provider is not said twice


def sentence(event: events.Event) -> str | None:
    """What happened, in words; ``None`` for what is too ordinary to be told."""
    if isinstance(event, events.BreakerChanged):
        return _breaker(event)
    if isinstance(event, events.TrustChanged):
        return f"{'trusted again' if event.trusted else 'passed over while others are well'}: {event.reason}"
    if isinstance(event, events.GateClosed):
        return f"asked us to wait {event.wait:.1f} s ({event.reason}); gate closed, health untouched"
    if isinstance(event, events.Forced):
        return "nobody can be asked: one call goes through the open breaker to find out"
    if isinstance(event, events.NotTaken) and event.reason == "budget":
        return f"no {event.what}: its budget is used up"
    if isinstance(event, events.AttemptStarted) and event.kind == "hedge":
        return f"rescues call {event.call} from a provider that is silent"
    if isinstance(event, events.Drained):
        return f"{event.action} by hand"
    return None


def _breaker(event: events.BreakerChanged) -> str:
    if event.new == "open":
        again = "again " if event.old == "half_open" else ""
        return f"breaker opened {again}after {_because(event.reason)}; next try in {event.open_for:.1f} s"
    if event.new == "half_open":
        return "breaker half-open: one real call at a time probes it"
    if event.new == "closed":
        return "breaker closed after good probes; traffic returns gradually"
    return f"breaker {event.new}: {event.reason}"


def _because(reason: str) -> str:
    return {"a probe failed": "a failed probe", "a probe gave no sign of life": "a silent probe"}.get(reason, reason)


def told(happened: Iterable[events.Event]) -> list[tuple[float, str, str]]:
    """Time, provider and sentence of everything worth telling, oldest first, without echoes."""
    found: list[tuple[float, str, str]] = []
    last: dict[tuple[str, str], float] = {}
    for event in happened:
        text = sentence(event)
        if text is None:
            continue
        topic = event.provider, text.partition(" ")[0] + type(event).__name__
        echo = not isinstance(event, events.BreakerChanged) and event.at - last.get(topic, -1.0) < _QUIET
        last[topic] = event.at
        if not echo:
            found.append((event.at, event.provider or "client", text))
    return found
