"""What tokens cost: a table the user gives, or the dated sample that comes with the package."""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib.resources import files
from pathlib import Path
from typing import Final, cast

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import Usage

_MILLION: Final = 1_000_000.0
_FIELDS: Final = frozenset({"input", "output", "cached_input", "cache_write"})
_FREE: Final = frozenset({"ollama", "vllm", "llama_cpp", "hf_tgi"})
"""Vendors that are servers of the user's own: no price a token."""
_VERSION: Final = re.compile(r"(?:[-@:]v?\d|[-@:](?:latest|preview|exp)\b).*")
"""What may follow a name that stands for its versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What a model costs, per million tokens, in the table's currency.

    ``cached_input``: input tokens that came from the vendor's prompt cache; ``cache_write``: those written to it;
    ``None``: like other input.  Raises ``ConfigurationError`` for a price that is no number from 0 on.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cached_input", "cache_write"):
            value: object = getattr(self, name)
            if value is None and name not in ("input", "output"):
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigurationError(f"Price.{name} must be a number from 0 on, not {value!r}")

    def of(self, usage: Usage) -> float:
        """What this usage costs."""
        read, written = usage.cache_read_tokens, usage.cache_write_tokens
        fresh = max(0, usage.input_tokens - read - written)
        total = fresh * self.input + usage.output_tokens * self.output
        total += read * (self.input if self.cached_input is None else self.cached_input)
        total += written * (self.input if self.cache_write is None else self.cache_write)
        return total / _MILLION

    def at_most(self, input_tokens: float, output_tokens: float) -> float:
        """The most that a request of so many tokens can cost, whatever the vendor's cache does."""
        dearest = max(self.input, self.cached_input or 0.0, self.cache_write or 0.0)
        return (input_tokens * dearest + output_tokens * self.output) / _MILLION


_NOTHING: Final = Price(input=0.0, output=0.0)


class Prices:
    """Prices by model name, or by a provider's id where the same model costs differently there.

    A name also stands for its versions: ``"gpt-5.2"`` for ``"gpt-5.2-2025-12-11"``, ``"claude-sonnet"`` for
    ``"us.anthropic.claude-sonnet-5-v1:0"``; the longest name that fits counts.  ``as_of`` is when they were looked up
    (``None``: unknown).

    Raises ``ConfigurationError`` for a table that is none.
    """

    def __init__(
        self, models: Mapping[str, Price | Mapping[str, float]], *, as_of: date | None = None, currency: str = "USD"
    ) -> None:
        self._models: dict[str, Price] = {name: _price(name, one) for name, one in models.items()}
        self.as_of: date | None = as_of
        self.currency: str = currency
        self._found: dict[tuple[str, str, str], Price | None] = {}

    def find(self, provider: str, vendor: str, model: str) -> Price | None:
        """The price of a model at a provider; ``None`` if the table has none.  Servers of the user's own (Ollama, vLLM,
        llama.cpp, TGI) cost nothing unless the table says otherwise."""
        key = (provider, vendor, model)
        if key not in self._found:
            if len(self._found) > 1000:
                self._found.clear()
            self._found[key] = (
                self._models.get(provider) or self._named(model) or (_NOTHING if vendor in _FREE else None)
            )
        return self._found[key]

    def _named(self, model: str) -> Price | None:
        for name in _spellings(model.lower()):
            fitting = [known for known in self._models if _stands_for(known, name)]
            if fitting:
                return self._models[max(fitting, key=len)]
        return None

    def __len__(self) -> int:
        return len(self._models)

    def __repr__(self) -> str:
        return f"<Prices of {len(self)} models in {self.currency} as of {self.as_of or 'an unknown day'}>"


def _spellings(model: str) -> list[str]:
    """A model's name, and what is left of it without publisher, region and path."""
    found = [model]
    for mark in ("/", "."):
        rest = model
        while mark in rest:
            rest = rest.partition(mark)[2]
            found.append(rest)
    return found


def _stands_for(known: str, name: str) -> bool:
    return name.startswith(known) and (len(known) == len(name) or _VERSION.fullmatch(name, len(known)) is not None)


def _price(name: str, told: object) -> Price:
    if isinstance(told, Price):
        return told
    if not isinstance(told, Mapping):
        raise ConfigurationError(f"the price of {name!r} must be a Price or a table of input and output, not {told!r}")
    fields = cast("Mapping[str, float]", told)
    for field in fields:
        if field not in _FIELDS:
            raise ConfigurationError(f"the price of {name!r} has no {field!r}; it has {', '.join(sorted(_FIELDS))}")
    missing = {"input", "output"} - fields.keys()
    if missing:
        raise ConfigurationError(f"the price of {name!r} needs {min(missing)}")
    try:
        return Price(**fields)
    except ConfigurationError as error:
        raise ConfigurationError(f"the price of {name!r}: {error}") from None


def load_prices(path: str | Path) -> Prices:
    """A price table from a TOML file: ``[models]`` with a table of ``input`` and ``output`` (and, where they differ,
    ``cached_input`` and ``cache_write``) per model, per million tokens; ``as_of`` and ``currency`` beside it.

    Raises ``ConfigurationError`` for a file that makes no sense, ``OSError`` for one that cannot be read.
    """
    return _read(Path(path).read_text(encoding="utf-8"), str(path))


def sample_prices() -> Prices:
    """The list prices that come with the package; ``as_of`` is when they were looked up.  A start, not a bill."""
    return _read(
        files("resilient_llm.operate.cost").joinpath("sample_prices.toml").read_text(encoding="utf-8"), "the sample"
    )


def _read(text: str, where: str) -> Prices:
    try:
        told = tomllib.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{where} is not TOML: {error}") from None
    models, as_of, currency = told.get("models"), told.get("as_of"), told.get("currency", "USD")
    if not isinstance(models, dict) or not models:
        raise ConfigurationError(f"{where} needs a table [models] with at least one price")
    if not isinstance(as_of, date | None):
        raise ConfigurationError(f"{where}: as_of must be a date like 2026-06-30, not {as_of!r}")
    if not isinstance(currency, str):
        raise ConfigurationError(f"{where}: currency must be text, not {currency!r}")
    return Prices(cast("dict[str, Mapping[str, float]]", models), as_of=as_of, currency=currency)
