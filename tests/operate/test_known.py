"""What is known about providers outlives a process."""

from __future__ import annotations

import json
import logging
import math
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from resilient_llm.client import ResilientClient
from resilient_llm.decide.attempt import Ask
from resilient_llm.decide.call import Call
from resilient_llm.drive.engines import Time
from resilient_llm.errors import ConfigurationError, Fault, FaultKind
from resilient_llm.operate.background import background_of
from resilient_llm.operate.known import keep, load, save
from resilient_llm.providers import OpenAI
from resilient_llm.record.keeping import TIMES
from resilient_llm.record.state import fields_of

KEY = "sk-very-secret-0123456789"


class Clock:
    """Monotonic and wall-clock time of one process."""

    def __init__(self, monotonic: float, wall: float) -> None:
        self.monotonic = monotonic
        self.wall = wall

    def advance(self, seconds: float) -> None:
        self.monotonic += seconds
        self.wall += seconds


def client(clock: Clock, *names: str, key: Any = KEY, **options: Any) -> ResilientClient:
    """A client of providers that are never sent anything, on a clock of its own."""
    made = ResilientClient(
        [
            OpenAI("m", id=name, api_key=key, base_url="https://api.example/v1", **options)
            for name in names or ("a", "b")
        ]
    )
    made.pool._set_time(Time(lambda: clock.monotonic, lambda: clock.wall, lambda seconds: None))
    return made


def call(
    used: ResilientClient, clock: Clock, fault: Fault | None = None, *, only: str = "a", took: float = 0.5
) -> None:
    """One attempt at a provider, and how it ends."""
    pool = used.pool.pool
    others = {target.id: "not this one" for target in pool.targets() if target.id != only}
    ask = Ask("default", math.inf, False, 10, 100, others)
    attempt: Any = Call(pool, ask, clock.monotonic).next_attempt(clock.monotonic)
    clock.advance(0.5)
    if fault is None:
        pool.succeeded(attempt, clock.monotonic, 20)
    else:
        pool.failed(attempt, fault, clock.monotonic)


def standing(used: ResilientClient, name: str = "a") -> dict[str, Any]:
    found = used.health()[name]
    return {one.name: getattr(found, one.name) for one in fields(found)}


def down(clock: Clock, **options: Any) -> ResilientClient:
    """A client that has found out that ``a`` is down, and ``b`` limits it."""
    used = client(clock, **options)
    for _ in range(30):
        call(used, clock)
    for _ in range(6):
        call(used, clock, Fault(FaultKind.SERVER_ERROR, status=500))
        clock.advance(1.0)
    call(used, clock, Fault(FaultKind.RATE_LIMITED, status=429, retry_after=100.0), only="b")
    return used


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "providers.json"


def approximately(found: dict[str, Any]) -> dict[str, Any]:
    return {name: pytest.approx(one) if isinstance(one, float) else one for name, one in found.items()}


# --- from process to process ---


