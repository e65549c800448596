"""A secret that is fetched when it is needed, kept for a time, and never shown.

::

    nothing yet --ask--> fetching --ok--> held --ttl--> held, fetching again --ok--> held
                              \\--error--> failed (asked again after 1, 2, 4 ... 60 s; the last value stays in use)
    held --refused by a provider--> fetched at once; this provider does not use it for a minute unless it changes

State is kept under a lock that is held for no I/O.
"""

from __future__ import annotations

import hashlib
import inspect
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.secrets.reference import Reference
from resilient_llm.operate.secrets.stores import AT_ONCE, STORES, NotThere, Store, answers_at_once
from resilient_llm.providers.credentials import KeyUnavailable

TTL: Final = 300.0
"""Seconds a secret is used before it is fetched again, in the background.  Rotated keys stay valid for longer."""
PATIENCE: Final = 10.0
"""Seconds a call waits for the first answer of a store if no other provider can be asked."""
REFUSED: Final = 60.0
"""Seconds in which a provider does not use a value again that it refused, doubling up to an hour while it does."""
_LEAST_AGAIN, _MOST_AGAIN = 0.25, 1.0
"""Seconds that a call waits for another value than one that was refused: twice as long as the last one took to fetch,
within these bounds, for somebody else may answer the call meanwhile."""
_BACKOFF_BASE, _BACKOFF_CAP, _REFUSED_CAP = 1.0, 60.0, 3600.0
_RENEWED = 5.0  # seconds between two looks for another value than one that was refused

_log = logging.getLogger("resilient_llm.operate")


def _digest(reference: Reference) -> str:
    told = f"{reference.store}:{reference.path}"  # of a plain one that is the value
    return hashlib.blake2b(told.encode(), digest_size=8, person=b"resilient_llm").hexdigest()


class Held:
    """What a store said last, for everybody who uses the secret."""

    def __init__(self, reference: Reference, ttl: float, fetch: Store | None, clock: Callable[[], float]) -> None:
        self.reference: Reference = reference
        self.clock: Callable[[], float] = clock
        self.changed: threading.Condition = threading.Condition()
        self.value: str | None = None
        self.error: str = ""
        """Why the last attempt to fetch it failed; empty: it did not, or there was none."""
        self._fetch: Store = fetch or STORES[reference.store]
        self._at_once = fetch is None and reference.store in AT_ONCE
        self._ttl = ttl
        self._thread: threading.Thread | None = None
        self._errors = 0
        self._took = 0.0
        self._stale_at = self._again_at = self._hurry_at = 0.0
        tell_after_fork(self)

    @property
    def fetching(self) -> bool:
        """Whether it is being fetched."""
        thread = self._thread
        return thread is not None and thread.is_alive()  # in a forked child it is not

    @property
    def patience(self) -> float:
        """Seconds that a call waits for what is being fetched."""
        return PATIENCE if self.value is None else min(max(_LEAST_AGAIN, 2.0 * self._took), _MOST_AGAIN)

    def look(self) -> None:
        """Fetch what is due: here if that takes no time, else in a thread of its own."""
        if self.value is not None and self.clock() < self._stale_at:  # the common case needs no lock
            return
        with self.changed:
            now = self.clock()
            if self.fetching or now < self._again_at or (self.value is not None and now < self._stale_at):
                return
            if not self._at_once or not answers_at_once(self.reference):
                self._begin(now)
                return
        self._work()

    def hurry(self, refused: str) -> None:
        """A provider refused this value: fetch it again now, but not every time one does."""
        with self.changed:
            now = self.clock()
            if refused == self.value and now >= self._hurry_at:
                self._hurry_at = now + _RENEWED
                self._stale_at = self._again_at = now
        self.look()

    def _begin(self, now: float) -> None:
        self._thread = threading.Thread(target=self._work, name="resilient_llm-secret", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread is left on this machine
            self._thread = None
            self._again_at = now + _BACKOFF_BASE

    def _work(self) -> None:
        began = self.clock()
        value, error = _fetched(self._fetch, self.reference)
        with self.changed:
            now = self.clock()
            if value is not None:
                self._took = now - began
                self.value, self.error, self._errors = value, "", 0
                self._stale_at = self._again_at = now + self._ttl
            else:
                if not self._errors:
                    _log.warning("the secret %s could not be fetched: %s", self.reference, error)
                self.error = error
                self._errors += 1
                self._again_at = now + (0.0 if self._at_once else doubling(_BACKOFF_BASE, self._errors, _BACKOFF_CAP))
            self._thread = None
            self.changed.notify_all()

    def reset_after_fork(self) -> None:
        """In the child process, where no thread fetches."""
        self.changed = threading.Condition()
        self._thread = None


class Secret:
    """The current value of a secret; give it to a provider as ``api_key=`` or ``token=``.

    Calling it returns the value at once if there is one, an outdated one too: it is replaced in the background.  Before
    the first answer of its store, calling it waits up to :data:`PATIENCE` seconds, and where the value was refused a
    second at most; it raises ``KeyUnavailable`` if there is none then, or the last attempt to fetch it failed.  Safe
    for threads and forks.
    """

    def __init__(
        self,
        reference: Reference | str,
        *,
        ttl: float = TTL,
        fetch: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
        held: Held | None = None,
    ) -> None:
        """``fetch`` asks the store (``None``: the one that the reference names).  ``held``: share what was fetched with
        others; each provider has a ``Secret`` of its own, because one may refuse what another one takes.  Raises
        ``ConfigurationError`` for a reference that is none."""
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl > 0:
            raise ConfigurationError(f"ttl must be a number of seconds above 0, not {ttl!r}")
        self.reference: Reference = reference
        self._held = held or Held(reference, ttl, fetch, clock)
        self._account = f"secret-{_digest(self.reference)}"
        if fetch is not None:
            named: object = getattr(fetch, "account", None)
            self._account = named if isinstance(named, str) and named else f"callable-{id(self._held)}"
        self._refused: str | None = None
        self._refusals = 0
        self._usable_at = 0.0

    @property
    def title(self) -> str:
        """What errors call it: by its reference, never by its value."""
        return f"the secret {self.reference}"

    @property
    def account(self) -> str:
        """Tells accounts apart: providers that use the same secret at the same host share its quota.  The same in
        every process that names it alike, unless it is fetched by a function of the user's."""
        return self._account

    def __call__(self) -> str:
        """The value now.  Raises ``KeyUnavailable`` if there is none, which says why."""
        held = self._looked()
        with held.changed:
            if self._usable() is None and held.fetching and not held.error:
                held.changed.wait_for(lambda: not held.fetching, held.patience)
            value = self._usable()
        if value is None:
            raise KeyUnavailable(f"{self.reference}: {self.reason()}")
        return value

    def at_hand(self) -> str | None:
        """The value, if there is one.  Never waits; begins to fetch what is due."""
        self._looked()
        return self._usable()

    def missing(self) -> str | None:
        """Why there is no value now; ``None``: there is one.  Never waits; begins to fetch what is due."""
        held = self._looked()
        if self._refused is None and held.value is not None:
            return None
        why = self.reason()
        return f"its key {self.reference}: {why}" if why else None

    def reason(self) -> str:
        """Why there is no value now; empty: there is one.  Fetches nothing."""
        with self._held.changed:
            if self._usable() is not None:
                return ""
            if self._held.value is not None and self._held.fetching:
                return "the provider refused it, and its store has not told another one yet"
            if self._held.value is not None:
                return "the provider refused it, and its store has no other"
            return self._held.error or "its store has not answered yet"

    def wait(self, seconds: float = PATIENCE) -> None:
        """Until what is due is fetched, or has failed, but so many seconds at most."""
        held = self._looked()
        with held.changed:
            held.changed.wait_for(lambda: not held.fetching, seconds)

    def rejected(self, value: str) -> bool:
        """A provider refused this value: fetch it again at once.  Whether another one may come of that; not of values
        refused before."""
        held = self._held
        with held.changed:
            if value != held.value:
                return held.value is not None  # it has been replaced meanwhile
            if self._is_refused():
                return False
            self._refusals = self._refusals + 1 if value == self._refused else 1
            self._refused = value
            self._usable_at = held.clock() + doubling(REFUSED, self._refusals, _REFUSED_CAP)
        held.hurry(value)
        return True

    def _looked(self) -> Held:
        held, refused = self._held, self._refused
        if refused is not None and held.value == refused:
            held.hurry(refused)
        else:
            held.look()
        return held

    def _usable(self) -> str | None:
        return None if self._is_refused() else self._held.value

    def _is_refused(self) -> bool:
        held = self._held
        return self._refused is not None and held.value == self._refused and held.clock() < self._usable_at

    def __repr__(self) -> str:
        return f"<Secret {self.reference}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not pickled; make one in each process")


