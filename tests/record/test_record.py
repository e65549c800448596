"""What users see of a decision record."""

from __future__ import annotations

import threading
from pathlib import Path

import anyio
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.__main__ import main
from resilient_llm.errors import CallFailed, ConfigurationError, InvalidRequest
from resilient_llm.record import Considered, DecisionRecord, replay
from resilient_llm.testing import ScriptedProvider, Status

SECRET = "the prompt that nobody may see"


def client_of(**settings: bool) -> ResilientClient:
    broken = ScriptedProvider(*[Status(503)] * 9, id="a")
    return ResilientClient([broken, ScriptedProvider(*["an answer that nobody may see"] * 9, id="b")], **settings)


def test_a_record_says_who_was_asked_and_why_not_the_others() -> None:
    client = client_of(record=True)
    client.drain("a")
    client.chat(SECRET)
    record = client.last_record()
    assert record is not None
    (decision,) = record.decisions
    assert (decision.what, decision.outcome, decision.detail) == ("next", "attempt", "attempt 1 (initial) at b")
    assert decision.considered == (Considered("a", "drained"), Considered("b", None))
    reason = next(one.reason for one in client.explain() if one.provider == "a")
    assert decision.considered[0].reason == reason


def test_a_record_is_written_only_where_it_is_asked_for() -> None:
    client = client_of()
    client.chat("x")
    assert client.last_record() is None
    client.chat("x", record=True)
    assert client.last_record() is not None
    assert client.with_options(record=True).chat("x").text
    with pytest.raises(InvalidRequest, match="record must be True or False, not 'yes'"):
        client.chat("x", record="yes")  # type: ignore[call-overload]
    with pytest.raises(ConfigurationError, match="record must be True or False, not 1"):
        ResilientClient([ScriptedProvider("x")], record=1)  # type: ignore[arg-type]


def test_each_thread_and_each_client_has_its_own_last_record() -> None:
    one, other = client_of(record=True), client_of(record=True)
    one.chat("x")
    assert other.last_record() is None
    seen: list[object] = []
    thread = threading.Thread(target=lambda: seen.append(one.last_record()))
    thread.start()
    thread.join()
    assert seen == [None]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_task_has_its_own_last_record(backend: str) -> None:
    async def ask(client: AsyncResilientClient, calls: list[str]) -> None:
        await client.chat("x")
        record = client.last_record()
        assert record is not None
        calls.append(record.call_id)

    async def run() -> None:
        calls: list[str] = []
        async with AsyncResilientClient([ScriptedProvider(*["x"] * 3)], record=True) as client:
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(ask, client, calls)
            assert len(set(calls)) == 3
            assert client.last_record() is None

    anyio.run(run, backend=backend)


def test_a_failed_call_is_recorded_to_its_end_without_the_providers_words() -> None:
    words = Status(400, {"error": {"message": f"cannot read: {SECRET}"}})
    client = ResilientClient([ScriptedProvider(words, id="a")], record=True)
    with pytest.raises(Exception, match=SECRET):
        client.chat(SECRET, conversation="a name that nobody may see")
    record = client.last_record()
    assert record is not None
    assert record.decisions[-1].detail == "the call failed: RequestRejected"
    assert "nobody may see" not in record.to_json() + str(record)


def test_the_command_prints_a_timeline_and_decides_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    client = client_of(record=True)
    client.chat(SECRET)
    record = client.last_record()
    assert record is not None
    path = tmp_path / "record.json"
    record.save(path)
    assert main(["explain", str(path), "--replay"]) == 0
    shown = capsys.readouterr().out
    assert "attempt 1 (initial) at a" in shown
    assert "attempt 1: failed: overloaded 503" in shown
    assert "attempt 2 (failover) at b" in shown
    changed = path.read_text().replace('"kind": "failover"', '"kind": "retry"')
    path.write_text(changed)
    assert main(["explain", str(path), "--replay"]) == 1
    assert "was: attempt 2 (retry) at b; now: attempt 2 (failover) at b" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"steps": [], "version": 99}'])
def test_a_file_that_is_no_record_is_said_to_be_none(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    assert main(["explain", str(path)]) == 2
    assert "decision record" in capsys.readouterr().err
    with pytest.raises(ConfigurationError):
        DecisionRecord.load(path)


def test_a_waiting_call_that_gives_up_is_decided_again() -> None:
    client = ResilientClient([ScriptedProvider(*[Status(503)] * 20, id="a")], record=True)
    with pytest.raises(CallFailed):
        client.chat("x", deadline=1.0, when_down="fail")
    record = client.last_record()
    assert record is not None
    assert replay(record) == record.decisions
