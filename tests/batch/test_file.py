"""The file of results: written whole, read back, recovered after a crash, refused where it is something else."""

from __future__ import annotations

import errno
import json
import os
import random
import tracemalloc
from pathlib import Path

import pytest

from resilient_llm import CallFailed, ChatResponse, ConfigurationError, InvalidRequest, Message, RequestRejected, Text
from resilient_llm.batch.file import ResultsFile, Spans
from resilient_llm.batch.prompts import digest, read
from resilient_llm.batch.results import MapResult, as_line, lasting, read_line
from resilient_llm.errors import AllAttemptsFailed, Fault, FaultKind
from resilient_llm.model import Choice, Media, Thought, Tool, ToolCall, Usage


def line(index: int, text: str = "answer", told: str = "d") -> bytes:
    return as_line(MapResult(index, index, ChatResponse((Text(text),))), told)


@pytest.mark.parametrize("seed", range(20))
def test_spans_are_a_set_of_numbers(seed: int) -> None:
    luck, spans, numbers = random.Random(seed), Spans(), set[int]()
    for _ in range(200):
        number = luck.randrange(60)
        assert spans.add(number) is (number not in numbers)
        numbers.add(number)
        assert len(spans) == len(numbers)
    assert [number for number in range(-1, 61) if number in spans] == sorted(numbers)


@pytest.mark.parametrize(
    "response",
    [
        ChatResponse((Text("a\nb \u2028 ü 😀"),), usage=Usage(3, 4, cache_read_tokens=2), model="m", provider="p"),
        ChatResponse((Thought("hm", signature="s", origin="anthropic_messages"), Text("x"), ToolCall("1", "f", "{}"))),
        ChatResponse((Text("a"),), "length", alternatives=(Choice((Text("b"),), "stop"),)),
        ChatResponse((Text("a"), Text("b"))),
        ChatResponse(()),
    ],
)
def test_an_answer_comes_back_as_it_was(response: ChatResponse) -> None:
    data = as_line(MapResult(7, "k", response), "d")
    assert data.count(b"\n") == 1
    back = read_line(data).result()
    assert back == MapResult(7, "k", response, None, True)


@pytest.mark.parametrize(
    "error",
    [InvalidRequest("messages must be"), RequestRejected("no", fault=Fault(FaultKind.BAD_REQUEST, status=400))],
)
def test_an_error_comes_back_as_far_as_it_can(error: Exception) -> None:
    back = read_line(as_line(MapResult(0, "k", None, error), "d")).result()
    assert type(back.error) is type(error)
    assert str(back.error) == str(error)
    with pytest.raises(type(error)):
        _ = back.answer
    if isinstance(error, CallFailed):
        assert isinstance(back.error, CallFailed)
        assert (back.error.kind, back.error.status_code) == (error.kind, error.status_code)


def test_only_errors_that_would_come_again_last() -> None:
    assert lasting(InvalidRequest("x"))
    assert lasting(RequestRejected("x"))
    assert not lasting(AllAttemptsFailed("x"))


def test_results_are_found_in_the_order_of_the_prompts(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    file = ResultsFile(path)
    order = [3, 0, 1, 5, 2, 8]
    assert all(file.append(line(index, f"t{index}")) for index in order)
    file.close()
    again = ResultsFile(path)
    assert len(again) == 6
    found = [again.saved(index, "d") for index in range(10)]
    assert [one.fields["text"] for one in found if one] == [f"t{index}" for index in sorted(order)]
    assert [index for index, one in enumerate(found) if one] == sorted(order)
    again.close()
    assert not again.append(line(9))


@pytest.mark.parametrize("cut", [1, 5, 20, 60, -1])
def test_half_a_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(line(0) + line(1)[:cut])
    file = ResultsFile(path)
    assert len(file) == 1
    file.append(line(1))
    file.close()
    assert path.read_bytes() == line(0) + line(1)


def test_blocks_that_were_never_written_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(line(0) + b"\0" * 100)
    ResultsFile(path).close()
    assert path.read_bytes() == line(0)


@pytest.mark.parametrize(
    "content",
    [
        b'{"prompt": "my only copy"}\n',
        b"my notes",
        b'{"index": 0}\n' + line(1),
        line(0) + b"\n" + line(1),
        line(0) + b"notes",
        b'{"index": -1, "key": 0, "prompt": "d", "text": ""}\n' + line(1),
    ],
)
def test_what_is_no_file_of_results_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="is no file of results: line"):
        ResultsFile(path)
    assert path.read_bytes() == content


