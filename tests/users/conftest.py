from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.users.server import Network

HERE = Path(__file__).parent


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as running:
        yield running


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The rows as they were met take minutes: they run only where ``-m`` speaks of ``slow``."""
    if "slow" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if HERE in item.path.parents and item.get_closest_marker("slow")]
    items[:] = [item for item in items if item not in left_out]
    config.hook.pytest_deselected(items=left_out)
