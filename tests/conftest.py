"""For all tests."""

from __future__ import annotations

import gc

import hypothesis  # imported later, its plugin would look for what is left out of collections


def pytest_collection_finish() -> None:
    """What was imported and collected stays: leave it out of the collections by which tests look for what is left over,
    each of which would otherwise take a tenth of a second."""
    assert hypothesis
    gc.collect()
    gc.freeze()
