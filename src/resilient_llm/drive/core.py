"""What the sync and the async client share: the pool, the clock, the observer, the listeners, how a call is set up."""

from __future__ import annotations

import inspect
import math
import os
import random
from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias, cast

from resilient_llm.capability import NO_NEEDS, Needs, OnUnsupported, checked_policy, needs
from resilient_llm.decide.attempt import Ask
from resilient_llm.decide.call import Call
from resilient_llm.decide.pool import Pool
from resilient_llm.drive.engines import Time
from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.exchange_base import Lease
from resilient_llm.drive.fork import imported, tell_after_fork
from resilient_llm.drive.observer import Observer, Observers, complain
from resilient_llm.drive.spending import Spending
from resilient_llm.drive.subject import Target
from resilient_llm.errors import ConfigurationError, InvalidRequest
from resilient_llm.events import Event
from resilient_llm.model import ChatRequest
from resilient_llm.options import CallOptions, ids, seconds
from resilient_llm.policy import Policies
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.custom import AsyncProvider, Custom, Function, Provider
from resilient_llm.providers.secrecy import Secrets
from resilient_llm.wire.faults.scrub import scrub

if TYPE_CHECKING:
    from resilient_llm.record import DecisionRecord
    from resilient_llm.record.recorder import RecordedCall

AnyProvider: TypeAlias = HttpProvider | Provider | AsyncProvider | Function
"""Anything that can be asked."""

ProviderList: TypeAlias = Sequence[AnyProvider | Sequence[AnyProvider]]
"""Providers in order of preference; a nested list is one tier of equals."""

Routes: TypeAlias = ProviderList | Mapping[str, ProviderList]
"""One list, or several under names, of which the first is the default."""

Listener: TypeAlias = Callable[[Event], None]


def _check_listener(listener: object) -> None:
    if not callable(listener):
        raise ConfigurationError(f"a listener must be callable, not {listener!r}")
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
        raise ConfigurationError(f"a listener cannot be async, as {listener!r} is: nobody would await it")


def _several(observer: Observer) -> tuple[Observer, ...]:
    return observer.all if isinstance(observer, Observers) else (observer,)


_recorded: ContextVar[tuple[ProviderPool, RecordedCall[Target]] | None] = ContextVar("recorded", default=None)


_SDKS = frozenset({"anthropic", "cohere", "google", "mistralai", "openai"})
"""Packages of vendors, whose clients go over ours."""


def _no_provider(found: object) -> ConfigurationError:
    """The error for what stands where a provider should; its values may be secret, so they are not told."""
    if type(found) in (str, dict):
        hint = "make one with a class of resilient_llm.providers, such as OpenAI('gpt-5.2'); load() takes names"
    elif type(found).__module__.partition(".")[0] in _SDKS:
        hint = "an SDK's client goes over a ResilientClient: mount(openai.OpenAI, client)"
    else:
        hint = "it has no id and chat(); wrap a callable in Function()"
    return ConfigurationError(f"{_told(found)} is no provider: {hint}")


def _no_list(found: object) -> ConfigurationError:
    """The error for what stands where a list of providers should."""
    hint = "" if type(found) in (str, dict) else "; did you mean [...] around it?"
    return ConfigurationError(f"the providers of a route must be a list, not {_told(found)}{hint}")


def _told(found: object) -> str:
    """What a value may be called in an error."""
    if isinstance(found, str):
        return scrub(repr(found))
    plain = isinstance(found, HttpProvider | int | float | None) or callable(found)
    return repr(found) if plain else f"<{type(found).__name__} object>"


_CHOOSING = frozenset({"providers", "tags", "require"})
"""Options that say who may be asked."""


class _Route:
    """What calls need to know of a route."""

    __slots__ = ("particular", "renewable", "targets")

    def __init__(self, targets: tuple[Target, ...]) -> None:
        self.targets: tuple[Target, ...] = targets
        self.renewable: list[HttpProvider] = [one for one in targets if isinstance(one, HttpProvider) and one.renewable]
        """Those whose keys may be missing for a while."""
        self.particular: bool = bool(self.renewable) or any(one.context_window is not None for one in targets)
        """Whether there is somebody who cannot serve every call."""


