"""Faults in faults, and schedules whose time is the client's."""

from __future__ import annotations

from collections.abc import Callable

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import ConfigurationError, FaultKind
from resilient_llm.providers import Function, OpenAI, OpenAICompatible
from resilient_llm.testing import (
    AsyncFaultyProvider,
    Faults,
    FaultyProvider,
    Hang,
    Latency,
    LoopbackLLM,
    ManualClock,
    ScriptedProvider,
    Status,
    inject,
    instant,
)
from resilient_llm.testing.faults import Schedule


def scripted() -> list[ScriptedProvider]:
    return [ScriptedProvider(default="A", id="a"), ScriptedProvider(default="B", id="b")]


def kinds(client: ResilientClient) -> list[FaultKind]:
    return [record.fault.kind for record in client.chat("hi").attempts if record.fault]


# --- blocks in blocks --------------------------------------------------------------------------------------


def nested(client: ResilientClient) -> None:
    with inject(client, {"a": Status(503)}) as outer:
        with inject(client, {"a": Status(500)}):
            assert kinds(client) == [FaultKind.SERVER_ERROR]  # the inner one strikes first
            assert not outer["a"].injected
        assert kinds(client) == [FaultKind.OVERLOADED]
        assert len(outer["a"].injected) == 1
        with inject(client, {"a": Faults([])}) as inner:
            assert kinds(client) == [FaultKind.OVERLOADED]  # a silent one lets the outer one strike
            assert inner["a"].attempts == 1
    assert kinds(client) == []
    assert "send" not in vars(client._driver)


def test_nested_blocks_stack_and_unwind_around_a_provider_of_the_users() -> None:
    with ResilientClient(scripted()) as client:
        nested(client)


def test_nested_blocks_stack_and_unwind_on_the_way_to_http_providers() -> None:
    with LoopbackLLM() as one, LoopbackLLM() as two:
        providers = [OpenAICompatible("m", id=name, base_url=server.url) for name, server in (("a", one), ("b", two))]
        with ResilientClient(providers) as client:
            nested(client)


def test_nested_blocks_stack_and_unwind_in_the_async_client() -> None:
    async def main() -> None:
        with LoopbackLLM() as one, LoopbackLLM() as two:
            pair = [OpenAICompatible("m", id=name, base_url=server.url) for name, server in (("a", one), ("b", two))]
            async with AsyncResilientClient(pair) as client:
                with inject(client, {"a": Status(503)}) as outer:
                    with inject(client, {"a": Status(500)}):
                        assert (await client.chat("hi")).attempts[0].status == 500
                    assert (await client.chat("hi")).attempts[0].status == 503
                    assert len(outer["a"].injected) == 1
                assert (await client.chat("hi")).provider == "a"

    for backend in ("asyncio", "trio"):
        anyio.run(main, backend=backend)


def test_a_schedule_in_both_blocks_goes_on_until_the_outer_one_ends() -> None:
    schedule = Faults.always(Status(503))
    with ResilientClient(scripted()) as client:
        with inject(client, {"a": schedule}):
            with inject(client, {"a": schedule}):
                assert kinds(client) == [FaultKind.OVERLOADED]
            assert kinds(client) == [FaultKind.OVERLOADED]
        assert kinds(client) == []


def test_instant_blocks_nest_too() -> None:
    with ResilientClient(scripted()) as client, instant(client) as outer:
        with instant(client) as inner:
            inner.advance(5)
        assert client.chat("hi").provider == "a"
        assert client.pool.clock is outer


# --- whose time --------------------------------------------------------------------------------------------


def providers_met(client: ResilientClient, clock: ManualClock) -> str:
    met = ""
    for _ in range(6):
        met += client.chat("hi").provider
        clock.advance(5)
    return met


def test_inside_instant_a_schedule_follows_the_clock_of_the_client() -> None:
    with ResilientClient(scripted()) as client, instant(client) as clock, inject(client, {"a": [(10, 20, Hang())]}):
        assert providers_met(client, clock)[:3] == "aab"  # and a hang costs seconds of that clock


