"""The same call recorded at several vendors: a request translated from one of them is the request of the others.

For every ordered pair of members of a group the recorded request of the first is decoded, encoded for the vendor of
the second, and compared with what was really sent there (and answered with a 200), after both went through
:data:`RULES`.  Whatever still differs must be in :data:`EXCEPTIONS`.
"""

from __future__ import annotations

import gzip
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import permutations
from typing import cast

import pytest

from resilient_llm.providers import Groq, Mistral, Vertex
from resilient_llm.wire import codec
from resilient_llm.wire.protocol import Codec
from tests.material import corpus, material
from tests.wire.readers import read_request

Fields = dict[str, object]
Group = Mapping[str, object]
Member = Mapping[str, str]

# --- the table: what may differ without a difference in meaning --------------------------------------------


@dataclass(frozen=True)
class Rule:
    """``apply`` brings a body into the form in which the two can be compared; ``why`` says why that is fair."""

    why: str
    apply: Callable[[Fields], Fields]
    wires: tuple[str, ...] = ()


def _fields(value: object) -> Fields:
    return cast(Fields, value) if isinstance(value, dict) else {}


def _items(value: object) -> list[Fields]:
    return cast("list[Fields]", value) if isinstance(value, list) else []


def camel_case(body: Fields) -> Fields:
    def walk(value: object) -> object:
        if isinstance(value, dict):
            return {_camel(key): walk(each) for key, each in value.items()}
        return [walk(each) for each in value] if isinstance(value, list) else value

    return _fields(walk(body))


def _camel(key: str) -> str:
    head, *tail = key.split("_")
    return head + "".join(word.capitalize() for word in tail)


def text_blocks(body: Fields) -> Fields:
    """``[{"type": "text", "text": "x"}]`` -> ``"x"``, also for the blocks of Responses."""

    def walk(value: object) -> object:
        if isinstance(value, dict):
            return {key: _text(each) if key == "content" else walk(each) for key, each in value.items()}
        return [walk(each) for each in value] if isinstance(value, list) else value

    return _fields(walk(body))


def _text(content: object) -> object:
    blocks = _items(content)
    return blocks[0]["text"] if len(blocks) == 1 and blocks[0].get("type") in ("text", "input_text") else content


def no_message_type(body: Fields) -> Fields:
    items = [
        {key: value for key, value in item.items() if (key, value) != ("type", "message")}
        for item in _items(body["input"])
    ]
    return {**body, "input": items}


def not_streamed(body: Fields) -> Fields:
    return {key: value for key, value in body.items() if (key, value) != ("stream", False)}


def without(*names: str) -> Callable[[Fields], Fields]:
    return lambda body: {key: value for key, value in body.items() if key not in names}


def no_modalities(body: Fields) -> Fields:
    config = {key: value for key, value in _fields(body.get("generationConfig")).items() if key != "responseModalities"}
    return {**body, "generationConfig": config}


_SCHEMAS = ("parameters", "parametersJsonSchema", "input_schema", "json")


def plain_tools(body: Fields) -> Fields:
    def walk(value: object, key: str = "") -> object:
        if isinstance(value, list):
            return [walk(each) for each in value]
        if not isinstance(value, dict):
            return value
        if key in _SCHEMAS:
            return {name: each for name, each in value.items() if name not in ("title", "additionalProperties")}
        fields = {name: walk(each, name) for name, each in value.items() if name != "strict"}
        return {"type": "function", **fields} if "function" in fields and "name" not in fields else fields

    return _fields(walk(body))


def without_nothing(body: Fields) -> Fields:
    def walk(value: object) -> object:
        if isinstance(value, dict):
            found = {key: walk(each) for key, each in value.items()}
            return {key: each for key, each in found.items() if each is not None and each not in ("", [], {})}
        return [walk(each) for each in value] if isinstance(value, list) else value

    return _fields(walk(body))


@dataclass(frozen=True)
class Choices:
    """Where a wire keeps its tools and the choice among them, and how it says what."""

    tools: Callable[[Fields], list[Fields]]
    name: Callable[[Fields], object]
    chosen: Callable[[Fields], tuple[str, list[object]]]