def _keyless(route: _Route, reasons: dict[str, str]) -> dict[str, str]:
    """Beyond those reasons, whose key is not there yet; where it would be everybody's, a call waits for one."""
    missing: dict[str, str] = {}
    for target in route.renewable:
        why = None if target.id in reasons else target.key_missing()
        if why is not None:
            missing[target.id] = why
    return reasons | missing if len(missing) < len(route.targets) - len(reasons) else reasons


class ProviderPool:
    """Providers, their state, and everything else about a client that does not wait.

    ``client.pool`` is one; giving it to another client (``AsyncResilientClient(pool=client.pool)``) makes both see
    and feed the same health.  It is safe for threads and event loops.
    """

    def __init__(
        self,
        routes: Routes,
        policies: Policies,
        *,
        name: str,
        deadline: float | None,
        listeners: Sequence[Listener],
        observer: Observer,
        on_unsupported: OnUnsupported = "skip",
    ) -> None:
        self.on_unsupported: OnUnsupported = checked_policy(on_unsupported)
        try:
            self.allowance: float = seconds(deadline)
        except InvalidRequest as error:
            raise ConfigurationError(str(error)) from None
        if not isinstance(listeners, Iterable):
            raise ConfigurationError(f"listeners must be a list of functions, not {listeners!r}")
        for listener in listeners:
            _check_listener(listener)
        self.name = name
        self.token: str = os.urandom(8).hex()
        """Tells this client's calls from those of other clients and processes."""
        self._set_time(Time())
        self.listeners: tuple[Listener, ...] = tuple(listeners)
        self.secrets: tuple[str, ...] = Secrets()
        """What may be secret in the default headers of the HTTP clients given to clients of this pool."""
        self._wrapped: dict[int, Custom] = {}
        self.policies: Policies = policies
        self.pool: Pool[Target] = Pool(self.targets(routes), policies, random.random)
        self.pool.listen(bool(listeners))
        self.spending: Spending | None = None
        """Who counts what calls cost, and keeps them from costing more; ``None``: nobody does."""
        self._routes: dict[str, _Route] = {}
        self._leases: set[Lease] = set()
        self._dropped: deque[Lease] = deque()
        self.beside: dict[str, object] = {}
        """What was set up beside the client and lives as long as it."""
        self.observer: Observer = observer
        observer.watch(self.pool, self.clock)
        tell_after_fork(self)

    def __repr__(self) -> str:
        return f"<ProviderPool {self.name!r}: {', '.join(target.id for target in self.pool.targets())}>"

    def listen(self, listener: Listener) -> None:
        """Call this function with every event from now on, as if it had been given as ``listeners=``."""
        _check_listener(listener)
        self.listeners = (*self.listeners, listener)
        self.pool.listen(True)

    def unlisten(self, listener: Listener) -> None:
        """Call this function no more; nothing happens if it was not called."""
        self.listeners = tuple(one for one in self.listeners if one != listener)
        self.pool.listen(bool(self.listeners))

    def observe(self, observer: Observer) -> None:
        """Report to this observer too: calls that begin from now on, and every change of state."""
        self.observer = Observers((*_several(self.observer), observer))
        observer.watch(self.pool, self.clock)

    def unobserve(self, observer: Observer) -> None:
        """Report to this observer no more; nothing happens if nothing was reported to it."""
        left = [one for one in _several(self.observer) if one is not observer]
        self.observer = left[0] if len(left) == 1 else Observers(left)

    def _set_time(self, time: Time) -> None:
        self.time: Time = time
        self.clock: Callable[[], float] = time.monotonic
        self.wall: Callable[[], float] = time.wall
        self.wait: Callable[[float], None] | None = time.wait

    @contextmanager
    def timed_by(self, time: Time) -> Generator[None]:
        """Inside the ``with`` block, take the time from elsewhere.  Calls that are under way keep theirs."""
        before = self.time
        self._set_time(time)
        try:
            yield
        finally:
            self._set_time(before)

    # --- providers ---

    def targets(self, routes: Routes) -> dict[str, list[list[Target]]]:
        """The routes as the pool wants them.  Raises ``ConfigurationError`` for anything that is no provider."""
        named = routes if isinstance(routes, Mapping) else {"default": routes}
        return {name: self._tiers(name, tiers) for name, tiers in named.items()}

    def _tiers(self, route: str, tiers: ProviderList) -> list[list[Target]]:
        if not isinstance(route, str) or not route:
            raise ConfigurationError(f"a route needs a non-empty name, not {route!r}")
        if isinstance(tiers, str) or not isinstance(tiers, Sequence):
            raise _no_list(tiers)
        if not tiers:
            raise ConfigurationError("the list of providers is empty; give at least one")
        return [
            [self._target(one) for one in tier] if isinstance(tier, list | tuple) else [self._target(tier)]
            for tier in tiers
        ]

    def _target(self, provider: object) -> Target:
        if isinstance(provider, HttpProvider):
            return provider
        if isinstance(provider, Function) or (hasattr(provider, "id") and callable(getattr(provider, "chat", None))):
            known = self._wrapped.get(id(provider))
            if known is None:
                known = self._wrapped[id(provider)] = Custom(provider)  # type: ignore[arg-type]
            return known
        raise _no_provider(provider)

    def govern(self, policies: Policies) -> None:
        """Go by these policies from now on; what is known about the providers is kept."""
        self.policies = policies
        self.pool.govern(policies)

    def forget_unused(self) -> None:
        """Let go of providers of the user's that were replaced."""
        used = set(self.pool.targets())
        self._wrapped = {key: known for key, known in self._wrapped.items() if known in used}

    def flattened(self, routes: object) -> list[Target]:
        """All providers in nested lists or mappings of them."""
        if isinstance(routes, HttpProvider | Custom):
            return [routes]
        inner = cast(Mapping[str, object], routes).values() if isinstance(routes, Mapping) else routes
        return [target for part in cast(Iterable[object], inner) for target in self.flattened(part)]

    def _route(self, name: str) -> _Route:
        """What calls need to know of a route, gathered once."""
        known, targets = self._routes.get(name), self.pool.targets(name)
        if known is None or known.targets is not targets:
            known = self._routes[name] = _Route(targets)
        return known

    def first(self, route: str) -> Target | None:
        """The provider a call will probably go to."""
        targets = self._route(route).targets
        return targets[0] if targets else None

    def other_spaces(self, ask: Ask) -> Ask:
        """The same ask of embeddings: nobody may serve it whose vectors do not mix with the first suitable
        provider's."""
        reasons = dict(ask.unsuitable)
        first: Target | None = None
        for target in self.pool.targets(ask.route):
            if target.id in reasons:
                continue
            if not target.embeds:
                reasons[target.id] = "offers no embeddings"
            elif first is None:
                first = target
            elif first.embedding_space is None or target.embedding_space != first.embedding_space:
                reasons[target.id] = f"its vectors do not mix with those of {first.id}: another embedding_space"
        return ask._replace(unsuitable=reasons)

    # --- calls ---

    def needs(self, request: ChatRequest, options: CallOptions) -> Needs:
        """What a call needs of a provider.  Raises ``InvalidRequest`` for a policy that is none."""
        policy: object = options.get("on_unsupported")
        try:
            if policy is None:
                return needs(request, self.on_unsupported)
            return needs(request, checked_policy(policy))
        except ConfigurationError as error:
            raise InvalidRequest(str(error)) from None

    def ask(
        self, options: CallOptions, *, streaming: bool, tokens: int, max_tokens: int | None, needs: Needs = NO_NEEDS
    ) -> Ask:
        """What a new call asks of the pool.  Raises ``InvalidRequest`` for options that make no sense."""
        route = options.get("route")
        names = self.pool.route_names
        if route is not None and route not in names:
            raise InvalidRequest(f"there is no route {route!r}; there are {', '.join(names)}")
        route = route or names[0]
        allowance = seconds(options["deadline"]) if "deadline" in options else self.allowance
        return Ask(
            route,
            self.clock() + allowance if allowance < math.inf else math.inf,
            streaming,
            tokens,
            max_tokens or 4096,
            self._unsuitable(route, options, (max_tokens or 0) + tokens, needs),
            options.get("conversation"),
            options.get("idempotent", True),
            options.get("when_down", "wait"),
            batch=options.get("priority") == "batch",
            tenant=options.get("tenant"),
        )

    def begin(self, ask: Ask, options: CallOptions) -> Call[Target]:
        """The state machine of a new call."""
        if not options.get("record"):
            return Call(self.pool, ask, self.clock())
        made: type[RecordedCall[Target]] = imported("resilient_llm.record.recorder").RecordedCall
        call = made(self.pool, ask, self.clock(), self.call_id)
        _recorded.set((self, call))
        return call

    def call_id(self, number: int) -> str:
        """What a call is called in logs, spans and records."""
        return f"{self.token}-{number:x}"

    def last_record(self) -> DecisionRecord | None:
        """Of the latest call of this thread or task that was recorded, if it was a call of this pool."""
        owner, call = _recorded.get() or (None, None)
        return call.record if call is not None and owner is self else None

    def _unsuitable(self, route: str, options: CallOptions, tokens: int, needs: Needs) -> dict[str, str]:
        """Who cannot serve this call whatever their health, and why."""
        known = self._route(route)
        if not (known.particular or needs.features) and _CHOOSING.isdisjoint(options):
            return {}
        if "tags" in options and "require" in options:
            raise InvalidRequest("tags= and require= mean the same; give one of them")
        named = "tags" if "tags" in options else "require"
        only, tags = options.get("providers"), options.get("tags", options.get("require"))
        allowed = None if only is None else ids("providers", only)
        require = frozenset[str]() if tags is None else ids(named, tags)
        targets = known.targets
        unknown = (allowed or frozenset()) - {target.id for target in targets}
        if unknown:
            has = ", ".join(target.id for target in targets)
            raise InvalidRequest(f"route {route!r} has no provider {min(unknown)!r}; it has {has}")
        reasons: dict[str, str] = {}
        for target in targets:
            if allowed is not None and target.id not in allowed:
                reasons[target.id] = "not among the providers= of this call"
            elif require and not require <= target.tags:
                reasons[target.id] = f"lacks the tags {', '.join(sorted(require - target.tags))}"
            elif target.context_window is not None and tokens > target.context_window:
                reasons[target.id] = f"about {tokens} tokens do not fit its window of {target.context_window}"
            elif needs.features and isinstance(target, HttpProvider):
                lacking = target.capabilities.lacks(needs)
                if lacking is not None:
                    reasons[target.id] = lacking
        return _keyless(known, reasons) if known.renewable else reasons

    # --- leases ---

    def hold(self, exchange: AnyExchange) -> None:
        """Give the exchange's attempt back should it be dropped without an end."""
        lease = Lease(exchange, self._dropped.append)
        lease.attempt = exchange.attempt
        exchange.lease = lease
        self._leases.add(lease)

    def let_go(self, exchange: AnyExchange) -> None:
        """It has ended."""
        lease, exchange.lease = exchange.lease, None
        if lease is not None:
            self._leases.discard(lease)

    def settle(self) -> None:
        """Give back what was dropped."""
        while self._dropped:
            try:
                lease = self._dropped.popleft()
            except IndexError:  # another thread took the last one
                return
            self._leases.discard(lease)
            self.pool.abandon_later(lease.attempt)

    # --- what happened ---

    def deliver(self) -> None:
        """Hand what happened to the observer and the listeners; one that raises is logged and otherwise ignored."""
        if self._dropped:
            self.settle()
        for event in self.pool.take_events():
            self.observer.event(event)
            for listener in self.listeners:
                try:
                    listener(event)
                except Exception:
                    complain("a listener failed on %s", type(event).__name__)

    def reset_after_fork(self) -> None:
        """In the child process."""
        self.token = os.urandom(8).hex()
        self.pool.reset_after_fork()
