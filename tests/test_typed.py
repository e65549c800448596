"""Classes as the shape of an answer: the schema that is asked for, the instance that comes back, what is refused."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal, NewType, NotRequired, Optional, TypedDict, Union

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import CallFailed, FaultKind, InvalidRequest
from resilient_llm.model import ChatRequest, ChatResponse, OutputFormat, ParsedResponse, Refusal, ToolCall
from resilient_llm.options import chat_request
from resilient_llm.providers import Function
from resilient_llm.typed import typed

pydantic = pytest.importorskip("pydantic")

City = NewType("City", str)


class Sky(enum.Enum):
    CLEAR = "clear"
    CLOUDY = "cloudy"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Wind:
    speed: float
    direction: Literal["north", "south"] | None = None


@dataclasses.dataclass(frozen=True)
class Rain:
    millimetres: int


class Place(TypedDict):
    city: City
    country: NotRequired[str]


@dataclasses.dataclass
class Weather:
    place: Place
    sky: Sky
    celsius: Annotated[float, "the temperature in the shade"]
    hours: list[int]
    event: Union[Wind, Rain]  # noqa: UP007
    note: Optional[str] = None  # noqa: UP045
    level: Level = Level.LOW
    tags: list[str] = dataclasses.field(default_factory=list)
    internal: int = dataclasses.field(default=0, init=False)


class Inner(pydantic.BaseModel):
    x: int


class Model(pydantic.BaseModel):
    city: str
    inner: Inner
    sky: Sky = Sky.CLEAR


@dataclasses.dataclass
class Around:
    model: Model
    models: list[Inner]


GOOD: dict[str, Any] = {
    "place": {"city": "Oslo"},
    "sky": "cloudy",
    "celsius": 3,
    "hours": [1, 2.0],
    "event": {"millimetres": 4},
    "note": None,
    "level": 2,
}
WEATHER = Weather({"city": City("Oslo")}, Sky.CLOUDY, 3.0, [1, 2], Rain(4), level=Level.HIGH)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


# --- schema and instance ---


def test_a_dataclass_becomes_a_schema() -> None:
    schema: Any = typed(Weather).schema
    assert schema["required"] == ["place", "sky", "celsius", "hours", "event"]
    assert schema["additionalProperties"] is False
    properties = schema["properties"]
    assert properties["place"]["required"] == ["city"]
    assert properties["sky"] == {"enum": ["clear", "cloudy"]}
    assert properties["celsius"] == {"type": "number", "description": "the temperature in the shade"}
    assert properties["hours"] == {"type": "array", "items": {"type": "integer"}}
    assert properties["note"] == {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert [one["required"] for one in properties["event"]["anyOf"]] == [["speed"], ["millimetres"]]
    assert "internal" not in properties


def test_an_answer_becomes_an_instance() -> None:
    found = typed(Weather).parse(json.dumps(GOOD))
    assert found == WEATHER
    assert isinstance(found, Weather)
    assert [type(hour) for hour in found.hours] == [int, int]
    assert type(found.celsius) is float
    assert typed(Place).parse('{"city": "Oslo", "country": "Norway"}') == {"city": "Oslo", "country": "Norway"}
    assert typed(Wind).parse('```json\n{"speed": 1}\n```') == Wind(1.0), "as models write it when asked in words"


BAD: dict[str, Any] = {
    "no JSON": "sunny",
    "a list": [GOOD],
    "a field missing": without("hours"),
    "a field too many": {**GOOD, "colour": "blue"},
    "a nested field missing": {**GOOD, "place": {}},
    "an enum's value of its own": {**GOOD, "sky": "purple"},
    "a boolean as a number": {**GOOD, "celsius": True},
    "a text as a number": {**GOOD, "celsius": "3"},
    "a fraction as an integer": {**GOOD, "hours": [1.5]},
    "an infinite integer": '{"hours": [Infinity]}',
    "neither of a union": {**GOOD, "event": {"depth": 1}},
    "null where none may be": {**GOOD, "hours": None},
    "true as the enum's 1": {**GOOD, "level": True},
    "nested without end": "[" * 100_000,
}


@pytest.mark.parametrize("case", BAD)
def test_an_answer_that_does_not_fit_is_told_without_quoting_it(case: str) -> None:
    text = BAD[case] if isinstance(BAD[case], str) else json.dumps(BAD[case])
    with pytest.raises(ValueError, match="the answer is no Weather") as caught:
        typed(Weather).parse(text)
    assert not any(word in str(caught.value) for word in ("purple", "sunny", "Oslo", "colour"))


def test_a_pydantic_model_alone_and_within_others() -> None:
    assert typed(Model).parse('{"city": "Oslo", "inner": {"x": 1}}') == Model(city="Oslo", inner=Inner(x=1))
    with pytest.raises(ValueError, match=r"inner\.x: ") as caught:
        typed(Model).parse('{"city": "Oslo", "inner": {"x": "secret words"}}')
    assert "secret words" not in str(caught.value)
    shape = typed(Around)
    definitions: Any = shape.schema["$defs"]
    assert definitions.keys() == {"Inner", "Sky"}
    found = shape.parse('{"model": {"city": "Oslo", "inner": {"x": 1}}, "models": [{"x": 2}]}')
    assert found == Around(Model(city="Oslo", inner=Inner(x=1)), [Inner(x=2)])
    with pytest.raises(ValueError, match="the answer is no Around"):
        shape.parse('{"model": {"city": "Oslo", "inner": {}}, "models": []}')


# --- refused ---


@dataclasses.dataclass
class Recursive:
    inner: Recursive | None


def odd(annotation: Any) -> Any:
    return dataclasses.make_dataclass("Odd", [("field", annotation)])


REFUSED = [
    dict[str, int],
    tuple[int, str],
    set[str],
    Any,
    object,
    list,
    bytes,
    complex,
    dict,
    "Missing",
    "list[Missing]",
]


@pytest.mark.parametrize("annotation", REFUSED, ids=str)
def test_a_field_that_cannot_be_checked_is_refused_at_the_call(annotation: Any) -> None:
    with pytest.raises(InvalidRequest, match="Odd"):
        chat_request("hi", {"output": odd(annotation)}, stream=False)


@pytest.mark.parametrize("output", [Recursive, int, dict, ResilientClient, Sky, 3, "xml", b"text", Weather.__init__])
def test_what_is_no_shape_of_an_answer_is_refused_at_the_call(output: Any) -> None:
    with pytest.raises(InvalidRequest, match="output"):
        chat_request("hi", {"output": output}, stream=False)


# --- schemas as such ---

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}


@pytest.mark.parametrize(
    ("output", "means"),
    [
        (SCHEMA, OutputFormat("json_schema", SCHEMA, "answer")),
        (
            {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
            OutputFormat("json_schema", SCHEMA, "n", strict=True),
        ),
        (
            {"type": "json_schema", "name": "n", "description": "d", "schema": SCHEMA},
            OutputFormat("json_schema", SCHEMA, "n", "d"),
        ),
        ({"type": "json_object"}, OutputFormat("json_object")),
        ({"type": "text"}, OutputFormat("text")),
        ({"anyOf": [{"type": "string"}, {"$ref": "#/$defs/x"}], "$defs": {"x": True}}, None),
    ],
)
def test_a_schema_and_openais_response_format_are_understood(output: Any, means: OutputFormat | None) -> None:
    found = chat_request("hi", {"output": output}, stream=False).output
    assert found == (means or OutputFormat("json_schema", output, "answer"))


@pytest.mark.parametrize(
    "output",
    [
        {},
        {"a": "int"},
        {"type": "json_schema"},
        {"type": "json_schema", "json_schema": {"name": "n"}},
        {"type": "json_schema", "json_schema": {"schema": {"type": "xml"}}},
        {"type": "json_schema", "json_schema": {"name": 3, "schema": SCHEMA}},
        {"type": "xml"},
        {"type": int},
        {"type": "object", "properties": {"a": "integer"}},
        {"type": "object", "properties": {"a": {"type": int}}},
        {"type": "object", "properties": ["a"]},
        {"type": "object", "required": "a"},
        {"anyOf": "x"},
        {"type": "array", "items": 3},
    ],
    ids=str,
)
def test_what_is_no_schema_is_refused(output: Any) -> None:
    with pytest.raises(InvalidRequest, match="output"):
        chat_request("hi", {"output": output}, stream=False)


# --- through a client ---


def answering(*texts: str) -> tuple[list[ChatRequest], list[Function]]:
    """Providers a, b... that answer with these texts, and the requests they get."""
    seen: list[ChatRequest] = []

    def provider(text: str, name: str) -> Function:
        def call(request: ChatRequest) -> str:
            seen.append(request)
            return text

        return Function(call, id=name)

    return seen, [provider(text, name) for text, name in zip(texts, "abcd", strict=False)]


def test_an_answer_that_does_not_fit_is_asked_for_elsewhere() -> None:
    seen, providers = answering("it rains", '{"speed": 3}')
    with ResilientClient(providers) as client:
        reply = client.chat("hi", output=Wind)
    assert reply.parsed == Wind(3.0)
    assert isinstance(reply, ParsedResponse)
    assert reply.provider == "b"
    fault = reply.attempts[0].fault
    assert fault is not None
    assert fault.kind is FaultKind.INVALID_RESPONSE
    assert "the answer is no Wind: it is no JSON" in fault.message
    assert client.health()["a"].breaker == "closed"
    assert seen[0].output == OutputFormat("json_schema", typed(Wind).schema, "Wind")


def test_validate_sees_the_instance_and_has_the_last_word() -> None:
    _, providers = answering('{"speed": 1}', '{"speed": 9}')
    with ResilientClient(providers) as client:
        reply = client.chat("hi", output=Wind, validate=lambda response: response.parsed == Wind(9.0))
    assert reply.provider == "b"


def test_async_and_async_validate() -> None:
    async def check(response: ChatResponse) -> bool:
        return response.parsed == Wind(9.0)

    async def work() -> None:
        _, providers = answering("no", '{"speed": 1}', '{"speed": 9}')
        async with AsyncResilientClient(providers) as client:
            reply = await client.chat("hi", output=Wind, validate=check)
            assert reply.provider == "c"
            assert reply.parsed.speed == 9.0

    anyio.run(work)


@pytest.mark.parametrize("part", [ToolCall("1", "f"), Refusal("no")])
def test_a_tool_call_and_a_refusal_are_answers_without_an_instance(part: Any) -> None:
    with ResilientClient([Function(lambda request: ChatResponse((part,)), id="a")]) as client:
        reply = client.chat("hi", output=Wind)
    assert reply.parsed is None
    assert len(reply.attempts) == 1


def test_a_stream_has_the_instance_at_its_end() -> None:
    def pieces(request: ChatRequest) -> Iterator[str]:
        yield '{"speed"'
        yield ": 3}"

    with ResilientClient([Function(pieces, id="a")]) as client:
        with client.stream("hi", output=Wind) as stream:
            next(stream)
            assert stream.response.parsed is None
            list(stream)
        assert stream.response.parsed == Wind(3.0)
        with client.stream("hi", output=Rain) as stream:
            list(stream)
        assert stream.response.parsed is None


# --- empty answers ---


@pytest.mark.parametrize("text", ["", " \n"])
def test_an_empty_answer_is_asked_for_elsewhere_unless_allowed(text: str) -> None:
    _, providers = answering(text, "hello")
    with ResilientClient(providers) as client:
        reply = client.chat("hi")
        assert reply.text == "hello"
        assert reply.attempts[0].fault is not None
        assert reply.attempts[0].fault.kind is FaultKind.INVALID_RESPONSE
        assert client.chat("hi", allow_empty=True, providers=["a"]).text == text
        with pytest.raises(CallFailed, match="the answer is empty"):
            client.chat("hi", providers=["a"], deadline=2)


@pytest.mark.parametrize(
    "answer",
    [
        ChatResponse((Refusal("no"),)),
        ChatResponse((ToolCall("1", "f"),), "tool_calls"),
        ChatResponse((), "length"),
        ChatResponse((), "content_filter"),
    ],
)
def test_an_answer_without_text_that_says_why_is_one(answer: ChatResponse) -> None:
    with ResilientClient([Function(lambda request: answer, id="a")]) as client:
        assert client.chat("hi").provider == "a"