def test_instant_inside_a_block_takes_its_schedules_along_and_gives_them_back() -> None:
    schedule = Faults([(10, 20, Status(503))])
    real = schedule.clock
    with ResilientClient(scripted()) as client, inject(client, {"a": schedule}):
        with instant(client, ManualClock(3.0)) as clock:
            assert providers_met(client, clock)[:4] == "aabb"
        assert schedule.clock is real
        assert [round(struck.at) for struck in schedule.injected] == [10, 15]


def test_http_schedules_follow_it_as_well() -> None:
    with LoopbackLLM() as one, LoopbackLLM() as two:
        pair = [OpenAICompatible("m", id=name, base_url=server.url) for name, server in (("a", one), ("b", two))]
        with ResilientClient(pair) as client, inject(client, {"a": [(10, 20, Status(503))]}) as schedules:
            with instant(client) as clock:
                assert providers_met(client, clock)[:4] == "aabb"
            assert schedules["a"].injected


def test_a_schedule_around_a_provider_follows_it_and_begins_with_the_first_attempt() -> None:
    around = FaultyProvider(ScriptedProvider(default="A", id="a"), [(10, 20, Status(503))])
    with ResilientClient([around, ScriptedProvider(default="B", id="b")]) as client, instant(client) as clock:
        clock.advance(100)
        assert providers_met(client, clock)[:4] == "aabb"


def test_a_schedule_with_a_clock_of_its_own_keeps_it() -> None:
    mine = ManualClock()
    schedule = Faults([(10, 20, Status(503))], clock=mine)
    with ResilientClient(scripted()) as client, instant(client) as clock, inject(client, {"a": schedule}):
        assert providers_met(client, clock) == "aaaaaa"
        mine.advance(10)
        assert client.chat("hi").provider == "b"


def test_waits_of_a_mishap_take_no_time_around_a_provider_without_a_clock() -> None:
    mine = Function(lambda request: "mine", id="mine")
    with ResilientClient([mine]) as client, instant(client) as clock, inject(client, {"mine": Latency(3)}):
        assert client.chat("hi").text == "mine"
        assert clock.sleeps == [3]


# --- what cannot be injected -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: FaultyProvider(OpenAI("m", id="vendor", api_key="k"), Hang()), r"use inject\(client, {'vendor'"),  # type: ignore[arg-type]
        (lambda: AsyncFaultyProvider(OpenAI("m", api_key="k"), Hang()), r"use inject\(client, {"),  # type: ignore[arg-type]
        (lambda: FaultyProvider(3, Hang()), "a Function, not 3"),  # type: ignore[arg-type]
        (lambda: FaultyProvider(ScriptedProvider, Hang()), "a Function, not <class"),  # type: ignore[arg-type]
        (lambda: FaultyProvider(ScriptedProvider(), "503"), "not '503'"),  # type: ignore[arg-type]
        (lambda: inject(ResilientClient(scripted()), {"a": "503"}).__enter__(), "not '503'"),  # type: ignore[dict-item]
        (lambda: inject(ResilientClient(scripted()), {"a": 503}).__enter__(), "Status.503., a Faults.*not 503"),  # type: ignore[dict-item]
        (lambda: inject(ResilientClient(scripted()), {"a": Hang}).__enter__(), r"say Hang\(...\)"),  # type: ignore[dict-item]
        (lambda: inject(ResilientClient(scripted()), Hang()).__enter__(), r"per provider id.*not as Hang\(\)"),  # type: ignore[arg-type]
        (lambda: Faults([(0, 1, Hang)]), r"say Hang\(...\)"),  # type: ignore[list-item]
        (lambda: Faults([("0", 1, Hang())]), "start must be a number, not '0'"),  # type: ignore[list-item]
        (lambda: Latency("1"), "seconds must be a number, not '1'"),  # type: ignore[arg-type]
    ],
)
def test_what_makes_no_sense_is_named_with_what_would(make: Callable[[], object], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        make()


def test_a_schedule_in_a_variable_has_a_type() -> None:
    lines: Schedule = [(0, 10, Status(503)), (10, 20, Hang(), 0.5)]
    assert len(Faults(lines).schedule) == 2
