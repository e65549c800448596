"""Simulations in several processes, whatever started this one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from types import ModuleType
from typing import NamedTuple, TypeVar

from resilient_llm.simulate.judge import Compared, compare
from resilient_llm.simulate.schedules import SCHEDULES

Given = TypeVar("Given")
Result = TypeVar("Result")


class Task(NamedTuple):
    """One schedule in one layout, beside its alternatives."""

    name: str
    layout: str
    seeds: int

    def run(self) -> Compared:
        """Carry it out."""
        return compare(SCHEDULES[self.name], self.layout, self.seeds)


def spread(act: Callable[[Given], Result], todo: Iterable[Given], jobs: int) -> Iterator[Result]:
    """Do all of it, in order, in as many processes.  ``act`` is a function that can be imported.  Raises
    ``BrokenProcessPool`` if one of them dies."""
    if jobs == 1:
        yield from map(act, todo)
        return
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        with _no_main():
            results = pool.map(act, todo)
        yield from results


@contextmanager
def _no_main() -> Generator[None]:
    """Processes started inside do not run the script again that started this one: it need not have an
    ``if __name__ == "__main__"``, nor be a file."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
