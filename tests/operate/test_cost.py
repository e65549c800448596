"""What calls cost: counted, bounded by call and by period, chosen by.  Real sockets, three kinds of client."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from typing import Any

import pytest

from resilient_llm import ResilientClient
from resilient_llm.decide.attempt import Ask
from resilient_llm.errors import (
    AllAttemptsFailed,
    ConfigurationError,
    InvalidRequest,
    NoProviderAvailable,
    StreamInterrupted,
)
from resilient_llm.faults import AttemptRecord, Fault, FaultKind
from resilient_llm.model import ChatRequest, EmbedRequest, Media, Message, Text, ToolResult, Usage
from resilient_llm.operate.cost import Budget, Price, Prices, track
from resilient_llm.operate.cost.budget import period_at
from resilient_llm.operate.cost.purse import Bound, Purse, Reasons
from resilient_llm.operate.cost.worst import most_tokens
from resilient_llm.operate.endpoints import http_status
from resilient_llm.testing import Cut, Hang, LoopbackLLM, Reply, Reset, ScriptedProvider, Status
from tests.drive.clients import Client, World, eventually, openai, world

__all__ = ["world"]

PRICES = Prices({"first": Price(input=1.0, output=10.0), "second": Price(input=2.0, output=20.0)})
USAGE = Usage(input_tokens=1000, output_tokens=100)
ANSWER = Reply("An answer.", usage=USAGE)


@pytest.fixture
def sync_world() -> Iterator[World]:
    made = World("sync")
    yield made
    made.end()


def pair(world: World, **settings: Any) -> tuple[Client, LoopbackLLM, LoopbackLLM]:
    client, first, second = world.pair(**settings)
    first.default = second.default = ANSWER
    return client, first, second


# --- counting ---


def test_an_answer_is_counted_with_its_cost(world: World) -> None:
    client, _, _ = pair(world)
    costs = track(client.raw, PRICES)
    client.chat()
    client.stream().text()
    spent = costs.total()
    assert (spent.attempts, spent.answers, spent.input_tokens, spent.output_tokens) == (2, 2, 2000, 200)
    assert spent.cost == pytest.approx(2 * 0.002)
    assert (spent.wasted_cost, spent.untold, spent.unpriced) == (0.0, 0, 0)
    assert costs.by("provider").keys() == {"first"}
    assert costs.by("model").keys() == {"first"}
    assert costs.by("route").keys() == {"default"}
    assert all(len(key) > 3 and key != "k" for key in costs.by("key"))


def test_errors_cost_nothing_and_failovers_are_counted_where_they_were_answered(world: World) -> None:
    client, first, _ = pair(world)
    costs = track(client.raw, PRICES)
    first.default = Status(500)
    client.chat()
    spent = costs.by("provider")
    assert spent.keys() == {"second"}
    assert spent["second"].cost == pytest.approx(0.004)


def test_a_rejected_answer_is_wasted(world: World) -> None:
    client, _, _ = pair(world)
    costs = track(client.raw, PRICES)
    client.chat(validate=lambda response: response.provider == "second")
    spent = costs.by("provider")
    assert (spent["first"].answers, spent["first"].wasted_tokens) == (0, 1100)
    assert spent["first"].wasted_cost == pytest.approx(0.002)
    assert costs.total().wasted_cost == pytest.approx(0.002)


def test_a_broken_stream_is_wasted_as_far_as_it_came(world: World) -> None:
    client, first, _ = pair(world)
    costs = track(client.raw, PRICES)
    first.default = Reply(pieces=("x" * 400, "y" * 400, "z"), fault=Cut(after=2))
    with pytest.raises(StreamInterrupted):
        client.stream("p" * 4000).text()
    spent = costs.total()
    assert (spent.attempts, spent.answers) == (1, 0)
    assert spent.input_tokens == 1000  # estimated: a quarter of its characters
    assert spent.output_tokens == 200
    assert spent.wasted_cost == spent.cost > 0.0


def test_a_stream_that_is_closed_early_is_wasted_as_far_as_it_came(world: World) -> None:
    client, first, _ = pair(world)
    costs = track(client.raw, PRICES)
    first.default = Reply(pieces=("x" * 400,) * 5, interval=0.3)
    stream = client.stream("p" * 400)
    while not getattr(next(stream), "text", ""):
        pass
    stream.close()
    eventually(lambda: costs.total().attempts == 1)
    assert costs.total().wasted_tokens >= 200


def test_the_loser_of_a_race_is_wasted(world: World) -> None:
    client, first, _ = pair(world, hedge={"ratio": 1.0}, advanced={"rescue_min": 0.05, "rescue_max": 0.1})
    costs = track(client.raw, PRICES)
    first.default = Hang()
    client.chat("p" * 4000, deadline=1.0)
    spent = costs.by("provider")
    assert spent["first"].answers == 0
    assert spent["first"].wasted_tokens == 1000
    assert spent["second"].answers == 1


def test_an_answer_without_usage_and_one_without_price_are_named(sync_world: World) -> None:
    client, first, _ = pair(sync_world)
    costs = track(client.raw, Prices({"other": Price(input=1, output=1)}))
    first.default = Reply(usage=None)
    client.chat()
    spent = costs.total()
    assert (spent.untold, spent.unpriced, spent.cost) == (1, 1, 0.0)


def test_embeddings_are_counted(sync_world: World) -> None:
    client, _, _ = pair(sync_world)
    costs = track(client.raw, PRICES)
    client.embed(["a", "b"])
    assert costs.total().answers == 1


def test_costs_are_counted_once(sync_world: World) -> None:
    client, _, _ = pair(sync_world)
    track(client.raw, PRICES)
    with pytest.raises(ConfigurationError, match="counted already"):
        track(client.raw)


def test_a_child_process_counts_from_nothing(sync_world: World) -> None:
    client, _, _ = pair(sync_world)
    costs = track(client.raw, PRICES, budgets=[Budget(1.0)])
    client.chat()
    costs.reset_after_fork()
    assert costs.total().attempts == 0
    assert costs.budgets()[0].spent == 0.0


# --- the most a call may cost ---


def test_a_call_that_may_cost_more_goes_to_a_cheaper_provider_or_nowhere(world: World) -> None:
    prices = Prices({"first": Price(input=0, output=100.0), "second": Price(input=0, output=10.0)})
    client, first, _ = pair(world)
    track(client.raw, prices)
    answer = client.chat(max_tokens=1000, max_cost=0.05)  # 0.1 at most at the first
    assert answer.provider == "second"
    with pytest.raises(NoProviderAvailable) as caught:
        client.chat(max_tokens=1000, max_cost=0.005)
    assert "may cost 0.1" in caught.value.reasons["first"]
    assert "and 0.005 of max_cost= is left" in caught.value.reasons["second"]
    assert len(first.requests) == 0
    assert client.raw.explain("hi", max_tokens=1000, max_cost=0.05)[0].reason.startswith("may cost 0.1")


def test_a_rescue_that_would_cost_too_much_is_not_sent(world: World) -> None:
    client, first, second = pair(world, hedge={"ratio": 1.0}, advanced={"rescue_min": 0.05, "rescue_max": 0.1})
    track(client.raw, PRICES)
    first.default = Reply(delay=0.4, usage=USAGE)
    answer = client.chat(max_tokens=100, max_cost=0.003, deadline=5.0)  # 0.001 and 0.002 and a little for the prompts
    assert answer.provider == "first"
    assert not second.requests


def test_an_attempt_that_was_cut_off_keeps_its_worst_case_and_an_error_gives_it_back(world: World) -> None:
    client, first, second = pair(world, hedge={"enabled": False})
    track(client.raw, PRICES)
    first.default = Reset()
    with pytest.raises(AllAttemptsFailed) as caught:
        client.chat(max_tokens=100, max_cost=0.0025, deadline=5.0)  # 0.001 at the first, 0.002 at the second
    assert [record.provider for record in caught.value.attempts] == ["first", "first"]
    assert not second.requests
    first.default = Status(500)
    client.raw.restore("first")
    assert client.chat(max_tokens=100, max_cost=0.0025).provider == "second"


@pytest.mark.parametrize("stream", [False, True])
def test_a_limit_needs_an_end_of_the_answer(sync_world: World, stream: bool) -> None:
    client, _, _ = pair(sync_world)
    track(client.raw, PRICES)
    with pytest.raises(InvalidRequest, match="needs max_tokens="):
        (client.stream if stream else client.chat)(max_cost=1.0)


def test_a_model_without_a_price_is_not_asked_where_there_is_a_limit(sync_world: World) -> None:
    client, _, _ = pair(sync_world)
    track(client.raw, Prices({"second": Price(input=1, output=1)}))
    assert client.chat(max_tokens=10, max_cost=1.0).provider == "second"


@pytest.mark.parametrize(("option", "value"), [("max_cost", 0.1), ("prefer", "cheap")])
def test_without_prices_nothing_can_be_limited_or_preferred(sync_world: World, option: str, value: object) -> None:
    client, _, _ = pair(sync_world)
    with pytest.raises(InvalidRequest, match=rf"{option}= needs prices: resilient_llm\.operate\.cost\.track"):
        client.chat(**{option: value})


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_cost": 0}, "max_cost must be a number above 0 or None, not 0"),
        ({"max_cost": float("nan")}, "max_cost must be a number above 0"),
        ({"max_cost": True}, "max_cost must be a number above 0"),
        ({"prefer": "good"}, "prefer must be 'cheap', 'fast', 'balanced' or None, not 'good'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    client = ResilientClient([ScriptedProvider()])
    with pytest.raises(InvalidRequest, match=told):
        client.with_options(**options)


def test_the_most_tokens_are_bounded_by_bytes() -> None:
    request = ChatRequest((Message("user", (Text("é" * 10),)),), max_tokens=50, n=2)
    assert most_tokens(request) == (36, 100)
    assert most_tokens(EmbedRequest(("abc", "d"))) == (36, 0)
    result = ToolResult("1", (Text("x" * 5),))
    assert most_tokens(ChatRequest((Message("tool", (result,)),), max_tokens=1))[0] == 37
    with pytest.raises(InvalidRequest, match="cannot bound a call with media"):
        most_tokens(ChatRequest((Message("user", (Media("image", url="u"),)),), max_tokens=1))


TARGETS = [
    type("Target", (), {"id": name, "model": name, "vendor": "v", "host": None, "port": None})() for name in "abc"
]


@pytest.mark.parametrize("seed", range(30))
def test_attempts_together_never_cost_more_than_the_limit(seed: int) -> None:
    """Whatever is asked in which order, whatever becomes of it, and whatever each attempt really costs."""
    dice = random.Random(seed)
    worst = {target.id: dice.uniform(0.1, 1.0) for target in TARGETS}
    limit = dice.uniform(0.5, 3.0)
    price = Price(input=0.0, output=1e6)  # an output token costs 1
    purse = Purse(Ask("r"), Bound(limit, worst), lambda _: price, lambda _: None)
    ask, real, running = purse.screen(Ask("r")), 0.0, dict[int, Any]()
    for number in range(1, 200):
        if running and dice.random() < 0.5:
            done, target = running.popitem()
            real += _settle(purse, done, dice, worst[target.id])
        allowed = [target for target in TARGETS if target.id not in ask.unsuitable]
        if allowed:
            running[number] = dice.choice(allowed)
            purse.reserve(number, running[number])
            ask = purse.screen(ask)
        assert real + sum(worst[target.id] for target in running.values()) <= limit + 1e-9
        assert purse.spent <= limit + 1e-9


def _settle(purse: Purse, number: int, dice: random.Random, most: float) -> float:
    """One way in which an attempt may end; what it really cost."""
    way, cost = dice.randrange(3), 0.0
    if way == 0:
        record = _record(number, Fault(FaultKind.SERVER_ERROR, status=500))
        purse.settle(number, record, None, None)
        return 0.0
    if way == 1:  # it hung, and nobody knows what it cost
        purse.settle(number, _record(number, Fault(FaultKind.TIMEOUT)), None, None)
        return dice.uniform(0.0, most)
    purse.settle(number, _record(number, None), Usage(0, 0), None)
    return cost


def _record(number: int, fault: Fault | None) -> AttemptRecord:
    outcome = "success" if fault is None else "error"
    return AttemptRecord(number, "a", "a", "initial", outcome, fault, None, 0.1)


def test_what_a_call_rules_out_meanwhile_stays_ruled_out() -> None:
    reasons = Reasons({"a": "no"})
    reasons.rule_out({"b": "dear"})
    assert dict(reasons) == {"a": "no", "b": "dear"}
    reasons.take({**reasons, "c": "too small"})
    reasons.rule_out({})
    assert set(reasons) == {"a", "c"}
    assert len(reasons) == 2
    assert "b" not in reasons


# --- the most a period may cost ---


def budgeted(world: World, budget: Budget, **settings: Any) -> tuple[Client, LoopbackLLM, LoopbackLLM, Any]:
    client, first, second = pair(world, **settings)
    return client, first, second, track(client.raw, PRICES, budgets=[budget])


def test_when_a_budget_is_spent_calls_fail_and_say_until_when(
    sync_world: World, caplog: pytest.LogCaptureFixture
) -> None:
    client, first, _, costs = budgeted(sync_world, Budget(0.003, "day"))
    client.chat()
    client.chat()
    with caplog.at_level(logging.WARNING), pytest.raises(NoProviderAvailable) as caught:
        client.chat()
    assert "the budget of 0.003 per day is spent (0.004); it starts anew in" in caught.value.reasons["first"]
    assert [record.message for record in caplog.records if record.name == "resilient_llm.operate"] == [
        caught.value.reasons["first"]
    ]
    [state] = costs.budgets()
    assert state.is_spent
    assert 0 < state.ends_in <= 86400
    assert caught.value.retry_after == pytest.approx(state.ends_in, abs=2.0)
    status = http_status(caught.value)
    assert (status.status, status.headers) == (503, {"retry-after": str(math.ceil(caught.value.retry_after))})
    assert client.chat(fallback="Sorry.").text == "Sorry."
    assert len(first.requests) == 2


def test_a_spent_budget_is_a_condition_for_alerts() -> None:
    with ScriptedWorld() as (client, _):
        costs = track(
            client, PRICES, budgets=[Budget(0.001, route="default"), Budget(0.001, "hour", "warn"), Budget(9)]
        )
        assert not list(costs.conditions(0.0))
        client.chat("hi")
        told = [(one.kind, one.subject, one.severity) for one in costs.conditions(0.0)]
        assert told == [
            ("budget_empty", "of 0.001 per day at 'default'", "critical"),
            ("budget_empty", "of 0.001 per hour", "warning"),
        ]


def test_a_budget_may_only_warn(sync_world: World, caplog: pytest.LogCaptureFixture) -> None:
    client, _, _, _ = budgeted(sync_world, Budget(0.001, "month", "warn"))
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            client.chat()
    assert len([record for record in caplog.records if "is spent" in record.message]) == 1


def test_a_spent_budget_may_leave_the_cheapest_provider(sync_world: World) -> None:
    prices = Prices({"first": Price(input=2.0, output=20.0), "second": Price(input=1.0, output=10.0)})
    client, _, _ = pair(sync_world)
    track(client.raw, prices, budgets=[Budget(0.003, "hour", "cheaper")])
    assert [client.chat().provider for _ in range(3)] == ["first", "second", "second"]


def test_a_budget_of_one_provider_passes_over_it_alone(sync_world: World) -> None:
    client, _, _, _ = budgeted(sync_world, Budget(0.001, provider="first"))
    assert [client.chat().provider for _ in range(3)] == ["first", "second", "second"]


def test_a_budget_of_one_route_holds_back_it_alone(sync_world: World) -> None:
    server = sync_world.server()
    server.default = ANSWER
    client = sync_world.client({"smart": [openai(server, "first")], "fast": [openai(server, "second")]})
    track(client.raw, PRICES, budgets=[Budget(0.001, route="smart")])
    client.chat()
    client.chat(route="fast")
    client.chat(route="fast")
    with pytest.raises(NoProviderAvailable):
        client.chat()


def test_a_new_period_begins_with_a_full_budget() -> None:
    with ScriptedWorld() as (client, wall):
        costs = track(client, PRICES, budgets=[Budget(0.001, 60.0)])
        client.chat("hi")
        with pytest.raises(NoProviderAvailable):
            client.chat("hi")
        wall[0] += 60.0
        client.chat("hi")
        assert costs.total().answers == 2
        wall[0] -= 3600.0  # the clock was set back
        client.chat("hi")


class ScriptedWorld:
    """A client without a network whose calendar obeys."""

    def __enter__(self) -> tuple[ResilientClient, list[float]]:
        provider = ScriptedProvider(id="first", default=ANSWER)
        self.client = ResilientClient([provider])
        wall = [1_000_000_000.0]
        self.client.pool.wall = lambda: wall[0]
        return self.client, wall

    def __exit__(self, *exc: object) -> None:
        self.client.close()


def test_periods_are_those_of_the_calendar() -> None:
    noon = 1_767_182_400.0  # 31 December 2025, 12:00 UTC
    assert period_at("day", noon) == (noon - 43_200.0, noon + 43_200.0)
    assert period_at("hour", noon + 5.0) == (noon, noon + 3600.0)
    assert period_at("month", noon) == (noon - 43_200.0 - 30 * 86400.0, noon + 43_200.0)
    assert period_at(10.0, noon + 13.0) == (noon + 10.0, noon + 20.0)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((0,), "amount must be a number above 0, not 0"),
        ((1, "week"), "period must be 'hour', 'day', 'month' or seconds"),
        ((1, 0.5), "period must be"),
        ((1, True), "period must be"),
        ((1, "day", "stop"), "when_spent must be 'fail', 'warn' or 'cheaper', not 'stop'"),
        ((1, "day", "cheaper", None, "a"), "not about one of them"),
    ],
)
def test_a_budget_that_makes_no_sense_is_refused(arguments: Any, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Budget(*arguments)


NOBODY = [(Budget(1, route="x"), "no route 'x'"), (Budget(1, provider="x"), "no provider")]


@pytest.mark.parametrize(("budget", "told"), NOBODY)
def test_a_budget_of_nobody_is_refused(budget: Budget, told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        track(ResilientClient([ScriptedProvider()]), budgets=[budget])


# --- choosing by price ---


def tier(prices: dict[str, float], latencies: dict[str, float] | None = None) -> ResilientClient:
    client = ResilientClient([[ScriptedProvider(id=name, default=ANSWER) for name in prices]])
    for name, latency in (latencies or {}).items():
        client.pool.pool._table.members[name].statistics.latency = latency  # pyright: ignore[reportPrivateUsage]
    track(client, Prices({name: Price(input=price, output=price) for name, price in prices.items()}))
    return client


def asked(client: ResilientClient, prefer: Any, calls: int = 20) -> list[str | None]:
    return [client.chat("hi", prefer=prefer).provider for _ in range(calls)]


def test_the_cheapest_of_equals_is_asked() -> None:
    with tier({"a": 3.0, "b": 1.0, "c": 2.0}) as client:
        assert set(asked(client, "cheap")) == {"b"}
        assert len(set(asked(client, None, 60))) > 1


def test_the_cheapest_that_is_well_is_asked() -> None:
    with tier({"a": 3.0, "b": 1.0, "c": 2.0}) as client:
        client.isolate("b")
        assert set(asked(client, "cheap")) == {"c"}


def test_a_model_without_a_price_is_the_dearest() -> None:
    with ResilientClient([[ScriptedProvider(id="x"), ScriptedProvider(id="a")]]) as client:
        track(client, Prices({"a": Price(input=1, output=1)}))
        assert set(asked(client, "cheap")) == {"a"}


def test_a_free_one_is_the_cheapest() -> None:
    with tier({"a": 0.01, "b": 0.0}) as client:
        assert set(asked(client, "cheap")) == {"b"}
