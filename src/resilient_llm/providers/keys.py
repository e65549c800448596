"""Several keys of one provider."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, NoReturn, TypeAlias, Unpack, cast

from resilient_llm.errors import ConfigurationError
from resilient_llm.policy import KeyTerms, Rate
from resilient_llm.providers.credentials import ApiKey, Credential
from resilient_llm.providers.rates import RATES, RateOptions, rates_of

_LEAST_SHOWN = 12  # characters that a key has of which four may be shown


class Key:
    """One key of ``api_keys=``, with limits of its own: ``Key("sk-...", requests_per_minute=500)``.

    ``api_key`` is as for a provider; the limits are the provider's keywords of these names, and where none is given the
    provider's hold.  Raises ``ConfigurationError`` for what is neither.
    """

    __slots__ = ("credential", "rates")

    def __init__(self, api_key: ApiKey, **limits: Unpack[RateOptions]) -> None:
        for name in limits:
            if name not in RATES:
                raise ConfigurationError(f"Key has no option {name!r}; it has {', '.join(RATES)}")
        self.credential: Credential = Credential(api_key)
        self.rates: tuple[Rate, ...] = rates_of(limits.get)

    def __repr__(self) -> str:
        return "Key(***)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled; build the provider anew in the other process")


ApiKeys: TypeAlias = Sequence[ApiKey | Key]
"""Keys, functions that return one, and :class:`Key` objects."""


class Held(NamedTuple):
    """One key of a provider: the credential, and its own limits if there are any."""

    credential: Credential
    rates: tuple[Rate, ...] = ()


def keys_of(provider: str, given: ApiKeys, options: frozenset[str]) -> tuple[Held, ...]:
    """The keys of a pool.  Raises ``ConfigurationError`` for what is none, for the same key twice, and beside options
    that make no sense with them."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigurationError(f"{provider}: api_keys must be a list of keys, not a {type(given).__name__}")
    for name in ("api_key", "account"):
        if name in options:
            raise ConfigurationError(f"{provider}: give api_keys= or {name}=, not both")
    found: list[Held] = []
    for number, one in enumerate(cast("Sequence[object]", given)):
        if one is None:
            raise ConfigurationError(f"{provider}: api_keys[{number}] is None")
        held = Held(one.credential, one.rates) if isinstance(one, Key) else Held(Credential(cast(ApiKey, one)))
        if any(held.credential.account == other.credential.account for other in found):
            raise ConfigurationError(f"{provider}: api_keys[{number}] is the same key as one before it")
        found.append(held)
    if not found:
        raise ConfigurationError(f"{provider}: api_keys is empty; give at least one")
    return tuple(found)


def terms_of(held: Sequence[Held], rates: tuple[Rate, ...], accounts: Sequence[str | None], *, ends: bool) -> Terms:
    """What the pool may know of these keys; ``ends``: their last four characters may be shown."""
    return tuple(
        KeyTerms(
            account=account,
            fixed=one.credential.fixed,
            rates=one.rates or rates,
            name=_name(one.credential, number, len(held), ends=ends) if len(held) > 1 else "",
        )
        for number, (one, account) in enumerate(zip(held, accounts, strict=True))
    )


Terms: TypeAlias = tuple[KeyTerms, ...]


def _name(credential: Credential, number: int, count: int, *, ends: bool) -> str:
    value = credential.get() if ends and credential.fixed else None
    end = f" (...{value[-4:]})" if value is not None and len(value) >= _LEAST_SHOWN else ""
    return f"key {number + 1} of {count}{end}"
