"""What a call asks of the pool."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

_NOBODY: Final[Mapping[str, str]] = MappingProxyType({})
_NO_TOLLS: Final[Mapping[str, float]] = MappingProxyType({})


class Ask(NamedTuple):
    """What one call wants.

    ``deadline`` is absolute monotonic time (``math.inf``: none).  ``tokens`` is the estimated prompt length,
    ``max_tokens`` the longest answer; ``unsuitable`` names the providers that must not serve this call and why, which
    nothing overrides.  ``repeatable=False``: it may have effects, so nothing runs beside it, it is no trial, and it is
    not repeated once it may have reached a provider.  ``when_down="fail"``: it does not wait while every provider is
    down.  ``tolls``: the seconds by which an answer of each provider counts as later; among equals that are well the
    one whose answer then comes soonest is taken, instead of being drawn (empty: drawn).  ``batch``: it yields to calls
    that are not.  Calls of one ``tenant`` are served in turn with those of others (``None`` is one of them).
    """

    route: str
    deadline: float = math.inf
    streaming: bool = False
    tokens: int = 0
    max_tokens: int = 4096
    unsuitable: Mapping[str, str] = _NOBODY
    conversation: str | None = None
    repeatable: bool = True
    when_down: Literal["wait", "fail"] = "wait"
    tolls: Mapping[str, float] = _NO_TOLLS
    batch: bool = False
    tenant: str | None = None

    @property
    def hedged(self) -> bool:
        """Whether another attempt may run beside one of its own."""
        return self.repeatable and not self.batch
