"""For all tests."""

from __future__ import annotations

import gc
import signal

import hypothesis  # imported later, its plugin would look for what is left out of collections
import pytest


def pytest_configure() -> None:
    """A shell starts what it sends to the background with SIGINT ignored; tests of Ctrl-C need it, and so do the
    processes they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: leave it out of the collections by which tests look for what is left over,
    each of which would otherwise take a tenth of a second."""
    assert hypothesis
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes runs only where ``-m`` speaks of ``slow``."""
    if "slow" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=left_out)
