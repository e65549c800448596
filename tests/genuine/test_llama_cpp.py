"""End to end against llama.cpp's own server: a real HTTP stack, real framing, real error bodies, real deaths."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from resilient_llm import (
    AllAttemptsFailed,
    AsyncResilientClient,
    FaultKind,
    RequestRejected,
    ResilientClient,
    StreamInterrupted,
)
from resilient_llm.policy import Retry, Timeouts
from resilient_llm.providers import LlamaCpp, OpenAICompatible
from tests.genuine.server import LlamaServer, make_model

pytest.importorskip("xllamacpp", reason="the peers extra is not installed")
pytest.importorskip("gguf", reason="the peers extra is not installed")

pytestmark = pytest.mark.genuine

PROMPT = [{"role": "user", "content": "the of and to"}]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("models")
    slow = ("--dim", "256", "--layers", "8", "--heads", "8", "--ff", "768")
    return make_model(folder / "tiny.gguf"), make_model(folder / "slow.gguf", *slow)


@pytest.fixture
def pair(models: tuple[Path, Path]) -> Iterator[tuple[LlamaServer, LlamaServer]]:
    with LlamaServer(models[1], wait=False) as first, LlamaServer(models[0], wait=False) as second:
        first.wait_until_ready()
        second.wait_until_ready()
        yield first, second


def providers(first: LlamaServer, second: LlamaServer) -> list[OpenAICompatible]:
    return [LlamaCpp("slow", id="first", base_url=first.url), LlamaCpp("tiny", id="second", base_url=second.url)]


stopped: list[float] = []


def read(client: ResilientClient, then: Callable[[], None]) -> None:
    """Read a long stream, and do something to its server after a few tokens."""
    with client.stream(PROMPT, max_tokens=2000) as stream:
        for count, _ in enumerate(stream.text_deltas()):
            if count == 4:
                then()
                stopped.append(time.monotonic())


def test_chat_and_stream_agree_with_a_real_server(pair: tuple[LlamaServer, LlamaServer]) -> None:
    with ResilientClient(providers(*pair), deadline=60) as client:
        whole = client.chat(PROMPT, max_tokens=12, temperature=0, seed=1)
        assert whole.text
        assert whole.provider == "first"
        assert whole.finish_reason == "length"
        assert whole.usage is not None
        assert whole.usage.output_tokens == 12
        with client.stream(PROMPT, max_tokens=12, temperature=0, seed=1) as stream:
            text = "".join(stream.text_deltas())
        assert text == whole.text
        assert stream.response.finish_reason == "length"
        assert stream.response.usage is not None
        assert stream.response.usage.output_tokens == 12


def test_a_prompt_beyond_its_window_is_the_caller_s_problem(pair: tuple[LlamaServer, LlamaServer]) -> None:
    with ResilientClient(providers(*pair)[:1], deadline=60) as client:
        with pytest.raises((RequestRejected, AllAttemptsFailed)) as failure:
            client.chat("the of and to in " * 4000, max_tokens=5)
        assert failure.value.fault is not None
        assert failure.value.fault.kind is FaultKind.CONTEXT_LENGTH
        assert client.health()["first"].breaker == "closed"


def test_a_loading_server_is_passed_over_and_used_once_it_is_ready(models: tuple[Path, Path]) -> None:
    with (
        LlamaServer(models[0]) as ready,
        LlamaServer(models[1], wait=False) as loading,
        ResilientClient(providers(loading, ready), deadline=60) as client,
    ):
        assert client.chat(PROMPT, max_tokens=3).provider in ("first", "second")
        loading.wait_until_ready()
        until = time.monotonic() + 60
        while client.chat(PROMPT, max_tokens=3).provider != "first":
            assert time.monotonic() < until, client.explain()
            client.restore("first")


def test_a_killed_server_is_failed_over(pair: tuple[LlamaServer, LlamaServer]) -> None:
    first, second = pair
    with ResilientClient(providers(first, second), deadline=30) as client:
        assert client.chat(PROMPT, max_tokens=3).provider == "first"
        first.kill()
        reply = client.chat(PROMPT, max_tokens=3)
        assert reply.provider == "second"
        assert [attempt.outcome for attempt in reply.attempts] == ["error", "success"]


def test_a_stream_cut_by_a_killed_server_is_not_taken_for_an_answer(pair: tuple[LlamaServer, LlamaServer]) -> None:
    first, second = pair
    with ResilientClient(providers(first, second), deadline=60) as client:
        with pytest.raises(StreamInterrupted) as broken:
            read(client, then=first.kill)
        assert broken.value.partial is not None
        assert broken.value.partial.text
        assert broken.value.attempts[-1].provider == "first"
        assert client.chat(PROMPT, max_tokens=3).provider == "second"


def test_a_frozen_server_is_a_stall_in_a_stream(pair: tuple[LlamaServer, LlamaServer]) -> None:
    first, second = pair
    patience = Timeouts(idle=1.0)
    with ResilientClient(providers(first, second), deadline=60, timeouts=patience) as client:
        with pytest.raises(StreamInterrupted) as broken:
            read(client, then=first.freeze)
        waited = time.monotonic() - stopped[-1]
        assert broken.value.fault is not None
        assert broken.value.fault.kind is FaultKind.TIMEOUT
        assert 0.9 < waited < 5.0
        first.thaw()


def test_a_frozen_server_costs_its_first_token_timeout_and_no_more(pair: tuple[LlamaServer, LlamaServer]) -> None:
    first, second = pair
    patience = Timeouts(first_token=1.0)
    with ResilientClient(providers(first, second), deadline=30, timeouts=patience, retry=Retry()) as client:
        first.freeze()
        began = time.monotonic()
        with client.stream(PROMPT, max_tokens=3) as stream:
            assert "".join(stream.text_deltas())
            assert stream.provider == "second"
        assert time.monotonic() - began < 5.0
        first.thaw()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_async_client_cancels_a_real_generation(pair: tuple[LlamaServer, LlamaServer], backend: str) -> None:
    async def main() -> None:
        async with AsyncResilientClient(providers(*pair), deadline=60) as client:
            with anyio.move_on_after(1.0) as scope:
                await client.chat(PROMPT, max_tokens=100_000 // 40)
            assert scope.cancelled_caught
            assert client.health()["first"].in_flight == 0
            assert client.health()["first"].breaker == "closed"
            async with client.stream(PROMPT, max_tokens=5) as stream:
                assert [text async for text in stream.text_deltas()]

    anyio.run(main, backend=backend)
