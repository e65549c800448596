"""The sections of the other parts of ``operate``: objectives, anomalies, cost, news, alerts.

What each may say follows from the classes it makes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.alerts import Alerts, Email, Log, PagerDuty, Rules, Sink, Slack, Webhook
from resilient_llm.operate.alerts.words import Condition, Source
from resilient_llm.operate.anomalies import Anomalies
from resilient_llm.operate.cost import Budget, load_prices, track
from resilient_llm.operate.incidents import Incidents
from resilient_llm.operate.known import EVERY
from resilient_llm.operate.known import keep as keep_known
from resilient_llm.operate.news import SupportsStream, share_news, share_pace
from resilient_llm.operate.news.pace import PATIENCE as PACE_PATIENCE
from resilient_llm.operate.news.store import PATIENCE, Fetched
from resilient_llm.operate.objectives import Objective, Objectives
from resilient_llm.operate.secrets.held import Secret
from resilient_llm.operate.secrets.stores import answers_at_once
from resilient_llm.operate.settings.providers import Routes
from resilient_llm.operate.settings.sections import AnyClient, Mistake, Section, Undo, keep, kept
from resilient_llm.providers.credentials import ApiKey, Credential, KeyUnavailable

_SOURCES: Final = ("objectives", "anomalies")
"""Sections whose objects have conditions that people want to be told of."""


# --- objectives and anomalies ---


def _objectives(client: AnyClient, promised: Mapping[str, Objective]) -> Undo:
    made = Objectives(client, promised)
    return keep(client.pool, "objectives", made, made.close)


def _unknown_routes(routes: Routes, promised: Mapping[str, Objective]) -> Iterator[Mistake]:
    for name in promised:
        if name not in routes:
            yield (name,), f"there is no route {name!r}; there are {', '.join(routes)}"


OBJECTIVES: Final = Section(Mapping[str, Objective], _objectives, _unknown_routes)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnomalySettings:
    """Whether providers are watched for being slower, or failing more often, than they used to."""

    enabled: bool = True


def _anomalies(client: AnyClient, wanted: AnomalySettings) -> Undo | None:
    if not wanted.enabled:
        return None
    made = Anomalies(client)
    return keep(client.pool, "anomalies", made, made.close)


ANOMALIES: Final = Section(AnomalySettings, _anomalies)


# --- cost ---


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSettings:
    """What calls cost, and how much may be spent.

    ``prices`` is the path of a price table; ``None``: the list prices that come with the package.
    """

    prices: str | None = None
    budgets: tuple[Budget, ...] = ()


def _cost(client: AnyClient, wanted: CostSettings) -> Undo:
    pool = client.pool
    try:
        prices = None if wanted.prices is None else load_prices(wanted.prices)
    except OSError as error:
        raise ConfigurationError(f"cost.prices: {wanted.prices}: {error.strerror or error}") from None
    costs = track(client, prices, budgets=wanted.budgets)

    def stop() -> None:
        pool.spending = None

    return keep(pool, "cost", costs, stop)


def _unknown_budgets(routes: Routes, wanted: CostSettings) -> Iterator[Mistake]:
    ids = {provider.id for tiers in routes.values() for tier in tiers for provider in tier}
    for index, budget in enumerate(wanted.budgets):
        for key, name, known in (("route", budget.route, routes), ("provider", budget.provider, ids)):
            if name is not None and name not in known:
                yield ("budgets", index, key), f"there is no {key} {name!r}; there are {', '.join(sorted(known))}"


COST: Final = Section(CostSettings, _cost, _unknown_budgets)


# --- state ---


@dataclass(frozen=True, slots=True, kw_only=True)
class StateSettings:
    """A file in which what is known about providers outlives the process, and the seconds between two saves."""

    path: str
    every: float = EVERY


def _state(client: AnyClient, wanted: StateSettings) -> Undo:
    return keep_known(client, wanted.path, every=wanted.every)


STATE: Final = Section(StateSettings, _state)


# --- news ---


@dataclass(frozen=True, slots=True, kw_only=True)
class NewsSettings:
    """Where processes exchange news of providers: Redis or Valkey, as ``env:REDIS_URL``.

    ``group`` tells fleets apart that share a store, ``every`` is seconds between two rounds.  ``exact_pace``: all
    processes together keep to the limits that are declared for providers; ``workers`` is among how many a limit is
    divided while the store has not said how many there are.
    """

    store: ApiKey
    group: str = "default"
    every: float = 0.25
    exact_pace: bool = False
    workers: int = 1


def _news(client: AnyClient, wanted: NewsSettings) -> Undo:
    store = _store(wanted.store, PATIENCE)
    news = share_news(client, store, group=wanted.group, every=wanted.every)
    undo = keep(client.pool, "news", news, news.close)
    if not wanted.exact_pace:
        return undo
    store = _store(wanted.store, PACE_PATIENCE)
    pace = share_pace(client, store, group=wanted.group, workers=wanted.workers)
    more = keep(client.pool, "pace", pace, pace.close)
    return lambda: (undo(), more())


def _store(source: ApiKey, patience: float) -> str | SupportsStream:
    """The URL; where somebody else has to be asked for it, a client that waits for the answer in the background."""
    if isinstance(source, Secret) and not answers_at_once(source.reference):
        return Fetched(source.at_hand, patience)
    try:
        return str(Credential(source).get())
    except KeyUnavailable as error:
        raise ConfigurationError(f"news.store: {error}") from None


NEWS: Final = Section(NewsSettings, _news)


# --- alerts ---


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertSettings:
    """Whom to tell when providers are in trouble: a table for each sink, and rules of when.

    ``log``: alerts are logged too.  ``incidents`` is a folder for records of what happened; ``None``: there are none.
    ``runbooks`` is a URL to which ``#`` and the kind of the alert are appended; ``None``: the project's own.
    """

    slack: tuple[Slack, ...] = ()
    pagerduty: tuple[PagerDuty, ...] = ()
    webhook: tuple[Webhook, ...] = ()
    email: tuple[Email, ...] = ()
    log: bool = True
    incidents: str | None = None
    runbooks: str | None = None
    rules: Rules = field(default_factory=Rules)


class _Watched(Source):
    """What is wrong according to the other sections, whichever there are by now."""

    def __init__(self, pool: ProviderPool) -> None:
        self._pool = pool

    def conditions(self, now: float) -> Iterator[Condition]:
        """For alerts."""
        for name in _SOURCES:
            found = kept(self._pool).get(name)
            if isinstance(found, Objectives | Anomalies):
                yield from found.conditions(now)


def _alerts(client: AnyClient, wanted: AlertSettings) -> Undo:
    sinks: list[Sink] = [*wanted.slack, *wanted.pagerduty, *wanted.webhook, *wanted.email]
    if wanted.log or not sinks:
        sinks.append(Log())
    incidents = None if wanted.incidents is None else Incidents(client, wanted.incidents)
    if incidents is not None:
        sinks.append(incidents)
    pool = client.pool
    options = {} if wanted.runbooks is None else {"runbooks": wanted.runbooks}
    alerts = Alerts(client, sinks, watch=[_Watched(pool)], rules=wanted.rules, **options)
    undo = keep(pool, "alerts", alerts, alerts.close)
    if incidents is None:
        return undo
    more = keep(pool, "incidents", incidents, incidents.close)
    return lambda: (undo(), more())


ALERTS: Final = Section(AlertSettings, _alerts)
