"""Tool calls that no program can run are found before anybody tries."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from resilient_llm.capability import wrong_arguments
from resilient_llm.model import ChatResponse, Choice, Text, Tool, ToolCall


def told(arguments: object, schema: dict[str, Any] | None, name: str = "look") -> str | None:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return wrong_arguments(ChatResponse((Text("I look."), ToolCall("a", name, text))), (Tool("look", "", schema),))


def value_is(schema: object, **more: object) -> dict[str, Any]:
    return {"type": "object", "properties": {"v": schema}, **more}


@pytest.fixture(params=["alone", "jsonschema"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "alone":
        monkeypatch.setitem(sys.modules, "jsonschema", None)
    else:
        pytest.importorskip("jsonschema")


TREE = {
    "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "n": {"type": "integer"}}}},
    "type": "object",
    "properties": {"v": {"$ref": "#/$defs/node"}},
}


@pytest.mark.parametrize(
    ("schema", "right", "wrong", "place"),
    [
        ({"type": "integer"}, [1, 10**400, 2.0], ["1", 1.5, True, None, [1]], "$.v: type"),
        ({"type": "number"}, [1, 1.5], ["1", False], "$.v: type"),
        ({"type": ["string", "null"]}, ["a", None], [1, {}], "$.v: type"),
        ({"type": "boolean"}, [True], [1, "true"], "$.v: type"),
        ({"type": "string", "nullable": True}, ["a", None], [1], "$.v: type"),
        ({"enum": ["a", 1, None]}, ["a", 1, 1.0, None], ["b", True, [], 0], "$.v: enum"),
        ({"const": {"a": 1}}, [{"a": 1}], [{"a": 2}, "a"], "$.v: const"),
        ({"minimum": 2, "maximum": 10**400}, [2, 3.5, "1"], [1, -(10**400)], "$.v: minimum"),
        ({"maximum": 2}, [2, -1.5], [2.5, 10**400], "$.v: maximum"),
        ({"exclusiveMinimum": 2}, [3], [2, 1], "$.v: exclusiveMinimum"),
        ({"exclusiveMaximum": 2}, [1], [2, 3], "$.v: exclusiveMaximum"),
        ({"minLength": 2}, ["ab", 1], ["a"], "$.v: minLength"),
        ({"maxLength": 2}, ["ab", 1], ["abc"], "$.v: maxLength"),
        ({"minItems": 1, "maxItems": 2}, [[1], "abc"], [[]], "$.v: minItems"),
        ({"maxItems": 2}, [[1, 2]], [[1, 2, 3]], "$.v: maxItems"),
        ({"type": "array", "items": {"type": "string"}}, [[], ["a"]], [["a", 1]], "$.v[1]: type"),
        ({"prefixItems": [{"type": "string"}]}, [["a", 1]], [], ""),
        ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["a", 3], [2], "$.v: anyOf"),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ["a", 3], [[]], "$.v: oneOf"),
        ({"allOf": [{"type": "string"}, {"minLength": 2}]}, ["ab"], ["a"], "$.v: minLength"),
        ({"type": "object", "properties": {"n": False}}, [{}, {"m": 1}], [{"n": 1}], "$.v"),
        ({"type": "object", "required": ["n"]}, [{"n": 1}], [{}], "required"),
        ({"properties": {"n": {}}, "additionalProperties": False}, [{"n": 1}], [{"m": 1}], "$.v"),
        ({"additionalProperties": {"type": "integer"}}, [{"m": 1}], [{"m": "1"}], "$.v.m: type"),
        (
            {"patternProperties": {"^x": {}}, "additionalProperties": False},
            [{"x1": 1}],
            [],
            "",
        ),
    ],
)
def test_every_keyword(schema: dict[str, Any], right: list[object], wrong: list[object], place: str) -> None:
    for value in right:
        assert told({"v": value}, value_is(schema)) is None
    for value in wrong:
        found = told({"v": value}, value_is(schema))
        assert found is not None
        assert found.startswith("the call of tool 'look' has arguments that do not fit its schema: ")
        assert place in found


def test_schemas_that_refer_to_themselves() -> None:
    deep: dict[str, object] = {"n": "wrong"}
    for _ in range(5):
        deep = {"next": deep}
    assert told({"v": {"next": {"n": 1}}}, TREE) is None
    assert "$.v.next.next.next.next.next.n: type" in str(told({"v": deep}, TREE))


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"type": 5},
        {"type": [5, {}]},
        {"enum": "a"},
        {"properties": [1], "required": [[1], 2]},
        {"required": "v", "minimum": "2", "minLength": None},
        {"$ref": "https://schemas.example/never.json"},
        {"$ref": "#/nowhere/~1at~0all"},
        {"$ref": 5, "anyOf": {}, "allOf": 1},
        {"items": [{"type": "string"}], "prefixItems": 1},
        {"pattern": "("},
    ],
)
def test_nothing_is_refused_for_a_schema_that_is_none(schema: dict[str, Any]) -> None:
    assert told({"v": "a"}, schema) is None


def test_a_schema_that_holds_itself_many_times_ends() -> None:
    many = {"$ref": "#/properties/v"}
    value = {"anyOf": [many, many, many, {"type": "string"}]}
    assert told({"v": "a"}, value_is(value)) is None
    assert told({"v": 1}, value_is(value)) in (None, told({"v": 1}, value_is({"anyOf": [False]})))


@pytest.mark.parametrize("arguments", ["", "  ", "{}", '{"a": 1}'])
@pytest.mark.parametrize("schema", [None, {}])
def test_a_tool_without_a_schema_takes_any_object(arguments: str, schema: dict[str, Any] | None) -> None:
    assert told(arguments, schema) is None


@pytest.mark.parametrize("arguments", ["{", "[]", "1", "null", '{"a": 1} {}', "NaN", "[" * 100_000, '{"a":' * 5_000])
def test_what_is_no_object_is_no_arguments(arguments: str) -> None:
    assert told(arguments, None) == "the call of tool 'look' has arguments that are no JSON object"


def test_a_tool_that_nobody_offered_is_none() -> None:
    assert told("{}", None, "search") == "the call of tool 'search' is of no tool that was offered"


def test_every_answer_is_looked_at() -> None:
    bad = Choice((ToolCall("a", "search"),), "tool_calls")
    assert wrong_arguments(ChatResponse((Text("a"),), alternatives=(bad,)), ()) is not None
    assert wrong_arguments(ChatResponse((Text("a"),)), ()) is None
