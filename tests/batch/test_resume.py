"""A run that is killed takes up where it was: every prompt once, nothing lost that was returned, memory flat.

The long version: ``python -m pytest tests/batch/test_resume.py -m slow`` (100,000 prompts, ten kills).
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient_llm import AllAttemptsFailed, ConfigurationError, RequestRejected, ResilientClient
from resilient_llm.errors import FaultKind, ProviderError
from resilient_llm.model import ChatRequest
from resilient_llm.providers import Function

ROOT = Path(__file__).parents[2]


def start(count: int, file: Path, kind: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.batch.batch_of", str(count), str(file), kind]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def killed_again_and_again(count: int, kills: int, file: Path, kind: str, luck: random.Random) -> list[int]:
    """Run it, killing it so many times after a random share of its results; then to its end.  Returns the greatest
    memory of each run that ended, in KiB."""
    returned: set[int] = set()
    for number in range(kills):
        run = start(count, file, kind)
        assert run.stdout is not None
        upto = count * (number + luck.random()) / (kills + 1)
        for line in run.stdout:
            returned.add(int(line))
            if len(returned) >= upto:
                break
        run.send_signal(signal.SIGKILL)
        returned |= {int(line) for line in run.stdout.read().splitlines(keepends=True) if line.endswith("\n")}
        run.stdout.close()
        assert run.wait(10) == -signal.SIGKILL
        data = file.read_bytes()
        kept = {json.loads(line)["index"] for line in data[: data.rfind(b"\n") + 1].splitlines()}
        assert returned <= kept, "an answer was returned and is not in the file"
    last = start(count, file, kind)
    out, _ = last.communicate(timeout=600)
    *indices, memory = out.split("\n")[:-1]
    assert sorted(map(int, indices)) == list(range(count))
    found = Counter(json.loads(line)["index"] for line in file.read_bytes().splitlines())
    assert found == Counter(range(count)), "a prompt is not exactly once in the file"
    return [int(memory.split()[1])]


@pytest.mark.parametrize(("kind", "kills"), [("threads", 2), ("tasks", 1)])
def test_a_run_that_is_killed_takes_up_where_it_was(tmp_path: Path, kind: str, kills: int) -> None:
    killed_again_and_again(800, kills, tmp_path / "results.jsonl", kind, random.Random(kind))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["threads", "tasks"])
def test_100_000_prompts_killed_ten_times(tmp_path: Path, kind: str) -> None:
    small = killed_again_and_again(2000, 0, tmp_path / "small.jsonl", kind, random.Random(1))
    large = killed_again_and_again(100_000, 10, tmp_path / "results.jsonl", kind, random.Random(2))
    print(f"{kind}: greatest memory {small[0] / 1024:.1f} MiB with 2,000 prompts, {large[0] / 1024:.1f} with 100,000")
    assert large[0] < small[0] + 4 * 1024


# --- in one process ---


def run(file: Path, prompts: Any, call: Any = lambda request: "x", **options: Any) -> list[Any]:
    with ResilientClient([Function(call)]) as client:
        return list(client.map(prompts, save_to=file, **options))


def test_what_is_there_is_not_asked_again(tmp_path: Path) -> None:
    asked: list[str] = []

    def call(request: ChatRequest) -> str:
        asked.append(request.messages[-1].text)
        return "x"

    file = tmp_path / "r.jsonl"
    prompts = [str(number) for number in range(20)]
    assert not any(result.saved for result in run(file, prompts[:10], call))
    results = run(file, prompts, call)
    assert [result.saved for result in results] == [True] * 10 + [False] * 10
    assert [result.answer.text for result in results] == ["x"] * 20
    assert [result.answer.provider for result in results] == ["function/call"] * 20
    assert sorted(asked) == sorted(prompts)


def test_leaving_early_loses_nothing_that_was_returned(tmp_path: Path) -> None:
    file = tmp_path / "r.jsonl"
    with ResilientClient([Function(lambda request: "x")]) as client:
        for result in client.map(map(str, range(1000)), save_to=file, ordered=False):
            if result.index == 50:
                break
        again = list(client.map(map(str, range(1000)), save_to=file))
    assert len(again) == 1000
    assert len(file.read_text().splitlines()) == 1000


def test_an_error_that_may_pass_is_asked_again_and_one_that_will_not_is_kept(tmp_path: Path) -> None:
    well = False

    def call(request: ChatRequest) -> str:
        if request.messages[-1].text == "bad":
            raise ProviderError("no", kind=FaultKind.BAD_REQUEST)
        if request.messages[-1].text == "unlucky" and not well:
            raise ProviderError("no money", kind=FaultKind.QUOTA_EXHAUSTED)
        return "x"

    file, prompts = tmp_path / "r.jsonl", ["good", "bad", "unlucky"]
    first = run(file, prompts, call, concurrency=1)
    assert [type(result.error) for result in first] == [type(None), RequestRejected, AllAttemptsFailed]
    assert len(file.read_text().splitlines()) == 2
    well = True
    second = run(file, prompts, call, concurrency=1)
    assert [type(result.error) for result in second] == [type(None), RequestRejected, type(None)]
    assert [result.saved for result in second] == [True, True, False]
    assert [json.loads(line)["index"] for line in file.read_text().splitlines()] == [0, 1, 2]


@pytest.mark.parametrize(
    "prompts", [["a", "c"], ["b", "a"], [("k", "a"), "b"], [("user", "a"), "b"], [("k", "a", {"max_tokens": 2}), "b"]]
)
def test_a_file_of_other_prompts_is_refused_and_left_alone(tmp_path: Path, prompts: list[Any]) -> None:
    file = tmp_path / "r.jsonl"
    run(file, ["a", "b"])
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="results of other prompts"):
        run(file, prompts)
    assert file.read_bytes() == before
    run(file, ["a", "b"], deadline=5, route="default", concurrency=1)


def test_a_file_that_cannot_be_written_ends_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="No such file or directory"):
        run(tmp_path / "nowhere" / "r.jsonl", ["a"])
    full = Path("/dev/full")
    if full.exists():
        with pytest.raises(OSError, match="No space left"):
            run(full, ["a", "b"])


def test_ctrl_c_ends_it_at_once_and_the_next_run_takes_up(tmp_path: Path) -> None:
    code = f"""
