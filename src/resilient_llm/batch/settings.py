"""What ``map()`` takes by keyword."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast

from resilient_llm.errors import InvalidRequest
from resilient_llm.keywords import Explicit, explicit, unknown
from resilient_llm.options import DEFAULTS, LINES, CallOptions, ChatOptions, UntypedChatOptions

if TYPE_CHECKING:
    from resilient_llm.batch.results import MapResult

MOST_THREADS, MOST_TASKS = 128, 512
"""The greatest width that ``concurrency="auto"`` finds, of the sync and the async client."""


class MapSettings(TypedDict, total=False):
    """How the prompts are worked through; :data:`MAP_LINES` says what each keyword means."""

    concurrency: int | Literal["auto"]
    ordered: bool
    save_to: str | os.PathLike[str] | None
    on_result: Callable[[MapResult[Any]], object] | None
    progress: bool


class UntypedMapOptions(MapSettings, UntypedChatOptions, total=False):
    """Everything ``map`` takes by keyword besides ``output``, whose class is a type of its own there."""


class MapOptions(MapSettings, ChatOptions, total=False):
    """Everything ``map`` takes by keyword."""


MAP_LINES: Mapping[str, str] = {
    "concurrency": "prompts under way at once; 'auto': as many as the limits allow, found out while working",
    "ordered": "True: results in the order of the prompts; False: as they come",
    "save_to": "a file to append each result to, and to resume from; None: none",
    "on_result": "called with each result as it comes, whatever the order",
    "progress": "True: show rate, waiting, failures, tokens and time left on stderr",
    **{name: line for name, line in LINES.items() if name != "idempotency_key"},
    "deadline": "seconds for one prompt, queueing, failover and asking again included; None: no limit",
}
"""What each keyword means, in one line; ``help(client.map)`` shows them."""

MAP_DEFAULTS: Mapping[str, object] = {
    **DEFAULTS,
    "concurrency": "auto",
    "ordered": True,
    "progress": False,
    "priority": "batch",
}
SETTINGS = frozenset(MapSettings.__annotations__)
_OPTIONS = frozenset(ChatOptions.__annotations__) | frozenset(UntypedChatOptions.__annotations__)

map_keywords: Explicit = explicit(MapOptions, MAP_LINES, MAP_DEFAULTS)
"""For methods that take ``**options: Unpack[MapOptions]``."""


def call_options(defaults: CallOptions, given: ChatOptions) -> ChatOptions:
    """What the calls of a run are given: what the client and the run say, and a class of traffic that yields to
    others."""
    calls: dict[str, object] = {**defaults, **given}
    if "priority" in _OPTIONS:
        calls.setdefault("priority", "batch")
    return cast(ChatOptions, calls)


def split(options: MapOptions) -> tuple[MapSettings, ChatOptions]:
    """The settings of the run, and the options of its calls.  Raises ``InvalidRequest`` for what makes no sense."""
    for name in options:
        if name not in SETTINGS and name not in _OPTIONS:
            raise InvalidRequest(unknown(name, SETTINGS | _OPTIONS, "option"))
    given = cast("Mapping[str, object]", options)
    width = given.get("concurrency", "auto")
    if width != "auto" and (isinstance(width, bool) or not isinstance(width, int) or width < 1):
        raise InvalidRequest(f"concurrency must be 'auto' or a whole number of at least 1, not {width!r:.80}")
    for name in ("ordered", "progress"):
        if not isinstance(given.get(name, False), bool):
            raise InvalidRequest(f"{name} must be True or False, not {given[name]!r:.80}")
    if not isinstance(given.get("save_to"), str | os.PathLike | None) or given.get("save_to") == "":
        raise InvalidRequest(f"save_to must be the path of a file or None, not {given['save_to']!r:.80}")
    if given.get("on_result") is not None and not callable(given["on_result"]):
        raise InvalidRequest(f"on_result must be a function of a result, not {given['on_result']!r:.80}")
    if given.get("idempotency_key") is not None:
        raise InvalidRequest("idempotency_key belongs to one prompt: give it with (key, messages, options)")
    settings = {name: value for name, value in given.items() if name in SETTINGS}
    calls = {name: value for name, value in given.items() if name not in SETTINGS}
    return cast(MapSettings, settings), cast(ChatOptions, calls)
