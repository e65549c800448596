"""Events of the client as sentences."""

from __future__ import annotations

from collections.abc import Iterable

from resilient_llm import events

_QUIET = 0.25  # seconds within which the same sentence about the same provider is not said twice


def sentence(event: events.Event) -> str | None:
    """What happened, in words; ``None`` for what is too ordinary to be told."""
    if isinstance(event, events.BreakerChanged):
        return _breaker(event)
    if isinstance(event, events.GateClosed):
        return f"asked us to wait {event.wait:.1f} s ({event.reason}); gate closed, health untouched"
    if isinstance(event, events.NotTaken) and event.reason == "budget":
        return f"no {event.what}: its budget is used up"
    if isinstance(event, events.AttemptStarted) and event.kind == "hedge":
        return f"rescues call {event.call} from a provider that is silent"
    if isinstance(event, events.OperatorChanged):
        return f"{event.action} by hand"
    return None


def _breaker(event: events.BreakerChanged) -> str:
    trial = f"; next trial in {event.open_for:.1f} s" if event.new in ("open", "softly_open") else ""
    return f"breaker {event.new.replace('_', ' ')}: {event.reason}{trial}"


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
