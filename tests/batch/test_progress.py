"""What is shown of a run."""

from __future__ import annotations

import io
import sys

import pytest

from resilient_llm import ChatResponse, ResilientClient, Text
from resilient_llm.batch import progress
from resilient_llm.batch.progress import Progress, Tally, duration, line
from resilient_llm.batch.results import MapResult
from resilient_llm.model import Usage
from resilient_llm.providers import Function


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def tally(total: int | None = 1000) -> Tally:
    found = Tally(100.0, total)
    for index in range(40):
        found.add(MapResult(index, index, ChatResponse((Text("x"),), usage=Usage(10, 5)), None, index < 10))
    found.add(MapResult(40, 40, None, ValueError("x")))
    found.under_way, found.waiting = 8, 3
    return found


def test_a_line_says_how_far_it_is() -> None:
    assert line(tally(), 110.0) == (
        "41/1,000  10 from before  3.1/s  8 under way, 3 waiting  1 failed  450 tokens  5:09 left"
    )
    assert line(tally(None), 110.0) == "41  10 from before  3.1/s  8 under way, 3 waiting  1 failed  450 tokens"


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    found = Tally(0.0, None)
    for second in range(100):
        if second < 50:
            found.add(MapResult(second, second, ChatResponse(())))
        found.rate(float(second))
    assert found.rate(100.0) == 0.0


@pytest.mark.parametrize(("seconds", "told"), [(3.2, "3 s"), (61, "1:01"), (3600 + 125, "1:02:05")])
def test_a_duration(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_in_a_log_a_line_now_and_then() -> None:
    out = io.StringIO()
    shown = Progress(out)
    for second in range(26):
        shown.show(tally(), 100.0 + second)
    assert out.getvalue().count("\n") == 2
    shown.show(tally(), 126.0, last=True)
    assert out.getvalue().splitlines()[-1].startswith("41/1,000")


def test_on_a_terminal_a_bar_of_rich() -> None:
    pytest.importorskip("rich")
    out = Screen()
    shown = Progress(out)
    for second in range(5):
        shown.show(tally(), 100.0 + second)
    shown.show(tally(), 106.0, last=True)
    assert "41/1,000" in out.getvalue()
    assert "━" in out.getvalue()
    assert "left" in out.getvalue()


def test_on_a_terminal_without_rich_a_line_that_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_live", lambda out: None)
    out = Screen()
    shown = Progress(out)
    for second in range(5):
        shown.show(tally(), 100.0 + second)
    assert out.getvalue().count("\r") == 4
    assert "\n" not in out.getvalue()
    shown.show(tally(), 106.0, last=True)
    assert out.getvalue().endswith("\n")


def test_a_run_shows_its_end(capsys: pytest.CaptureFixture[str]) -> None:
    with ResilientClient([Function(lambda request: "x")]) as client:
        list(client.map(["a", "b"], progress=True))
        assert "2/2" in capsys.readouterr().err
        with client.map(iter(["a", "b"]), progress=True) as results:
            next(results)
    assert "under way" in capsys.readouterr().err
    assert sys.stderr is not None