def _word(value: object) -> str:
    return {"any": "required", "ANY": "required", "REQUIRED": "required", "AUTO": "auto", "NONE": "none"}.get(
        str(value), str(value)
    )


def _chat_choice(body: Fields) -> tuple[str, list[object]]:
    choice = body.get("tool_choice", "auto")
    if not isinstance(choice, dict):
        return _word(choice), []
    if choice.get("type") == "allowed_tools":
        allowed = _fields(choice.get("allowed_tools", choice))
        names = [_fields(tool.get("function", tool))["name"] for tool in _items(allowed["tools"])]
        return str(allowed["mode"]), names
    return "required", [_fields(choice.get("function", choice))["name"]]


def _claude_choice(body: Fields) -> tuple[str, list[object]]:
    choice = _fields(body.get("tool_choice", {"type": "auto"}))
    return ("required", [choice["name"]]) if choice["type"] == "tool" else (_word(choice["type"]), [])


def _converse_choice(body: Fields) -> tuple[str, list[object]]:
    choice = _fields(_fields(body.get("toolConfig")).get("toolChoice", {"auto": {}}))
    return ("required", [_fields(choice["tool"])["name"]]) if "tool" in choice else (_word(next(iter(choice))), [])


def _gemini_choice(body: Fields) -> tuple[str, list[object]]:
    calling = _fields(_fields(body.get("toolConfig")).get("functionCallingConfig", {"mode": "AUTO"}))
    return _word(calling["mode"]), list(cast("list[object]", calling.get("allowedFunctionNames", [])))


_CHAT = Choices(
    lambda body: _items(body.get("tools")), lambda tool: _fields(tool.get("function", tool))["name"], _chat_choice
)
_CHOICES = {
    "openai_chat": _CHAT,
    "openai_compatible_chat": _CHAT,
    "openai_responses": _CHAT,
    "cohere_v2": _CHAT,
    "anthropic_messages": Choices(lambda body: _items(body.get("tools")), lambda tool: tool["name"], _claude_choice),
    "bedrock_converse": Choices(
        lambda body: _items(_fields(body.get("toolConfig")).get("tools")),
        lambda tool: _fields(tool["toolSpec"])["name"],
        _converse_choice,
    ),
    "gemini": Choices(
        lambda body: [each for tool in _items(body.get("tools")) for each in _items(tool.get("functionDeclarations"))],
        lambda tool: tool["name"],
        _gemini_choice,
    ),
}


def choice_by_filter(wire: str, body: Fields) -> Fields:
    """Tools and choice as the tools that may be called and one word."""
    told = _CHOICES[wire]
    mode, names = told.chosen(body)
    tools = [tool for tool in told.tools(body) if not names or told.name(tool) in names]
    if mode == "none":
        tools = []
    rest = {key: value for key, value in body.items() if key not in ("tools", "tool_choice", "toolConfig")}
    return {**rest, "may call": tools, "choice": mode if tools else ""}


RECORDER = (
    Rule(
        "Claude demands a limit and the recording client has one of its own",
        without("max_tokens"),
        ("anthropic_messages",),
    ),
    Rule("it says at some vendors what is the default anyway", without("n", "top_p"), ("openai_compatible_chat",)),
    Rule("it asks for text only", no_modalities, ("gemini",)),
    Rule("it asks for encrypted reasoning wherever there is any", without("include"), ("openai_responses",)),
    Rule("it closes schemas, drops their titles and sets strict at some vendors and not at others", plain_tools),
)
"""What the client that made the recordings added for each vendor: taken out of the recordings before anything else."""

RULES = (
    Rule("both spellings are accepted", camel_case, ("gemini",)),
    Rule("a text and a list of one text block are the same", text_blocks),
    Rule("an input item with a role is a message", no_message_type, ("openai_responses",)),
    Rule("not to stream is the default", not_streamed),
    Rule("Claude demands a limit, and we have one too", without("max_tokens"), ("anthropic_messages",)),
    Rule("function is the default type of a tool, and schemas are closed for Claude", plain_tools),
    Rule("the model is in the body or in the path, and is each vendor's own", without("model", "modelId")),
)
"""Other words for the same: applied in this order to both sides.  Then two more: :func:`choice_by_filter`, because some
vendors cannot name the tool to be called and are offered that tool alone, and "none" of the tools is no tools; and
:func:`without_nothing`, because absent, null and empty are the same."""

