"""Declared limits that processes keep to together, exactly.

A thread of its own takes units out of the shared buckets before they are needed and puts them in stock, so that calls
wait for no store: they find in stock what they need, or they are told as by any limit that it is used up.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, NamedTuple

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.decide.granted import Granted
from resilient_llm.decide.keys import Key
from resilient_llm.decide.member import Member
from resilient_llm.drive.core import ProviderPool
from resilient_llm.drive.subject import Target
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.background import Background
from resilient_llm.operate.news.buckets import Answer, Asked, Buckets
from resilient_llm.operate.news.message import account_elsewhere, named_alike, subject
from resilient_llm.operate.news.store import NotFetched, SupportsStream, client_of
from resilient_llm.policy import Rate

_log = logging.getLogger("resilient_llm.operate")

PATIENCE: Final = 0.1
"""Seconds that the store has for an answer; no call waits for it."""
_LOOK: Final = 0.02  # seconds between two looks at what is in stock
_SIGN_OF_LIFE: Final = 0.25  # seconds after which the store is asked although nothing is needed
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 5.0  # seconds without asking a store that fails
_UNNAMED: Final = (
    "shared pace: a function gives the key of %s, so that other processes know its account by its place alone; if they "
    "do not have the same one there, name it: account= of the provider, or an attribute `account` of the function"
)


@dataclass(frozen=True, slots=True)
class PaceStatus:
    """How the sharing goes.

    ``connected``: the store answered last time (``None``: it was not asked yet, or nothing is declared); ``workers``:
    processes that share a limit with this one, itself included; ``rounds`` and ``failures`` count questions to the
    store and those without an answer, ``last_failure`` names the class of the last one's exception."""

    connected: bool | None
    workers: int
    rounds: int
    failures: int
    last_failure: str


class _Limit(NamedTuple):
    """A shared limit here."""

    bucket: str
    meter: Granted
    waiting: int


class SharedPace:
    """The shared limits of one client.  Made by :func:`share_pace`; safe for threads."""

    def __init__(self, pool: ProviderPool, buckets: Buckets, workers: int) -> None:
        self._pool = weakref.ref(pool)
        self._buckets = buckets
        self._draw = random.Random().random
        self._workers = workers
        self._ask_at: dict[str, float] = {}
        self._targets: dict[str, float] = {}
        self._asked_at = -1e9
        self._not_before = 0.0
        self._pause = _FIRST_PAUSE
        self._closed = False
        self._connected: bool | None = None
        self._rounds = self._failures = 0
        self._last_failure = ""
        self._own = Background(f"{pool.name}-pace")
        pool.pool.look(self._install)
        self._own.submit(partial(SharedPace.look, self))
        self._own.every(_LOOK, self.look)

    # --- for people ---

    def status(self) -> PaceStatus:
        """How the sharing goes."""
        return PaceStatus(self._connected, self._workers, self._rounds, self._failures, self._last_failure)

    def close(self) -> None:
        """Share nothing more: this process keeps to the declared limits by itself again.  Does nothing the second
        time."""
        if self._closed:
            return
        self._closed = True
        self._own.close()
        pool = self._pool()
        if pool is not None:
            _sharing.pop(pool, None)
            pool.pool.look(_uninstall)
            pool.pool.serve_all(pool.clock())

    def __repr__(self) -> str:
        state = {None: "starting", True: "connected", False: "without its store"}[self._connected]
        return f"<SharedPace {'closed' if self._closed else state}>"

    # --- in the background ---

    def look(self) -> None:
        """See what is in stock, and ask the store if more is wanted.  Raises nothing."""
        pool = self._pool()
        if pool is None or self._closed:
            return
        if pool.pool.closed:
            self._own.close()
            return
        now = pool.clock()
        if time.monotonic() < self._not_before:
            return
        asked = pool.pool.look(partial(self._wanted, now))
        if not asked:
            return
        self._rounds += 1
        self._asked_at = time.monotonic()
        try:
            answers = self._buckets.exchange(pool.token, [question for question, _ in asked])
        except Exception as error:  # whatever a client, a server or a stranger behind its address comes up with
            pool.pool.look(partial(_alone, pool.clock(), [limit for _, limit in asked]))
            if not isinstance(error, NotFetched):  # whoever fetches it says why
                self._failed(error)
        else:
            self._answered()
            pool.pool.look(partial(self._granted, pool.clock(), asked, answers))
        pool.pool.serve_all(pool.clock())

    def _install(self, members: Mapping[str, Member[Target]]) -> None:
        """Every declared limit gets a shared bucket."""
        for member in members.values():
            for key in member.keys:
                if any(not isinstance(meter, Granted) for meter, _ in key.pace.declared):
                    key.pace.share(self._bucket, key.terms.rates)

    def _bucket(self, rate: Rate) -> Granted:
        meter = Granted(rate)
        meter.share = 1.0 / self._workers
        return meter

    def _wanted(self, now: float, members: Mapping[str, Member[Target]]) -> list[tuple[Asked, _Limit]]:
        """What to ask; nothing if all is well."""
        self._install(members)
        found: list[tuple[Asked, _Limit]] = []
        due = time.monotonic() >= self._asked_at + _SIGN_OF_LIFE
        for limit in _limits(members):
            meter = limit.meter
            least, most = meter.wanted(limit.waiting, now)
            target = max(most, self._targets.get(limit.bucket, most))
            surplus = meter.surplus(2.0 * target, now) if due else 0.0
            low = meter.level < 0.0 or meter.level < max(least, 0.5 * target)
            due = due or (low and now >= self._ask_at.get(limit.bucket, 0.0))
            found.append((Asked(limit.bucket, meter.limit, meter.rate, meter.level, surplus, least, most), limit))
        return found if due else []

    def _granted(self, now: float, asked: list[tuple[Asked, _Limit]], answers: list[Answer], members: object) -> None:
        for (question, limit), answer in zip(asked, answers, strict=True):
            short = answer.wait > 0.0
            limit.meter.grant(answer.granted, 1.0 / answer.workers, now, short=short)
            self._targets[question.bucket] = answer.target
            self._ask_at[question.bucket] = now + min(answer.wait, _SIGN_OF_LIFE) + _LOOK * self._draw()
        self._workers = max(answer.workers for answer in answers)

    def _answered(self) -> None:
        if self._connected is False:
            _log.info("shared pace: the store answers again")
        self._connected, self._pause = True, _FIRST_PAUSE

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        self._last_failure = type(error).__name__
        if self._connected is not False:
            told = "shared pace: the store does not answer (%s); this process keeps to its share, 1/%d of each limit"
            _log.warning(told, self._last_failure, self._workers)
        self._connected = False
        self._not_before = time.monotonic() + self._pause * (1.0 - 0.5 * self._draw())
        self._pause = min(_LONGEST_PAUSE, 2.0 * self._pause)


