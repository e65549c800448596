"""An experiment from a TOML file, with providers of your own or on this machine.

::

    title = "The preferred provider fails"
    duration = 30
    hypothesis = ["success_rate >= 0.99", "p99 <= 2 during after"]
    abort_when = "success_rate < 0.5"

    [traffic]
    rate = 20
    streams = 0.3
    expect = "Hello"            # an answer without this text is wrong

    [client.timeouts]           # settings of the client, as in code
    first_token = 2

    [[providers]]
    kind = "loopback"           # a server on this machine, made for the experiment
    id = "alpha"
    first_token = 0.05

    [[providers]]
    kind = "OpenAI"             # or any class of resilient_llm.providers, with its options
    model = "gpt-5.2"
    tier = 2                    # default: one tier per provider, in the order of the file

    [[faults]]
    provider = "alpha"
    start = 5
    end = 15
    rate = 0.8
    fault = "Status"            # or any mishap, with its fields
    status = 503
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Final, cast

from resilient_llm import providers as vendors
from resilient_llm.chaos.experiment import Experiment, Traffic
from resilient_llm.client import AsyncResilientClient
from resilient_llm.errors import ConfigurationError, FaultKind
from resilient_llm.model import ChatResponse
from resilient_llm.providers.base import HttpProvider
from resilient_llm.testing.faults import MISHAPS, Injection, Mishap
from resilient_llm.testing.loopback import LoopbackLLM
from resilient_llm.testing.script import Reply

# --- what may stand where ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kind:
    """What a value is: in words, how to tell, and what becomes of it."""

    words: str
    fits: Callable[[Any], bool]
    made: Callable[[Any], object] = lambda value: value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def _are(kind: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and all(isinstance(one, kind) for one in cast("list[object]", value))


def _encoded(value: str) -> bytes:
    return value.encode()


_NUMBER = _Kind("a number", _is_number)
_WHOLE = _Kind("a whole number", lambda value: isinstance(value, int) and not isinstance(value, bool))
_TRUTH = _Kind("true or false", lambda value: isinstance(value, bool))
_TEXT = _Kind("a text", lambda value: isinstance(value, str))
_TEXTS = _Kind("a list of texts", _are(str), tuple)
_TEXT_OR_TEXTS = _Kind("a text or a list of texts", lambda value: _TEXT.fits(value) or _TEXTS.fits(value))
_TABLE = _Kind("a table", lambda value: isinstance(value, dict))
_TABLES = _Kind("a list of tables, each under its own [[...]]", _are(dict))
_TEXT_OR_TABLE = _Kind("a text or a table", lambda value: _TEXT.fits(value) or _TABLE.fits(value))
_BYTES = _Kind("a text", _TEXT.fits, _encoded)
_CHUNKS = _Kind("a list of texts", _TEXTS.fits, lambda value: tuple(map(_encoded, value)))
_FAULT_KIND = _Kind(f"one of {', '.join(FaultKind)}", lambda value: value in tuple(FaultKind), FaultKind)

_BY_ANNOTATION: Final[Mapping[str, _Kind]] = {
    "float": _NUMBER,
    "float | None": _NUMBER,
    "int": _WHOLE,
    "bool": _TRUTH,
    "str": _TEXT,
    "str | None": _TEXT,
    "FinishReason | None": _TEXT,
    "Literal['close', 'reset', 'hang', 'keep']": _TEXT,
    "Literal['end', 'close', 'reset']": _TEXT,
    "tuple[str, ...] | None": _TEXTS,
    "tuple[bytes, ...]": _CHUNKS,
    "bytes | None": _BYTES,
    "FaultKind": _FAULT_KIND,
    "Mapping[str, str | None]": _TABLE,
    "Mapping[str, object] | str | bytes | None": _TEXT_OR_TABLE,
}
"""The fields of mishaps that a file can hold; the others are for code."""

_TOP: Final = {
    "title": _TEXT,
    "duration": _NUMBER,
    "hypothesis": _TEXT_OR_TEXTS,
    "abort_when": _TEXT,
    "abort_window": _NUMBER,
    "settle": _NUMBER,
    "seed": _WHOLE,
    "traffic": _TABLE,
    "client": _TABLE,
    "providers": _TABLES,
    "faults": _TABLES,
}
_TRAFFIC: Final = {
    "rate": _NUMBER,
    "prompts": _TEXTS,
    "streams": _NUMBER,
    "max_tokens": _WHOLE,
    "deadline": _NUMBER,
    "max_in_flight": _WHOLE,
    "expect": _TEXT,
}
_PROVIDER: Final = {"kind": _TEXT, "id": _TEXT, "tier": _NUMBER, "model": _TEXT}
_LOOPBACK: Final = {
    "kind": _TEXT,
    "id": _TEXT,
    "tier": _NUMBER,
    "text": _TEXT,
    "first_token": _NUMBER,
    "interval": _NUMBER,
}
_FAULT: Final = {"provider": _TEXT, "start": _NUMBER, "end": _NUMBER, "rate": _NUMBER, "fault": _TEXT}
_MISHAPS: Final[Mapping[str, type]] = {kind.__name__: kind for kind in MISHAPS}


def _checked(
    told: Mapping[str, Any], kinds: Mapping[str, _Kind], where: str, *, others: bool = False
) -> dict[str, Any]:
    """The values of a table, each of its kind.  Raises ``ConfigurationError`` with the name of the first other one."""
    made: dict[str, Any] = dict(told)
    for name, value in told.items():
        kind = kinds.get(name)
        if kind is None and not others:
            raise ConfigurationError(f"{where} has no {name!r}; it has {', '.join(sorted(kinds))}")
        if kind is not None:
            if not kind.fits(value):
                raise ConfigurationError(f"{where}: {name} is {kind.words}, not {value!r}")
            made[name] = kind.made(value)
    return made


def _needed(told: Mapping[str, object], names: tuple[str, ...], where: str) -> None:
    for name in names:
        if told.get(name) in (None, "", [], ()):
            raise ConfigurationError(f"{where} needs {name}")


@contextmanager
def _building(where: str) -> Generator[None]:
    """Every error of making something, as a sentence that says of what."""
    try:
        yield
    except ConfigurationError as error:
        raise error if str(error).startswith(where) else ConfigurationError(f"{where}: {error}") from None
    except (TypeError, ValueError, AttributeError, LookupError) as error:
        raise ConfigurationError(f"{where}: {error}") from None


# --- the file ----------------------------------------------------------------------------------------------


@contextmanager
def experiment(path: str | Path) -> Generator[Experiment]:
    """The experiment a file describes; loopback providers run inside the ``with`` block.

    Raises ``ConfigurationError`` with the name of what is wrong.
    """
    try:
        read: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        what = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        raise ConfigurationError(f"{path}: {what}") from None
    except ValueError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    told = _checked(read, _TOP, "an experiment")
    _needed(told, ("duration", "hypothesis", "providers", "faults"), "an experiment")
    traffic, faults = _traffic(told.get("traffic", {})), _faults(told["faults"])
    with ExitStack() as stack:
        yield _experiment(told, traffic, faults, stack)


def _experiment(
    told: dict[str, Any], traffic: Traffic, faults: dict[str, list[Injection]], stack: ExitStack
) -> Experiment:
    tiers = _tiers(told["providers"], stack)
    with _building("client"):
        client = AsyncResilientClient(tiers, **told.get("client", {}))
    optional = {name: told[name] for name in ("abort_window", "settle", "seed", "title") if name in told}
    known = [target.id for target in client.pool.pool.targets()]
    for provider in faults:
        if provider not in known:
            raise ConfigurationError(f"a fault is for {provider!r}, and the providers are {', '.join(known)}")
    with _building("experiment"):
        return Experiment(
            client,
            told["hypothesis"],
            faults,
            told["duration"],
            told.get("abort_when"),
            traffic=traffic,
            **optional,
        )


def _tiers(told: list[dict[str, Any]], stack: ExitStack) -> list[list[HttpProvider]]:
    tiers: dict[float, list[HttpProvider]] = {}
    for number, one in enumerate(told, 1):
        where = f"provider {number}"
        table = _checked(one, _PROVIDER, where, others=True)
        with _building(where):
            tiers.setdefault(table.pop("tier", number), []).append(_provider(table, where, stack))
    return [tiers[number] for number in sorted(tiers)]


def _provider(told: dict[str, Any], where: str, stack: ExitStack) -> HttpProvider:
    if told.get("kind") == "loopback":
        return _loopback(_checked(told, _LOOPBACK, where), stack)
    kind = told.pop("kind", None)
    if kind not in vendors.__all__ or not isinstance(getattr(vendors, kind), type):
        raise ConfigurationError(f"kind is 'loopback' or a class of resilient_llm.providers, not {kind!r}")
    made: object = getattr(vendors, kind)(told.pop("model", ""), **told)
    if not isinstance(made, HttpProvider):
        raise ConfigurationError(f"{kind} cannot be made from a file")
    return made


def _loopback(told: dict[str, Any], stack: ExitStack) -> HttpProvider:
    del told["kind"]
    name = told.pop("id", "loopback")
    server = stack.enter_context(LoopbackLLM(default=Reply(**told), record=False))
    return vendors.OpenAICompatible("loopback-1", id=name, base_url=f"{server.url}/v1", api_key="loopback")


def _faults(told: list[dict[str, Any]]) -> dict[str, list[Injection]]:
    found: dict[str, list[Injection]] = {}
    for number, one in enumerate(told, 1):
        where = f"fault {number}"
        line = _checked(one, _FAULT, where, others=True)
        _needed(line, ("provider", "start", "end", "fault"), where)
        provider, start, end, rate = line.pop("provider"), line.pop("start"), line.pop("end"), line.pop("rate", 1.0)
        if not 0 <= start < end:
            raise ConfigurationError(f"{where}: start is at least 0 and before end, not {start!r} with end {end!r}")
        with _building(where):
            found.setdefault(provider, []).append(Injection(start, end, _mishap(line, where), rate))
    return found


def _mishap(told: dict[str, Any], where: str) -> Mishap:
    name = told.pop("fault")
    kind = _MISHAPS.get(name)
    if kind is None:
        raise ConfigurationError(f"fault is one of {', '.join(_MISHAPS)}, not {name!r}")
    known = {field.name: field for field in fields(kind)}
    kinds = {key: _BY_ANNOTATION[str(one.type)] for key, one in known.items() if str(one.type) in _BY_ANNOTATION}
    needed = tuple(key for key, one in known.items() if one.default is one.default_factory is MISSING)
    values = _checked(told, kinds, f"{where}: {name}")
    _needed(values, needed, f"{where}: {name}")
    made: Mishap = kind(**values)
    return made


def _traffic(told: dict[str, Any]) -> Traffic:
    made = _checked(told, _TRAFFIC, "traffic")
    expect = made.pop("expect", None)
    with _building("traffic"):
        return Traffic(**made, check=None if expect is None else _contains(expect))


def _contains(text: str) -> Callable[[ChatResponse], bool]:
    return lambda response: text in response.text