EXCEPTIONS: dict[tuple[str, str, str], str] = {
    ("tool_choice/none/turn0", "anthropic", "*"): "another prompt was recorded there",
    ("tool_choice/none/turn0", "*", "anthropic"): "another prompt was recorded there",
    (
        "tool_choice/tools_plus_output/turn0",
        "openai",
        "*",
    ): "recorded without the restriction to two of the three tools",
    (
        "tool_choice/tools_plus_output/turn0",
        "*",
        "openai",
    ): "recorded without the restriction to two of the three tools",
}
"""(group, from, to) -> why the recordings are not of one and the same call."""


def normal(wire: str, body: Fields) -> Fields:
    for rule in RULES:
        if not rule.wires or wire in rule.wires:
            body = rule.apply(body)
    return without_nothing(choice_by_filter(wire, body))


# --- the groups --------------------------------------------------------------------------------------------


@cache
def groups() -> dict[str, Group]:
    with gzip.open(material("corpus", "rosetta.jsonl.gz"), "rt", encoding="utf-8") as lines:
        return {group["group"]: group for group in map(json.loads, lines) if group["match"] == "strict"}


@cache
def records() -> dict[str, Mapping[str, object]]:
    return {str(record["id"]): record for record in corpus()}


def codec_of(member: Member) -> Codec:
    if member["provider"] == "groq":
        return Groq("m", api_key="k").codec
    if member["provider"] == "mistral":
        return Mistral("m", api_key="k").codec
    if member["provider"] == "vertex":
        return Vertex("m", token="t", project="p").codec
    return codec(member["wire"])


def recorded(member: Member) -> Fields:
    """What was sent there, without what only the recording client wanted."""
    body = _fields(records()[member["id"]]["request"])
    for rule in RECORDER:
        if not rule.wires or member["wire"] in rule.wires:
            body = rule.apply(body)
    return body


def translated(source: Member, target: Member) -> Fields:
    """The recorded request of ``source`` as we would send it to ``target``."""
    record = records()[source["id"]]
    body = recorded(source)
    request = read_request(codec_of(source), json.dumps(body).encode(), str(record["url_path"]))
    anew = replace(request, model=target["model"], source=None)
    return _fields(json.loads(codec_of(target).encode_request(anew).body))


def expected_to_differ(group: str, source: str, target: str) -> bool:
    return any(key in EXCEPTIONS for key in ((group, source, "*"), (group, "*", target), (group, source, target)))


def compare(group: Group) -> Counter[str]:
    figures: Counter[str] = Counter()
    members = cast("list[Member]", group["members"])
    name = str(group["group"])
    for source, target in permutations(members, 2):
        ours = normal(target["wire"], translated(source, target))
        theirs = normal(target["wire"], recorded(target))
        if expected_to_differ(name, source["label"], target["label"]):
            assert ours != theirs, f"{name}: {source['label']} -> {target['label']} is equal; no exception is needed"
            figures["excepted"] += 1
        else:
            assert ours == theirs, f"{name}: {source['label']} -> {target['label']}"
            figures["equal"] += 1
    return figures


@pytest.mark.parametrize("name", sorted(groups()))
def test_a_request_translated_is_the_request_of_the_other_vendor(name: str) -> None:
    figures = compare(groups()[name])
    assert figures.total() == len(list(permutations(cast("list[Member]", groups()[name]["members"]), 2)))
    assert figures["equal"] > figures["excepted"]


def test_nearly_all_pairs_are_compared() -> None:
    members = {name: cast("list[Member]", group["members"]) for name, group in groups().items()}
    pairs = [
        expected_to_differ(name, source["label"], target["label"])
        for name, each in members.items()
        for source, target in permutations(each, 2)
    ]
    assert len(pairs) >= 1000
    assert sum(pairs) / len(pairs) < 0.03


def test_every_exception_is_about_a_recorded_group() -> None:
    assert {group for group, _, _ in EXCEPTIONS} <= set(groups())
