"""What going on with broken streams is worth, in the simulator."""

from __future__ import annotations

import pytest

from resilient_llm.policy import OnBreak
from resilient_llm.simulate.breaks import BREAKING, breaks, main


@pytest.mark.parametrize("schedule", BREAKING)
def test_streams_that_go_on_end_whole(schedule: str) -> None:
    ways: tuple[OnBreak, ...] = ("fail", "restart", "continue")
    fail, restart, go_on = (breaks(schedule, way, 400) for way in ways)
    assert (fail.whole, fail.output_again, fail.input_again) == (0.0, 0.0, 0.0)
    assert min(restart.whole, go_on.whole) > 0.99
    assert go_on.output_again == 0.0 < restart.output_again
    assert go_on.input_again > restart.input_again > 0.0
    assert go_on.lost <= restart.lost + 0.1


def test_the_command_prints_a_row_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["50"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2 + 5 * len(BREAKING)
    with pytest.raises(SystemExit):
        main(["0"])
