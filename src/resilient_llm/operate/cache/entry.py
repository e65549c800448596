"""What is kept, under which name, and what it is good for."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, TypeAlias, cast, get_args

from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, Degradation, FinishReason, Message, Usage
from resilient_llm.options import ChatOptions

Only: TypeAlias = Literal["deterministic", "all"] | Callable[[ChatRequest], bool]
"""Which requests are kept: those with ``temperature=0``, all, or those for which a function says so."""

_VERSION: Final = 1
_MOST_BYTES: Final = 8 * 1024 * 1024
_FINISHED: Final = frozenset({"stop", "tool_calls"})
"""How an answer must have ended to be kept: not cut off, filtered or failed."""
_COUNTS: Final = (
    "input_tokens",
    "output_tokens",
    "cache_read_tokens",
    "cache_write_tokens",
    "reasoning_tokens",
    "total_tokens",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caching:
    """How long answers are good, and which.

    ``ttl`` is for how many seconds an answer stands for the same call again (3600); ``stale_if_down`` for how many
    more it stands in when no provider answers (86,400; 0: never).  ``only`` says which requests (see :data:`Only`).
    ``store_timeout`` is how many seconds a store may take to answer (0.05): a call waits no longer than its answers
    took lately and a millisecond more, and one that was silent for so long or failed is left alone for a second,
    doubling to a minute.

    Raises ``ConfigurationError`` for values that make no sense.
    """

    ttl: float = 3600.0
    stale_if_down: float = 86_400.0
    only: Only = "deterministic"
    store_timeout: float = 0.05

    def __post_init__(self) -> None:
        for name, least in (("ttl", 0.0), ("stale_if_down", 0.0), ("store_timeout", 0.001)):
            value: object = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value < math.inf:
                raise ConfigurationError(f"Caching.{name} must be a number of seconds from {least:g} on, not {value!r}")
        if self.only not in ("deterministic", "all") and not callable(self.only):
            raise ConfigurationError(f"Caching.only must be 'deterministic', 'all' or a function, not {self.only!r}")

    def keeps(self, request: ChatRequest, options: ChatOptions) -> bool:
        """Whether this call's answer may be kept, and stand for other calls."""
        if not options.get("idempotent", True) or options.get("record") or (request.n or 1) > 1 or request.logprobs:
            return False
        if callable(self.only):
            return bool(self.only(request))
        return self.only == "all" or request.temperature == 0


@dataclass(frozen=True, slots=True)
class Stats:
    """What became of calls: ``hits`` were answered from the cache, ``shared`` with the answer to an identical call
    that was under way, ``stale`` with an old one while no provider answered, ``misses`` by a provider; ``bypassed``
    were none that are kept.  ``store_failures`` are reads and writes that failed or came too late."""

    hits: int = 0
    shared: int = 0
    stale: int = 0
    misses: int = 0
    bypassed: int = 0
    store_failures: int = 0


class Entry(NamedTuple):
    """An answer that was kept, and when (wall-clock seconds)."""

    at: float
    response: ChatResponse

    def served(self, now: float, why: str) -> ChatResponse:
        """The answer as a new object that says where it came from."""
        told = Degradation("cache", f"{why}, {max(0.0, now - self.at):.0f} s old")
        return replace(self.response, degradations=(*self.response.degradations, told))


def name_of(pool: ProviderPool, request: ChatRequest, options: ChatOptions) -> str:
    """The name of an answer: the same for calls that ask the same of the same models."""
    route = options.get("route") or pool.pool.route_names[0]
    models = [(target.id, target.model) for target in pool.pool.targets(route)]
    tags = options.get("tags", options.get("require"))
    chosen = sorted(options.get("providers") or ()), sorted(tags or ())
    asked = replace(request, idempotency_key=None, cache_key=None, stream=False)
    text = repr((_VERSION, route, models, chosen, options.get("on_unsupported"), asked))
    return "resilient_llm:" + hashlib.sha256(text.encode()).hexdigest()


def worth_keeping(response: ChatResponse) -> bool:
    """Whether an answer is whole, and nothing was left out to get it."""
    return response.finish_reason in _FINISHED and not response.alternatives and not response.degradations


def packed(response: ChatResponse, now: float) -> bytes | None:
    """An answer as JSON; ``None`` for one that cannot be written.  ``raw``, ``extra`` and the trail are left out."""
    usage = response.usage
    told: dict[str, object] = {
        "version": _VERSION,
        "at": now,
        "provider": response.provider,
        "model": response.model,
        "id": response.id,
        "created": response.created,
        "finish_reason": response.finish_reason,
        "usage": None if usage is None else [getattr(usage, name) for name in _COUNTS],
        "message": Message("assistant", response.parts).to_dict(),
    }
    try:
        return json.dumps(told, separators=(",", ":")).encode()
    except (TypeError, ValueError):
        return None


def unpacked(value: object, now: float) -> Entry | None:
    """What :func:`packed` made; ``None`` for anything else, whoever wrote it."""
    if isinstance(value, str):
        value = value.encode()
    if not isinstance(value, bytes) or len(value) > _MOST_BYTES:
        return None
    try:
        told: object = json.loads(value)
        return _entry(cast("Mapping[str, Any]", told), now) if isinstance(told, dict) else None
    except (ValueError, TypeError, KeyError, RecursionError):
        return None


def _entry(told: Mapping[str, Any], now: float) -> Entry | None:
    at, reason, usage = told["at"], told["finish_reason"], told["usage"]
    texts = [told[name] for name in ("provider", "model", "id")]
    whole = isinstance(at, int | float) and 0 < at <= now + 3600 and all(isinstance(text, str) for text in texts)
    if told["version"] != _VERSION or not whole or reason not in get_args(FinishReason):
        return None
    if usage is not None and not (len(usage) == len(_COUNTS) and all(type(one) is int and one >= 0 for one in usage)):
        return None
    created = told["created"] if isinstance(told["created"], int) else None
    counted = None if usage is None else Usage(**dict(zip(_COUNTS, usage, strict=True)))
    parts = Message.from_dict(told["message"]).parts
    provider, model, name = texts
    response = ChatResponse(parts, reason, None, counted, name, model, created, provider=provider)
    return Entry(float(at), response)
