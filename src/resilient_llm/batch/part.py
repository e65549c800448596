"""Drivers whose calls can be ended for themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resilient_llm.drive.sync import Driver

if TYPE_CHECKING:
    from resilient_llm.drive.aio import AsyncDriver


def part_of(driver: Driver) -> Driver:
    """A driver over the same connections.  ``under_way().leave()`` ends its calls; closing the whole does it too."""
    whole = driver.under_way()
    part = Driver(driver.owner, whole.engine)
    part.seam, part.workers = driver.seam, driver.workers
    part.under_way().join(whole)
    return part


def part_of_async(driver: AsyncDriver) -> AsyncDriver:
    """The same over the connections of the running event loop, for calls on it."""
    whole = driver.under_way()
    part = type(driver)(driver.owner, lambda: whole.engine)
    part.seam = driver.seam
    part.under_way().join(whole)
    return part