def test_another_process_goes_on_where_this_one_stopped(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    used = down(clock)
    save(used, path)
    later = Clock(7.0, clock.wall)
    fresh = client(later)
    assert load(fresh, path) == ("a", "b")
    for name in ("a", "b"):
        before, after = standing(used, name), standing(fresh, name)
        assert after == approximately(before)
    assert standing(fresh)["breaker"] == "open"
    assert fresh.explain()[1].reason == used.explain()[1].reason


def test_what_it_learns_is_what_it_decides_by(path: Path) -> None:
    clock = Clock(100.0, 1e9)
    save(down(clock), path)
    used = client(clock)
    load(used, path)
    member = used.pool.pool.look(lambda members: members["a"])
    assert member.slowness is member.statistics.slowness


def test_it_ages_by_the_time_between(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    used = down(clock)
    save(used, path)
    fresh = client(Clock(7.0, clock.wall + 60.0))
    load(fresh, path)
    clock.advance(60.0)
    assert standing(fresh) == approximately(standing(used))
    assert standing(fresh, "b")["gate_open_in"] == pytest.approx(standing(used, "b")["gate_open_in"])


def test_a_wall_clock_that_was_set_back_makes_nothing_last_longer(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    used = down(clock)
    save(used, path)
    fresh = client(Clock(7.0, clock.wall - 5000.0))
    assert load(fresh, path) == ("a", "b")
    assert standing(fresh, "b")["gate_open_in"] == pytest.approx(standing(used, "b")["gate_open_in"])


def test_after_a_day_nothing_of_it_holds(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    save(down(clock), path)
    assert load(client(Clock(7.0, clock.wall + 86_400.0)), path) == ()


def test_every_point_in_time_is_moved() -> None:
    """Two runs of the same events, far apart, differ in exactly the fields that are declared as times."""

    def taken(start: float) -> dict[str, Any]:
        clock = Clock(start, start)
        used = down(clock)
        for _ in range(100):
            clock.advance(2.0)
            call(used, clock)
        call(used, clock, Fault(FaultKind.QUOTA_EXHAUSTED, status=429), only="b")
        members = used.pool.pool._table.members.values()
        parts = ("breaker", "gate", "own_gate", "account_gate", "statistics")
        return {f"{member.id}.{part}": fields_of(getattr(member, part)) for member in members for part in parts}

    early, late = taken(1000.0), taken(1_000_000.0)
    moved = {
        name
        for part, found in early.items()
        for name, value in found.items()
        if isinstance(value, int | float) and abs(late[part][name] - value) > 1.0 and name not in ("generation",)
    }
    assert moved <= TIMES | {"lease_ends"}
    assert {"until", "since", "trial_at", "weighed_at", "_latency_at", "seen_at"} <= moved, (
        "the events reach most of them"
    )


# --- what is the same provider ---


def test_what_was_asked_already_is_left_alone_and_others_are_not_mixed_up(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    save(down(clock), path)
    fresh = client(clock, "b", "c")
    call(fresh, clock, only="b")
    before = standing(fresh, "b")
    assert load(fresh, path) == ()
    assert standing(fresh, "b") == before


@pytest.mark.parametrize("change", [{"base_url": "https://other.example/v1"}, {"model": "n"}])
def test_the_same_id_at_another_address_is_another_provider(path: Path, change: dict[str, str]) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    save(down(clock), path)
    options: dict[str, Any] = {"base_url": "https://api.example/v1", **change}
    other = ResilientClient([OpenAI(options.pop("model", "m"), id="a", api_key=KEY, **options)])
    assert load(other, path) == ()


def test_what_is_known_of_a_key_is_for_that_key_alone(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    used = client(clock)
    call(used, clock, Fault(FaultKind.AUTH, status=401))
    save(used, path)
    same, other = client(clock), client(clock, key="sk-another-key-0000000000")
    load(same, path)
    load(other, path)
    assert standing(same)["gate_reason"] == "auth"
    assert standing(other)["gate_open_in"] is None


# --- the file ---


def test_the_file_holds_no_secret_and_is_its_owners(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    save(down(clock, headers={"x-team": "another-secret-value"}), path)
    text = path.read_text()
    assert KEY not in text
    assert "another-secret-value" not in text
    assert "api.example" not in text
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == [path.name], "nothing is left beside it"


def test_a_file_that_is_not_there_is_none(path: Path) -> None:
    assert load(client(Clock(0.0, 0.0)), path) == ()


def garbled(path: Path) -> Iterator[Callable[[dict[str, Any]], Any]]:
    yield lambda told: None
    yield lambda told: []
    yield lambda told: {**told, "now": "x"}
    yield lambda told: {**told, "providers": []}
    for part in ("breaker", "gate", "statistics", "own_gate"):
        for value in (None, [], {"unknown": 1}, {"__class__": "x"}, {"policy": 1}, {"record": 1}):
            yield lambda told, part=part, value=value: _with(told, part, value)
    for part, name in (("gate", "until"), ("breaker", "state"), ("statistics", "first"), ("statistics", "samples")):
        for value in (
            "x",
            [1],
            {"enum": "State", "value": "x"},
            {"float": "nan"},
            1e300,
            None,
            {"fields": {"_ring": "x"}},
        ):
            yield lambda told, part=part, name=name, value=value: _with(told, part, {name: value})


def _with(told: dict[str, Any], part: str, value: Any) -> dict[str, Any]:
    found = json.loads(json.dumps(told))
    found["providers"]["a"][part] = {**found["providers"]["a"][part], **value} if isinstance(value, dict) else value
    return found


def test_garbage_changes_nothing_and_raises_nothing(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    save(down(clock), path)
    told = json.loads(path.read_text())
    for number, garble in enumerate(garbled(path)):
        path.write_text(json.dumps(garble(told)))
        fresh = client(clock, "a")
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            restored = load(fresh, path)
        fresh.health()
        fresh.explain()
        call(fresh, clock)
        assert restored or caplog.messages, number
    for text in ("", "{", '{"version": 1}', "[" * 100_000, "\x00", path.read_text()[:200]):
        path.write_text(text)
        assert load(client(clock), path) == ()
    path.unlink()
    path.mkdir()
    assert load(client(clock), path) == ()


def test_what_another_version_wrote_is_not_used(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    save(down(clock), path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "version": "0.0.1"}))
    assert load(client(clock), path) == ()


# --- kept up to date ---


def test_it_is_kept_up_to_date_and_saved_at_the_end(path: Path) -> None:
    clock = Clock(5000.0, 1_000_000.0)
    used = down(clock)
    stop = keep(used, path)
    assert not path.exists()
    stop()
    fresh = client(clock)
    assert load(fresh, path) == ("a", "b")
    background_of(used.pool).close()


def test_a_disk_that_is_full_fails_nothing_and_is_told_once(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    clock = Clock(5000.0, 1_000_000.0)
    used = down(clock)
    stop = keep(used, path)
    monkeypatch.setattr("resilient_llm.operate.known.tempfile.mkstemp", full)
    with caplog.at_level(logging.WARNING):
        used.pool.beside["known"].save()  # type: ignore[attr-defined]
        stop()
    assert len(caplog.messages) == 1
    assert "No space left on device" in caplog.text
    background_of(used.pool).close()


@pytest.mark.parametrize("every", [0, -1, "x", True, 1e9])
def test_times_that_make_no_sense_are_refused(path: Path, every: Any) -> None:
    with pytest.raises(ConfigurationError, match="every must be seconds"):
        keep(client(Clock(0.0, 0.0)), path, every=every)


def test_a_process_that_ends_by_itself_has_saved(path: Path) -> None:
    code = (
        "import sys\nfrom resilient_llm import ResilientClient\nfrom resilient_llm.operate.known import keep, load\n"
        "from resilient_llm.providers import Function\n"
        "client = ResilientClient([Function(lambda request: 'hello', id='a')])\n"
        "keep(client, sys.argv[1])\nprint(client.health()['a'].samples)\nclient.chat('hi')\n"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(path)]
    told = [subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)]
    assert told == ["0", "1"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this machine")
def test_what_is_no_file_is_neither_read_nor_replaced_and_a_link_stays_one(path: Path, tmp_path: Path) -> None:
    used, pipe, link = down(Clock(5000.0, 1_000_000.0)), tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to(path)
    for one in (pipe, tmp_path):
        with pytest.raises(OSError, match="it is no file"):
            save(used, one)
        assert load(used, one) == ()
    save(used, link)
    assert link.is_symlink()
    assert path.is_file()
    background_of(used.pool).close()
