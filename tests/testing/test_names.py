"""The public names of the test kit."""

from __future__ import annotations

from resilient_llm import testing

MOST = 30


def test_there_are_few_of_them_and_each_can_be_imported() -> None:
    assert len(testing.__all__) <= MOST
    for name in testing.__all__:
        assert getattr(testing, name) is not None