def doubling(base: float, times: int, cap: float) -> float:
    """``base`` seconds, doubled each time, up to ``cap``."""
    return min(base * 2.0 ** min(times - 1, 30), cap)


def secret(source: str | Callable[[], str], *, ttl: float = TTL) -> Secret:
    """The secret that a reference names, ``env:NAME`` say, or that a function returns; ``ttl``: seconds before it is
    fetched again.

    Nothing is fetched before it is needed.  A function is asked in a thread of its own, and may have an attribute
    ``account`` that tells other processes which account it is.  Raises ``ConfigurationError`` for a text that is no
    reference, without showing it, and for an async function, which an event loop has to ask: give that as ``api_key=``.
    """
    if isinstance(source, str):
        return Secret(source, ttl=ttl)
    if not callable(source) or inspect.iscoroutinefunction(source):
        what = getattr(source, "__qualname__", type(source).__name__)
        raise ConfigurationError(f"a secret is a reference like env:NAME, or a function that is not async, not {what}")
    name = str(getattr(source, "__qualname__", type(source).__name__))
    return Secret(Reference("function", name), ttl=ttl, fetch=_Function(source))


class _Function:
    """A function of the user's as a store."""

    def __init__(self, function: Callable[[], str]) -> None:
        self._function = function
        self.account: object = getattr(function, "account", None)

    def __call__(self, reference: Reference) -> str:
        return self._function()


def _fetched(fetch: Store, reference: Reference) -> tuple[str | None, str]:
    """The value, or why there is none, in words that show nothing of it: exceptions of libraries by their type."""
    try:
        value: object = fetch(reference)
    except (NotThere, ConfigurationError) as error:
        return None, str(error)
    except Exception as error:
        return None, f"its store failed with {type(error).__name__}"
    if not isinstance(value, str) or not value.strip():
        return None, "it is empty" if isinstance(value, str) else f"it is a {type(value).__name__}"
    text = value.strip()
    if not text.isascii() or not text.isprintable():
        return None, "it is not printable ASCII text"
    return text, ""