import sys, time
from resilient_llm import ResilientClient
from resilient_llm.providers import Function
def call(request):
    time.sleep(60 if request.messages[-1].text == "slow" else 0)
    return "x"
client = ResilientClient([Function(call)])
try:
    for result in client.map(["a", "slow", "b", "c"], save_to={str(tmp_path / "r.jsonl")!r}, ordered=False):
        print(result.index, flush=True)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    lines: Iterator[str] = iter(process.stdout)
    assert {next(lines) for _ in range(3)} == {"0\n", "2\n", "3\n"}
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert next(lines) == "interrupted\n"
    assert process.wait(10) == 0
    process.stdout.close()
    assert time.monotonic() - began < 8
    with ResilientClient([Function(lambda request: "y")]) as client:
        results = client.map(["a", "slow", "b", "c"], save_to=tmp_path / "r.jsonl")
        assert [result.answer.text for result in results] == ["x", "y", "x", "x"]


def test_two_runs_of_one_client_at_once(tmp_path: Path) -> None:
    with ResilientClient([Function(lambda request: "x")]) as client:
        done: list[int] = []

        def work(name: str) -> None:
            done.append(len(list(client.map(map(str, range(200)), save_to=tmp_path / name))))

        both = [threading.Thread(target=work, args=(name,)) for name in ("a", "b")]
        for one in both:
            one.start()
        for one in both:
            one.join(30)
    assert done == [200, 200]
