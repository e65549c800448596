"""How late this machine is: a bound on time that holds on a busy machine too."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Self

_STEP = 0.005


class Lag:
    """Inside the ``with`` block, a thread sleeps for 5 ms again and again; ``seconds`` is what it was late in all, and
    so whatever ran beside it."""

    seconds: float = 0.0

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lag", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set():
            before = time.perf_counter()
            time.sleep(_STEP)
            late = time.perf_counter() - before - _STEP
            if late > _STEP:
                self.seconds += late