_sharing: weakref.WeakKeyDictionary[ProviderPool, SharedPace] = weakref.WeakKeyDictionary()
_guard = threading.Lock()


def share_pace(
    client: ResilientClient | AsyncResilientClient,
    store: str | SupportsStream,
    *,
    group: str = "default",
    workers: int = 1,
) -> SharedPace:
    """Keep to the limits that are declared for providers (``requests_per_minute=``, ``tokens_per_minute=``) together
    with every other process that shares this store and ``group``.

    ``store``: as for :func:`share_news`.  ``workers``: among how many processes a limit is divided while the store has
    not said how many there are.  While the store does not answer, each process keeps to its share.

    A key that a function gives is taken to be the same account in every process, at its place among the provider's
    keys, unless ``account=`` of the provider or an attribute ``account`` of the function names it; that is logged once.

    Returns at once; the store is asked from a thread of its own.  Raises ``ConfigurationError`` for arguments that make
    no sense, for a client that shares its limits already, or if the extra ``redis`` is missing, never because of the
    store.
    """
    if not isinstance(client, ResilientClient | AsyncResilientClient):
        raise ConfigurationError(f"limits are shared by a ResilientClient or AsyncResilientClient, not {client!r}")
    if not isinstance(group, str) or not group:
        raise ConfigurationError(f"group must be a non-empty string, not {group!r}")
    if isinstance(workers, bool) or not isinstance(workers, int) or not 1 <= workers <= 10_000:
        raise ConfigurationError(f"workers must be a number of processes from 1 to 10000, not {workers!r}")
    pool = client.pool
    buckets = Buckets(client_of(store, PATIENCE), group)
    with _guard:
        if pool in _sharing:
            raise ConfigurationError(f"the limits of {pool!r} are shared already")
        found = _sharing[pool] = SharedPace(pool, buckets, workers)
    for which in pool.pool.look(_unnamed):
        _log.warning(_UNNAMED, which)
    return found


def _limits(members: Mapping[str, Member[Target]]) -> list[_Limit]:
    return [
        _Limit(_name(member, key, rate), meter, len(member.line.waiting))
        for member in members.values()
        for key in member.keys
        for rate, (meter, _) in zip(key.terms.rates, key.pace.declared, strict=True)
        if isinstance(meter, Granted)
    ]


def _name(member: Member[Target], key: Key, rate: Rate) -> str:
    """A limit by what makes it the same one elsewhere: endpoint, model and account, and what it counts."""
    facts = [getattr(member.target, name, None) for name in ("vendor", "model", "host", "port")]
    return subject("pace", *facts, account_elsewhere(key.terms.account, key.number), rate.unit, rate.per)


def _unnamed(members: Mapping[str, Member[Target]]) -> list[str]:
    """The keys with declared limits that functions give without saying which account it is."""
    return [
        f"{member.id}, key {key.number + 1} of {len(member.keys)}" if len(member.keys) > 1 else member.id
        for member in members.values()
        for key in member.keys
        if key.terms.rates and key.terms.account is not None and not named_alike(key.terms.account)
    ]


def _alone(now: float, limits: list[_Limit], members: object) -> None:
    for limit in limits:
        limit.meter.alone(now)


def _uninstall(members: Mapping[str, Member[Target]]) -> None:
    for member in members.values():
        for key in member.keys:
            key.pace.share(None, key.terms.rates)
