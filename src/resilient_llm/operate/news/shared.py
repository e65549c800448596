"""What a process tells the others of its providers, and what it makes of what they tell.

Everything happens in the client's background thread, a few times a second: look at the own providers, say what has
changed, read what the others said, and give it to the pool as hints.  Calls never wait for any of it.
"""

from __future__ import annotations

import logging
import random
import time
import weakref
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import ConfigurationError
from resilient_llm.health import ProviderHealth
from resilient_llm.operate.background import background_of
from resilient_llm.operate.news.message import Kind, News, account_elsewhere, decoded, subject
from resilient_llm.operate.news.store import PATIENCE, NotFetched, Store, SupportsStream, client_of

_log = logging.getLogger("resilient_llm.operate")

_LATER: Final = 0.25  # seconds by which a time must have moved to be news again
_SLACK: Final = 1.0  # seconds that the one who tries a provider first has to tell how it went
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0  # seconds without asking a store that fails
_RATE_LIMITS: Final = frozenset({"rate_limited", "overloaded"})


@dataclass(frozen=True, slots=True)
class NewsStatus:
    """How the exchange goes.

    ``connected``: the store answered last time (``None``: it was not asked yet); ``sent`` and ``received`` count news,
    ``ignored`` what was none; ``failures`` counts times that the store did not answer, and ``last_failure`` names the
    class of the last one's exception."""

    connected: bool | None
    sent: int
    received: int
    ignored: int
    failures: int
    last_failure: str


@dataclass(frozen=True, slots=True)
class _Known:
    """A provider of ours, as the others know it."""

    id: str
    of_endpoint: str
    of_account: str


class SharedNews:
    """The exchange of one client.  Made by :func:`share_news`; safe for threads."""

    def __init__(self, pool: ProviderPool, store: Store, random_draw: random.Random | None = None) -> None:
        self._pool = weakref.ref(pool)
        self._store = store
        self._draw = (random_draw or random.Random()).random
        self._told: dict[tuple[str, Kind], float] = {}
        """Until when we said that we leave a provider alone."""
        self._closed = False
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE
        self._connected: bool | None = None
        self._sent = self._received = self._ignored = self._failures = 0
        self._last_failure = ""

    # --- for people ---

    def status(self) -> NewsStatus:
        """How the exchange goes."""
        return NewsStatus(
            self._connected, self._sent, self._received, self._ignored, self._failures, self._last_failure
        )

    def close(self) -> None:
        """Tell and hear nothing more.  What was heard fades by itself.  Does nothing the second time."""
        self._closed = True

    def __repr__(self) -> str:
        state = "closed" if self._closed else {None: "starting", True: "connected", False: "without its store"}
        return f"<SharedNews {state if isinstance(state, str) else state[self._connected]}>"

    # --- in the background ---

    def exchange(self) -> None:
        """One round, unless the store failed just now.  Raises nothing."""
        pool = self._pool()
        if pool is None or self._closed or time.monotonic() < self._not_before:
            return
        known = [_known(target) for target in pool.pool.targets()]
        own = list(self._own(pool, known))
        try:
            found = self._store.exchange([news.encoded() for news, _ in own])
        except NotFetched:  # whoever fetches it says why
            return
        except Exception as error:  # whatever a client, a server or a stranger behind its address comes up with
            self._failed(error)
            return
        self._answered()
        for news, until in own:
            self._remember(news, until)
        self._sent += len(own)
        for age, data in found:
            self._hear(pool, known, age, decoded(data))

    def _own(self, pool: ProviderPool, known: list[_Known]) -> Iterator[tuple[News, float]]:
        """What has changed at our providers since we told it, and until when it holds."""
        now, sender = pool.clock(), pool.token
        subjects = {one.id: one for one in known}
        for health in pool.pool.snapshot(now):
            ours = subjects.get(health.id)
            if ours is None:
                continue
            current = dict(_troubles(health))
            for kind, seconds in current.items():
                name = ours.of_endpoint if kind == "failing" else ours.of_account
                if now + seconds > self._told.get((name, kind), 0.0) + _LATER:
                    yield News(sender, name, kind, seconds), now + seconds
            yield from self._over(health, ours, current.keys(), now)

    def _over(
        self, health: ProviderHealth, ours: _Known, current: Collection[Kind], now: float
    ) -> Iterator[tuple[News, float]]:
        """That what we told is over: a breaker has closed, a gate has opened before its time."""
        for (name, kind), until in list(self._told.items()):
            if name not in (ours.of_endpoint, ours.of_account) or kind in current:
                continue
            if kind == "failing":
                over = health.breaker == "closed"
            else:
                over = until > now + _LATER
                if not over:
                    del self._told[name, kind]
            if over:
                yield News(self._sender(), name, "well", 0.0), now

    def _sender(self) -> str:
        pool = self._pool()
        return "" if pool is None else pool.token

    def _remember(self, news: News, until: float) -> None:
        if news.kind != "well":
            self._told[news.subject, news.kind] = until
            return
        for key in [key for key in self._told if key[0] == news.subject]:
            del self._told[key]

    def _hear(self, pool: ProviderPool, known: list[_Known], age: float, news: News | None) -> None:
        if news is None:
            self._ignored += 1
            return
        if news.sender == pool.token:
            return
        self._received += 1
        now = pool.clock()
        for one in known:
            if news.subject not in (one.of_endpoint, one.of_account):
                continue
            if news.kind == "well":
                pool.pool.hint_over(one.id, now)
                continue
            left = news.seconds - age
            if news.kind == "failing":  # later than the one who told it: who tries first tells how it went
                left += _SLACK + 0.5 * news.seconds * self._draw()
            else:  # not all at the same time
                left += max(_SLACK, left) * self._draw()
            if left > 0.0:
                pool.pool.hint(one.id, now, seconds=left)

    def _answered(self) -> None:
        if self._connected is False:
            _log.info("shared news: the store answers again")
        self._connected, self._pause = True, _FIRST_PAUSE

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._last_failure = type(error).__name__
        if self._connected is not False:
            _log.warning("shared news: the store does not answer (%s); calls are not affected", self._last_failure)
        self._connected = False
        self._not_before = time.monotonic() + self._pause * (1.0 - 0.5 * self._draw())
        self._pause = min(_LONGEST_PAUSE, 2.0 * self._pause)


