"""The vocabulary: what its parts say of themselves."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle

import pytest

from resilient_llm import model
from resilient_llm.errors import AttemptRecord
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Json,
    Media,
    Message,
    Refusal,
    Text,
    Thought,
    ToolCall,
    ToolResult,
)


def test_the_text_of_a_message_is_its_text_and_nothing_else() -> None:
    message = Message("assistant", (Thought("hm"), Text("a"), Media("image", data=b"x"), Text("b"), Refusal("no")))
    assert message.text == "ab"


def test_an_answer_is_read_by_kind() -> None:
    call = ToolCall("1", "look", '{"at": "sky"}')
    answer = ChatResponse((Thought("hm"), Text("it is "), call, Text("blue"), Refusal("no"), Thought("m")))
    assert answer.text == "it is blue"
    assert answer.reasoning == "hmm"
    assert answer.refusal == "no"
    assert answer.tool_calls == (call,)
    assert answer.message() == Message("assistant", answer.parts)


def test_an_answer_without_parts_is_empty_in_every_respect() -> None:
    answer = ChatResponse(())
    assert (answer.text, answer.reasoning, answer.refusal, answer.tool_calls) == ("", "", "", ())


@pytest.mark.parametrize("empty", ["", "  \n"])
def test_no_arguments_are_an_empty_object(empty: str) -> None:
    assert ToolCall("1", "look", empty).parse() == {}


def test_arguments_are_parsed_as_they_were_written() -> None:
    assert ToolCall("1", "look", '{"n": 1.0, "ü": [null]}').parse() == {"n": 1.0, "ü": [None]}
    assert ToolCall("1", "look").parse() == {}


@pytest.mark.parametrize("wrong", ["[1]", "null", '"text"', "3"])
def test_arguments_that_are_no_object_are_refused_with_the_name_of_the_tool(wrong: str) -> None:
    with pytest.raises(ValueError, match="the arguments of tool 'look' are not a JSON object") as failure:
        ToolCall("1", "look", wrong).parse()
    assert wrong in str(failure.value)


def test_half_an_argument_is_no_argument() -> None:
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        ToolCall("1", "look", '{"at": "sk').parse()


def test_the_text_of_a_tool_result_includes_json_as_text_and_leaves_media_out() -> None:
    result = ToolResult("1", (Text("see: "), Json({"a": [1]}), Media("image", url="http://x")))
    assert result.text == 'see: {"a": [1]}'
    assert ToolResult("1").text == ""


def test_requests_and_parts_cannot_be_changed() -> None:
    frozen = [item for item in classes() if item.__name__ in ("ChatRequest", "Message", "Tool", "Text", "ToolCall")]
    for item in frozen:
        assert item.__dataclass_params__.frozen  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        ChatRequest(()).model = "x"  # type: ignore[misc]


def test_nothing_here_has_room_for_what_it_does_not_declare() -> None:
    for item in classes():
        assert "__slots__" in vars(item), item


def test_every_class_says_what_it_is() -> None:
    for item in classes():
        assert item.__doc__, item
        assert not item.__doc__.startswith(f"{item.__name__}("), f"{item.__name__} has only a generated docstring"


def test_a_response_survives_a_process_boundary_with_its_trail() -> None:
    record = AttemptRecord(1, "a", "m", "initial", "success", None, 200, 0.5)
    answer = ChatResponse((Text("hi"),), provider="a", attempts=(record,), raw={"id": "x"})
    for twin in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):
        assert twin == answer


def test_the_body_of_the_vendor_is_not_in_the_repr() -> None:
    assert "secret" not in repr(ChatResponse((), raw={"x": "secret"}))


def classes() -> list[type]:
    return [item for _, item in inspect.getmembers(model, inspect.isclass) if item.__module__ == "resilient_llm.model"]
