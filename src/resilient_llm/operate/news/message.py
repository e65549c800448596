"""What one process tells the others, as bytes; whatever else arrives is no news."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, cast, get_args

Kind: TypeAlias = Literal["failing", "limited", "refused", "well"]
"""``failing``: its breaker is open; ``limited``: it asked to wait; ``refused``: quota or key; ``well``: it is over."""

_KINDS: Final = frozenset(get_args(Kind))
_VERSION: Final = 1
_LONGEST: Final = 400  # bytes of a message; ours have about 120


@dataclass(frozen=True, slots=True)
class News:
    """``seconds`` for which ``sender`` leaves the provider alone, counted from when it said so."""

    sender: str
    subject: str
    kind: Kind
    seconds: float

    def encoded(self) -> bytes:
        """As it travels."""
        facts = {"v": _VERSION, "from": self.sender, "of": self.subject, "is": self.kind, "s": round(self.seconds, 3)}
        return json.dumps(facts, separators=(",", ":"), allow_nan=False).encode()


def decoded(data: object) -> News | None:
    """What these bytes say; ``None`` for anything that is no news of this version."""
    if not isinstance(data, bytes) or len(data) > _LONGEST:
        return None
    try:
        found: object = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    facts = cast(dict[str, object], found)
    sender, subject, kind, seconds = (facts.get(name) for name in ("from", "of", "is", "s"))
    if facts.get("v") != _VERSION or not isinstance(sender, str) or not isinstance(subject, str):
        return None
    if kind not in _KINDS or isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not math.isfinite(seconds) or seconds < 0.0:
        return None
    return News(sender, subject, cast(Kind, kind), float(seconds))


def subject(*facts: object) -> str:
    """Names a provider to those who have the same one, and tells nobody else anything: a hash of what it is."""
    told = "\0".join(str(fact) for fact in facts)
    return hashlib.blake2b(told.encode(), digest_size=12, person=b"resilient_news").hexdigest()


def named_alike(account: str | None) -> bool:
    """Whether other processes know this account by the same name; that of a function's key is this process's own."""
    return account is not None and "/callable-" not in account


def account_elsewhere(account: str | None, number: int) -> str:
    """What others know an account by: its name, or the place of its key among the provider's."""
    return account if account is not None and named_alike(account) else f"key {number}"