def share_news(
    client: ResilientClient | AsyncResilientClient,
    store: str | SupportsStream,
    *,
    group: str = "default",
    every: float = 0.25,
) -> SharedNews:
    """Exchange news about providers with every other process that shares this store and ``group``.

    ``store``: ``redis://host:6379/0``, ``rediss://...`` or ``unix://...``, or a client of ``redis`` or ``valkey`` with
    short timeouts of its own and ``decode_responses`` off.  ``every``: seconds between two rounds.

    Returns at once; the store is asked from the client's background thread.  A process forked later goes on by itself.
    Raises ``ConfigurationError`` for arguments that make no sense or if the extra ``redis`` is missing, never because
    of the store.
    """
    if not isinstance(client, ResilientClient | AsyncResilientClient):
        raise ConfigurationError(f"news are shared by a ResilientClient or AsyncResilientClient, not {client!r}")
    if not isinstance(group, str) or not group:
        raise ConfigurationError(f"group must be a non-empty string, not {group!r}")
    if isinstance(every, bool) or not isinstance(every, int | float) or not 0.01 <= every <= 60.0:
        raise ConfigurationError(f"every must be seconds between 0.01 and 60, not {every!r}")
    pool = client.pool
    news = SharedNews(pool, Store(client_of(store, PATIENCE), group))
    background_of(pool).every(every, partial(SharedNews.exchange, news))  # also if nobody keeps what is returned
    return news


def _troubles(health: ProviderHealth) -> Iterator[tuple[Kind, float]]:
    """Why we leave a provider alone, and for how long."""
    if health.breaker in ("open", "softly_open") and health.retry_in:
        yield "failing", health.retry_in
    if health.gate_open_in is not None:
        yield ("limited" if health.gate_reason in _RATE_LIMITS else "refused"), health.gate_open_in


def _known(target: object) -> _Known:
    """A provider by what makes it the same one elsewhere: with its own name there, at the same address; and the same
    account, where it is about a key."""
    facts = [getattr(target, name, None) for name in ("id", "vendor", "model", "host", "port")]
    identity = str(getattr(target, "id", ""))
    account = account_elsewhere(getattr(target, "account", None), 0)
    return _Known(identity, subject(*facts), subject(*facts, "account", account))
