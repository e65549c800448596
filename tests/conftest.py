"""For all tests."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path

import hypothesis  # imported later, its plugin would look for what is left out of collections
import pytest

if sys.dont_write_bytecode:
    # Every worker and every child process would compile everything anew, which is a quarter of the whole suite's work.
    # What is compiled is kept in pytest's cache instead of beside the sources.
    sys.dont_write_bytecode = False
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """With ``-n auto``.  Half of the tests' time is waiting for a socket or a timer: three for two processors."""
    processors = os.cpu_count() or 1
    return processors + processors // 2


def pytest_configure() -> None:
    """A shell starts what it sends to the background with SIGINT ignored; tests of Ctrl-C need it, and so do the
    processes they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """What was imported and collected stays: leave it out of the collections by which tests look for what is left over,
    each of which would otherwise take a fifth of a second."""
    assert hypothesis
    _leave_out_what_is_there()


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """So does what the tests of a file imported: SDKs are large."""
    if nextitem is not None and nextitem.path != item.path:
        _leave_out_what_is_there()


def _leave_out_what_is_there() -> None:
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes minutes runs only where ``-m`` speaks of ``slow``."""
    if "slow" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=left_out)
