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

    [client.hedge]              # settings of the client, as in code
    max_delay = 2

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

import tomllib
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any, Final

from resilient_llm import providers as vendors
from resilient_llm.client import AsyncResilientClient
from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatResponse
from resilient_llm.providers.base import HttpProvider
from resilient_llm.testing.chaos import Experiment, Traffic
from resilient_llm.testing.faults import MISHAPS, Injection, Mishap
from resilient_llm.testing.loopback import LoopbackLLM
from resilient_llm.testing.script import Reply

_MISHAPS: Final[Mapping[str, type]] = {kind.__name__: kind for kind in MISHAPS}
_TOP = frozenset(
    {
        *("title", "duration", "hypothesis", "abort_when", "abort_window", "settle", "seed", "traffic", "client"),
        *("providers", "faults"),
    }
)
_LOOPBACK = frozenset({"kind", "id", "tier", "text", "first_token", "interval"})


@contextmanager
def experiment(path: str | Path) -> Generator[Experiment]:
    """The experiment a file describes; loopback providers run inside the ``with`` block.

    Raises ``ConfigurationError`` (or ``OSError``) with the name of what is wrong.
    """
    try:
        told: dict[str, Any] = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"{path} is not TOML: {error}") from None
    _only(told, _TOP, "an experiment")
    for name in ("duration", "hypothesis", "providers", "faults"):
        if not told.get(name):
            raise ConfigurationError(f"an experiment needs {name}")
    with ExitStack() as stack:
        client = AsyncResilientClient(_tiers(told["providers"], stack), **told.get("client", {}))
        optional = {name: told[name] for name in ("abort_window", "settle", "seed", "title") if name in told}
        yield Experiment(
            client,
            told["hypothesis"],
            _faults(told["faults"]),
            told["duration"],
            told.get("abort_when"),
            traffic=_traffic(told.get("traffic", {})),
            **optional,
        )


def _tiers(told: list[dict[str, Any]], stack: ExitStack) -> list[list[HttpProvider]]:
    tiers: dict[float, list[HttpProvider]] = {}
    for number, one in enumerate(told, 1):
        tiers.setdefault(one.get("tier", number), []).append(_provider(dict(one), stack))
    return [tiers[number] for number in sorted(tiers)]


def _provider(told: dict[str, Any], stack: ExitStack) -> HttpProvider:
    told.pop("tier", None)
    kind = told.pop("kind", None)
    if kind == "loopback":
        return _loopback(told, stack)
    if kind not in vendors.__all__ or not isinstance(getattr(vendors, kind), type):
        raise ConfigurationError(f"kind is 'loopback' or a class of resilient_llm.providers, not {kind!r}")
    made: object = getattr(vendors, kind)(told.pop("model", ""), **told)
    if not isinstance(made, HttpProvider):
        raise ConfigurationError(f"{kind} cannot be made from a file")
    return made


def _loopback(told: dict[str, Any], stack: ExitStack) -> HttpProvider:
    _only(told, _LOOPBACK, "a loopback provider")
    name = str(told.pop("id", "loopback"))
    server = stack.enter_context(LoopbackLLM(default=Reply(**told), record=False))
    return vendors.OpenAICompatible("loopback-1", id=name, base_url=f"{server.url}/v1", api_key="loopback")


def _faults(told: list[dict[str, Any]]) -> dict[str, list[Injection]]:
    found: dict[str, list[Injection]] = {}
    for one in told:
        line = dict(one)
        try:
            provider, start, end = line.pop("provider"), line.pop("start"), line.pop("end")
        except KeyError as missing:
            raise ConfigurationError(f"a fault needs {missing.args[0]}: {one!r}") from None
        rate = line.pop("rate", 1.0)
        found.setdefault(provider, []).append(Injection(start, end, _mishap(line), rate))
    return found


def _mishap(told: dict[str, Any]) -> Mishap:
    kind = _MISHAPS.get(told.pop("fault", ""))
    if kind is None:
        raise ConfigurationError(f"fault is one of {', '.join(_MISHAPS)}")
    _only(told, frozenset(field.name for field in fields(kind)), kind.__name__)
    try:
        made: Mishap = kind(**told)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{kind.__name__}: {error}") from None
    return made


def _traffic(told: dict[str, Any]) -> Traffic:
    told = dict(told)
    expect = told.pop("expect", None)
    _only(told, frozenset(field.name for field in fields(Traffic)) - {"check"}, "traffic (beside expect)")
    if "prompts" in told:
        told["prompts"] = tuple(told["prompts"])
    return Traffic(**told, check=None if expect is None else _contains(str(expect)))


def _contains(text: str) -> Callable[[ChatResponse], bool]:
    return lambda response: text in response.text


def _only(told: Mapping[str, object], known: frozenset[str], what: str) -> None:
    for name in told:
        if name not in known:
            raise ConfigurationError(f"{what} has no {name!r}; it has {', '.join(sorted(known))}")
