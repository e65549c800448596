"""The work of a call and of a chunk does not grow unnoticed: Python calls are counted, so that load does not matter."""

from __future__ import annotations

import pytest

from benchmarks.calls import BOUNDS, counts


@pytest.fixture(scope="module")
def found() -> dict[str, int]:
    return dict(counts())


@pytest.mark.parametrize("what", BOUNDS)
def test_no_more_python_functions_are_called_than_is_allowed(found: dict[str, int], what: str) -> None:
    assert found[what] <= BOUNDS[what], "make it cheaper, or raise the bound in benchmarks/calls.py and say why"


@pytest.mark.parametrize("what", BOUNDS)
def test_the_bounds_are_tight(found: dict[str, int], what: str) -> None:
    assert found[what] > 0.7 * BOUNDS[what], "it became cheaper: lower the bound in benchmarks/calls.py"