def test_a_prompt_that_is_there_twice_is_told(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(line(0) + line(0))
    with pytest.raises(ConfigurationError, match="two results of prompt 0: line 2"):
        ResultsFile(path)


def test_results_of_other_prompts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(line(0, told="d"))
    file = ResultsFile(path)
    with pytest.raises(ConfigurationError, match="results of other prompts"):
        file.saved(0, "e")
    file.close()


def test_a_disk_that_is_full_leaves_no_half_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = ResultsFile(tmp_path / "r.jsonl")
    file.append(line(0))
    write = os.write

    def half(to: int, data: bytes) -> int:
        monkeypatch.setattr("os.write", fails)
        return write(to, data[: len(data) // 2])

    def fails(to: int, data: bytes) -> int:
        monkeypatch.setattr("os.write", write)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.write", half)
    with pytest.raises(OSError, match=r"No space left on device: '.*r\.jsonl'"):
        file.append(line(1))
    assert (tmp_path / "r.jsonl").read_bytes() == line(0)
    file.close()


def test_two_runs_at_once_are_told_apart(tmp_path: Path) -> None:
    pytest.importorskip("fcntl")
    file = ResultsFile(tmp_path / "r.jsonl")
    with pytest.raises(ConfigurationError, match="another run"):
        ResultsFile(tmp_path / "r.jsonl")
    file.close()
    ResultsFile(tmp_path / "r.jsonl").close()


def test_it_is_brought_to_the_disk_once_a_second(tmp_path: Path) -> None:
    file = ResultsFile(tmp_path / "r.jsonl")
    assert not file.due(100.0)  # nothing to bring
    file.append(line(0))
    assert file.due(100.0)
    file.append(line(1))
    assert not file.due(100.5)
    assert file.due(101.0)
    file.close()
    file.sync()


def test_reading_back_takes_no_more_memory_for_more_results(tmp_path: Path) -> None:
    """Results stand nearly in the order of the prompts, so that little lies between two of them."""
    luck = random.Random(1)

    def peak(count: int) -> int:
        path = tmp_path / f"{count}.jsonl"
        order = sorted(range(count), key=lambda index: index + luck.uniform(0, 50))
        path.write_bytes(b"".join(map(line, order)))
        tracemalloc.start()
        file = ResultsFile(path)
        assert all(file.saved(index, "d") for index in range(count))
        file.close()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(100)
    assert peak(6000) < 1.5 * peak(1000)


# --- which prompt it was ---


def told(item: object, index: int = 0, **options: object) -> str:
    return digest(read(item, index, options))  # type: ignore[arg-type]


def test_the_same_question_has_the_same_digest_in_every_process() -> None:
    assert told("hi") == "a00792997e412846"
    assert told("hi") == told((0, "hi")) == told((0, "hi", {"deadline": 5})) == told("hi", route="r")


def test_another_question_has_another_digest() -> None:
    items: list[object] = [
        "hi",
        "ho",
        ("k", "hi"),
        ("k", "hi", {"max_tokens": 5}),
        ("k", "hi", {"system": "s"}),
        ("k", "hi", {"tools": [Tool("f")]}),
        ("k", "hi", {"tools": [Tool("g")]}),
        [("user", "hi")],
        [("user", "hi"), ("assistant", "ho")],
        [Message("user", (Text("hi"),))],
        [Message("user", (Text("hi"), Media("image", "image/png", b"1")))],
        [Message("user", (Text("hi"), Media("image", "image/png", b"2")))],
    ]
    assert len({told(item) for item in items}) == len(items)
    assert told("hi", 0) != told("hi", 1)


def test_a_line_is_plain_json() -> None:
    fields = json.loads(line(3, "x"))
    assert list(fields)[:4] == ["index", "key", "prompt", "text"]
