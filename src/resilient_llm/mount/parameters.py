"""Parameters in the URL of an SDK's request: which of them a provider may be told."""

from __future__ import annotations

import re
from typing import Any

CREDENTIALS = frozenset({"key", "api_key", "api-key", "access_token"})
"""Parameters that may hold the caller's credential."""
_WORDS = re.compile(r"[^a-z0-9]+")
_SECRET = frozenset(
    {
        "apikey",
        "auth",
        "authorization",
        "credential",
        "key",
        "passwd",
        "password",
        "secret",
        "sig",
        "signature",
        "token",
    }
)
"""Words in the names of parameters that may hold one."""
_PROVIDERS = frozenset({"alt", "api-version"})
"""Parameters that a provider sets itself, going by its own settings."""
Pairs = tuple[tuple[str, str], ...]


def of_call(url: Any) -> tuple[Pairs, tuple[str, ...]]:
    """The parameters of a model call that go on to providers of its wire, and the names of those that go to nobody
    because they may hold a credential.  What a provider sets itself is in neither."""
    if not url.query:  # nearly always
        return (), ()
    given = [(name, value) for name, value in url.params.multi_items() if name not in _PROVIDERS]
    held = tuple(name for name, _ in given if not _SECRET.isdisjoint(_WORDS.split(name.lower())))
    return tuple((name, value) for name, value in given if name not in held), held
