"""A secret that is fetched when it is needed, kept for a time, and never shown.

State, all of it under a lock that is held for no I/O::

    nothing yet --ask--> fetching --ok--> held --ttl--> held, fetching again --ok--> held
                              \\--error--> failed (asked again after 1, 2, 4 ... 60 s; the last value stays in use)
    held --refused by a provider--> fetched at once; not used for REFUSED seconds unless another value comes
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, NoReturn

from resilient_llm.drive.fork import tell_after_fork
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.secrets.reference import Reference
from resilient_llm.operate.secrets.stores import AT_ONCE, STORES, NotThere, Store
from resilient_llm.providers.credentials import KeyUnavailable

TTL: Final = 300.0
"""Seconds a secret is used before it is fetched again, in the background.  Rotated keys stay valid for longer."""
PATIENCE: Final = 10.0
"""Seconds a call waits for the first answer of a store if no other provider can be asked."""
REFUSED: Final = 60.0
"""Seconds in which a value that a provider refused is not used again, doubling up to an hour while it is refused."""
_BACKOFF_BASE, _BACKOFF_CAP, _REFUSED_CAP = 1.0, 60.0, 3600.0
_RENEWED = 5.0  # seconds between two looks for another value than the one that was refused

_log = logging.getLogger("resilient_llm.operate")


class Secret:
    """The current value of a secret; give it to a provider as ``api_key=`` or ``token=``.

    Calling it returns the value at once if there is one, an outdated one too: it is replaced in the background.  Before
    the first answer of its store, calling it waits up to :data:`PATIENCE` seconds; it raises ``KeyUnavailable`` if
    there is none then, or the last attempt to fetch it failed.  Safe for threads and forks.
    """

    def __init__(
        self,
        reference: Reference | str,
        *,
        ttl: float = TTL,
        fetch: Store | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``fetch`` asks the store (``None``: the one that the reference names).  Raises ``ConfigurationError`` for a
        reference that is none."""
        if isinstance(reference, str):
            reference = Reference.parse(reference)
        if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not ttl > 0:
            raise ConfigurationError(f"ttl must be a number of seconds above 0, not {ttl!r}")
        self.reference: Reference = reference
        self._fetch: Store = fetch or STORES[reference.store]
        self._at_once = fetch is None and reference.store in AT_ONCE
        self._ttl = ttl
        self._clock = clock
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._value: str | None = None
        self._stale_at = 0.0
        self._error: str = ""
        self._errors = 0
        self._again_at = 0.0
        self._refused: str | None = None
        self._refusals = 0
        self._usable_at = 0.0
        tell_after_fork(self)

    # --- what providers use ---

    def __call__(self) -> str:
        """The value now.  Raises ``KeyUnavailable`` if there is none, which says why."""
        self._look()
        with self._changed:
            if self._usable() is None and self._fetching() and not self._errors:
                self._changed.wait_for(lambda: not self._fetching() or self._usable() is not None, PATIENCE)
            value = self._usable()
            if value is not None:
                return value
            raise KeyUnavailable(f"{self.reference}: {self._reason()}")

    def at_hand(self) -> str | None:
        """The value, if there is one.  Never waits; begins to fetch what is due."""
        self._look()
        with self._changed:
            return self._usable()

    def missing(self) -> str | None:
        """Why there is no value now; ``None``: there is one.  Never waits; begins to fetch what is due."""
        self._look()
        with self._changed:
            return None if self._usable() is not None else f"its key {self.reference}: {self._reason()}"

    def reason(self) -> str:
        """Why there is no value now; empty: there is one.  Fetches nothing."""
        with self._changed:
            return "" if self._usable() is not None else self._reason()

    def wait(self, seconds: float = PATIENCE) -> None:
        """Until what is due is fetched, or has failed, but so many seconds at most."""
        self._look()
        with self._changed:
            self._changed.wait_for(lambda: not self._fetching(), seconds)

    def rejected(self, value: str) -> bool:
        """A provider refused this value: fetch it again at once.  Whether another one may come of that; not of values
        refused before."""
        with self._changed:
            if value != self._value:
                return self._value is not None  # it has been replaced meanwhile
            if value == self._refused and self._clock() < self._usable_at:
                return False
            self._refusals = self._refusals + 1 if value == self._refused else 1
            self._refused = value
            self._usable_at = self._clock() + min(REFUSED * 2.0 ** (self._refusals - 1), _REFUSED_CAP)
            self._stale_at = self._again_at = self._clock()
            self._errors = 0
        self._look()
        return True

    # --- internals ---

    def _look(self) -> None:
        """Fetch what is due: here if that takes no time, else in a thread of its own."""
        with self._changed:
            now = self._clock()
            if self._fetching() or now < self._again_at or (self._value is not None and now < self._stale_at):
                return
            if not self._at_once:
                self._begin(now)
                return
        self._work()

    def _begin(self, now: float) -> None:
        self._thread = threading.Thread(target=self._work, name="resilient_llm-secret", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no thread is left on this machine
            self._thread = None
            self._again_at = now + _BACKOFF_BASE

    def _fetching(self) -> bool:
        thread = self._thread
        return thread is not None and thread.is_alive()  # in a forked child it is not

    def _work(self) -> None:
        value, error = _fetched(self._fetch, self.reference)
        with self._changed:
            now = self._clock()
            if value is not None:
                renewed = value != self._refused
                if renewed:
                    self._refused, self._refusals = None, 0
                self._value, self._error, self._errors = value, "", 0
                self._stale_at = self._again_at = now + (self._ttl if renewed else min(self._ttl, _RENEWED))
            else:
                if not self._errors:
                    _log.warning("the secret %s could not be fetched: %s", self.reference, error)
                self._error = error
                self._errors += 1
                pause = min(_BACKOFF_BASE * 2.0 ** (self._errors - 1), _BACKOFF_CAP)
                self._again_at = now + (0.0 if self._at_once else pause)
            self._thread = None
            self._changed.notify_all()

    def _usable(self) -> str | None:
        refused = self._value == self._refused and self._clock() < self._usable_at
        return None if refused else self._value

    def _reason(self) -> str:
        if self._value is not None:
            return "the provider refused it, and its store has no other"
        if self._errors:
            return self._error
        return "its store has not answered yet"

    def reset_after_fork(self) -> None:
        """In the child process, where no thread fetches."""
        self._changed = threading.Condition()
        self._thread = None

    def __repr__(self) -> str:
        return f"<Secret {self.reference}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} is not pickled; make one in each process")


def secret(reference: str, *, ttl: float = TTL) -> Secret:
    """The secret that a reference names, ``env:NAME`` say; ``ttl``: seconds before it is fetched again.

    Nothing is fetched before it is needed.  Raises ``ConfigurationError`` for a text that is no reference, without
    showing it.
    """
    return Secret(reference, ttl=ttl)


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
