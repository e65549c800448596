"""The kit of tests as a user would write it; accepted by mypy and pyright in strict mode, never run."""

from __future__ import annotations

from typing import assert_type

from resilient_llm import AsyncResilientClient, ChatResponse, ResilientClient, StreamInterrupted
from resilient_llm.model import ChatRequest
from resilient_llm.providers import AsyncProvider, Function, HttpProvider, OpenAI, Provider
from resilient_llm.testing import (
    AsyncScriptedProvider,
    Faults,
    FaultyProvider,
    FaultyTransport,
    Hang,
    Latency,
    LoopbackLLM,
    ReceivedRequest,
    Reply,
    ScriptedProvider,
    Status,
    inject,
)
from resilient_llm.testing.faults import FaultsLike, Schedule
from resilient_llm.testing.script import Behaviour
from resilient_llm.testing.scripted import ScriptStep


def answer(request: ReceivedRequest) -> Behaviour:
    return Reply("x") if request.stream else Status(503)


def shout(request: ChatRequest) -> str:
    return request.messages[0].text.upper()


def mixed_lists() -> ResilientClient:
    providers: list[HttpProvider | Provider] = [OpenAI("m", api_key="k"), ScriptedProvider("x")]
    others: list[HttpProvider | AsyncProvider] = [OpenAI("m", api_key="k"), AsyncScriptedProvider("x")]
    AsyncResilientClient(others)
    script: list[ScriptStep] = [Status(500), "text", ("te", "xt"), lambda request: request.messages[0].text]
    ScriptedProvider(*script, default=TimeoutError())
    LoopbackLLM(default=answer)
    return ResilientClient([[OpenAI("m", api_key="k")], *providers])


def schedules(client: ResilientClient) -> None:
    lines: Schedule = [(0, 10, Status(503)), (10, 20, Hang(), 0.5)]
    FaultyProvider(Function(shout), lines)
    FaultyTransport(lines)
    FaultyTransport({"https://api.example.com": lines, "https://example.com": Hang()})
    uniform = {"alpha": [(0, 10, Status(503))]}
    inject(client, uniform)
    single = {"alpha": Status(503)}
    inject(client, single)
    several: dict[str, FaultsLike] = {"alpha": Faults(lines), "beta": Latency(1), "gamma": lines}
    with inject(client, several) as running:
        assert_type(running["alpha"], Faults)


def broken(client: ResilientClient) -> str:
    try:
        with client.stream("x") as stream:
            return "".join(stream.text_deltas())
    except StreamInterrupted as error:
        assert_type(error.partial, ChatResponse)
        return error.partial.text
