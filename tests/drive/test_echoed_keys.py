"""A key of any shape that a provider echoes is not shown: the driver knows which key it sent."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest

from resilient_llm import ResilientClient
from resilient_llm.drive.exchange import HttpExchange
from resilient_llm.errors import CallFailed
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import LoopbackLLM, Status

KEY = "team-canary-5f2a9c1d77"
ANSWERS = {
    "message": Status(401, message=f"Incorrect API key provided: {KEY}"),
    "server error": Status(500, message=f"denied for {KEY}"),
    "code": Status(500, code=KEY),
    "request id": Status(429, headers={"x-request-id": KEY}),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_a_key_that_an_answer_echoes_is_masked(answer: Any) -> None:
    with LoopbackLLM(default=answer) as server:
        provider = OpenAICompatible("m", id="a", api_key=KEY, base_url=f"{server.url}/v1")
        with ResilientClient([provider], retry={"max_attempts": 1}) as client, pytest.raises(CallFailed) as failed:
            client.chat("hi", deadline=5)
    assert KEY not in repr(failed.value.attempts) + str(failed.value) + repr(failed.value.fault)
    assert KEY.encode() not in pickle.dumps(failed.value)


@pytest.mark.parametrize("key", [KEY, 'team "canary" \\ 5f2a', "team/canary+5f2a"])
def test_a_key_of_any_shape_is_masked_in_the_answer_that_is_kept(key: str) -> None:
    with LoopbackLLM(default=Status(401, {"error": {"message": "wrong", "sent": [key], "id": 7}})) as server:
        provider = OpenAICompatible("m", id="a", api_key=key, base_url=f"{server.url}/v1")
        with ResilientClient([provider], retry={"max_attempts": 1}) as client, pytest.raises(CallFailed) as failed:
            client.chat("hi", deadline=5)
    assert failed.value.fault is not None
    assert json.loads(failed.value.fault.body or "") == {"error": {"message": "wrong", "sent": ["***"], "id": 7}}


def test_a_number_that_may_be_a_secret_is_not_kept() -> None:
    with LoopbackLLM(default=Status(401, {"error": {"message": "wrong", "id": 1234567}})) as server:
        provider = OpenAICompatible("m", id="a", api_key="1234567", base_url=f"{server.url}/v1")
        with ResilientClient([provider], retry={"max_attempts": 1}) as client, pytest.raises(CallFailed) as failed:
            client.chat("hi", deadline=5)
    assert failed.value.fault is not None
    assert failed.value.fault.body is None


@pytest.mark.parametrize("chained", [False, True])
def test_an_exception_that_quotes_the_key_is_not_chained(chained: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(self: HttpExchange) -> None:
        error = ConnectionError(f"illegal line: {KEY}")
        if chained:
            raise ConnectionError("broken") from error
        raise error

    monkeypatch.setattr(HttpExchange, "outgoing", failing)
    provider = OpenAICompatible("m", id="a", api_key=KEY, base_url="http://127.0.0.1:9/v1")
    with ResilientClient([provider], retry={"max_attempts": 1}) as client, pytest.raises(CallFailed) as failed:
        client.chat("hi", deadline=5)
    assert failed.value.__cause__ is None
    assert KEY not in repr(failed.value.attempts)
