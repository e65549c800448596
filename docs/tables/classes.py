"""Classes that users make or are given, each with its fields and its explanation: the vocabulary, and the test kit."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from types import ModuleType
from typing import get_args

from resilient_llm import model, testing
from tables.markdown import code, default, kind, plain, table

KIT = {
    "Servers and providers": ("LoopbackLLM", "ReceivedRequest", "ScriptedProvider", "AsyncScriptedProvider"),
    "Behaviours": ("Reply", "Status", "Hang", "Close", "Reset", "Raw", "EndlessHeaders", "RateLimit"),
    "Faults inside an answer": ("Cut", "Stall", "Malformed", "InBandError", "Drip", "Latency", "SlowTokens"),
    "Faults in a client that exists": (
        *("inject", "Faults", "Injection", "Mishap"),
        *("FaultyTransport", "FaultyProvider", "AsyncFaultyProvider"),
    ),
    "Time and events": ("instant", "ManualClock", "EventRecorder"),
}


MODEL = {
    "Messages": (
        *("Message", "Text", "Media", "ToolCall", "ToolResult", "Json", "Thought", "Refusal", "Opaque", "Extra"),
    ),
    "Questions": ("ChatRequest", "Tool", "ToolChoice", "OutputFormat", "Reasoning", "EmbedRequest"),
    "Answers": ("ChatResponse", "ParsedResponse", "Usage", "Choice", "Degradation", "EmbedResponse"),
    "Events of a stream": (
        *("StreamStart", "TextDelta", "ThoughtDelta", "RefusalDelta", "ToolCallStart", "ToolCallDelta", "PartAdded"),
        *(
            "BlockEnd",
            "UsageUpdate",
            "Finish",
            "KeepAlive",
            "StreamEnd",
            "StreamError",
            "StreamBroken",
            "Restarted",
            "Continued",
        ),
    ),
}
Groups = Mapping[str, Sequence[str]]


def _fields(one: type) -> str:
    rows = []
    for each in fields(one):
        made = each.default_factory
        value = each.default if each.default is not MISSING else made() if callable(made) else MISSING
        shown = "required" if value is MISSING else default(value)
        rows.append([code(each.name), code(kind(each.type)), shown])
    return "\n\n" + table(["field", "type", "default"], rows) if rows else ""


def _entry(module: ModuleType, name: str) -> str:
    one: object = getattr(module, name)
    if not (inspect.isclass(one) or inspect.isfunction(one)):  # a type alias
        return f"### `{name}`\n\nAny of {', '.join(code(kind(each)) for each in get_args(one))}."
    told = plain(inspect.getdoc(one))
    if is_dataclass(one) and isinstance(one, type):
        return f"### `{name}`\n\n{told}{_fields(one)}{_properties(one)}"
    parameters = [each for each in inspect.signature(one).parameters.values() if each.name != "self"]
    shown = ", ".join(str(each.replace(annotation=inspect.Parameter.empty)) for each in parameters)
    return f"### `{name}({shown})`\n\n{told}"


def _properties(one: type) -> str:
    """What can be asked of it besides its fields."""
    rows = []
    for name, member in vars(one).items():
        inner = member.__func__ if isinstance(member, classmethod) else member
        if name.startswith("_") or not (isinstance(inner, property) or inspect.isfunction(inner)):
            continue
        called = code(name if isinstance(inner, property) else f"{name}()")
        rows.append([called, " ".join(plain(inner.__doc__).split())])
    return "\n\n" + table(["", "what it gives"], rows) if rows else ""


def chapters(module: ModuleType, groups: Groups, names: Sequence[str]) -> Callable[[], str]:
    """Every name of a module, by what it is for."""

    def made() -> str:
        left = set(names) - {name for some in groups.values() for name in some}
        if left:
            raise SystemExit(f"docs/tables/classes.py has no place for {', '.join(sorted(left))}")
        return "\n\n".join(
            f"## {title}\n\n" + "\n\n".join(_entry(module, name) for name in some) for title, some in groups.items()
        )

    return made


def _dataclasses(module: ModuleType) -> list[str]:
    return [name for name, one in vars(module).items() if is_dataclass(one) and one.__module__ == module.__name__]


SECTIONS = {
    "reference/testing.md": {"kit": chapters(testing, KIT, testing.__all__)},
    "reference/model.md": {"model": chapters(model, MODEL, _dataclasses(model))},
}
