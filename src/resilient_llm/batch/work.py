"""The bookkeeping of a run, which both clients share: what may begin, what is ready to be handed over, what is kept.

It never waits and asks nobody.  All of it belongs to whoever iterates, but for :meth:`Work.keep`, which any thread may
call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Generic, cast

from resilient_llm.batch.file import ResultsFile
from resilient_llm.batch.progress import Progress, Tally
from resilient_llm.batch.prompts import Asked, digest, read
from resilient_llm.batch.results import MapResult, R, as_line, lasting
from resilient_llm.batch.settings import MapSettings
from resilient_llm.batch.width import Fixed, Width
from resilient_llm.errors import ConfigurationError, InvalidRequest, ResilientError
from resilient_llm.options import ChatOptions, output_class

AHEAD: Final = 1000
"""Prompts that may be begun and whose result has not been handed over."""


@dataclass(frozen=True, slots=True)
class Ended(Generic[R]):
    """A call that ended."""

    result: MapResult[R]
    failed: bool
    """Nobody could answer it, which may pass."""


def ended(asked: Asked, outcome: R | Exception) -> Ended[R]:
    """What became of a prompt."""
    if isinstance(outcome, Exception):
        failed = isinstance(outcome, ResilientError) and outcome.retryable
        result: MapResult[R] = MapResult(asked.index, asked.key, None, outcome)
    else:
        result, failed = MapResult(asked.index, asked.key, outcome), False
    return Ended(result, failed)


class Work(Generic[R]):
    """One run."""

    def __init__(
        self,
        settings: MapSettings,
        options: ChatOptions,
        clock: Callable[[], float],
        *,
        most: int,
        total: int | None,
    ) -> None:
        """Raises ``ConfigurationError`` for a file that is none of results, and ``OSError``."""
        width = settings.get("concurrency", "auto")
        save_to = settings.get("save_to")
        self._options = options
        self._clock = clock
        self._ordered = settings.get("ordered", True)
        self._width: Width | Fixed = Fixed(width) if isinstance(width, int) else Width(most)
        self._begun = 0
        self._came = 0
        self._handed = 0
        self._ready: dict[int, MapResult[R]] = {}
        """By their turn: the prompt's place, or the order in which they came."""
        self.on_result: Callable[[MapResult[Any]], object] | None = settings.get("on_result")
        self.in_flight: int = 0
        self.exhausted: bool = False
        """There are no more prompts."""
        self.file: ResultsFile | None = None if save_to is None else ResultsFile(save_to)
        self.tally: Tally = Tally(clock(), total)
        self.progress: Progress | None = Progress() if settings.get("progress", False) else None

    # --- what begins ---

    @property
    def room(self) -> bool:
        """Whether another prompt may begin now."""
        ahead = self._begun - self._handed
        return not self.exhausted and self.in_flight < self._width.width and ahead < max(AHEAD, self._width.width)

    def begin(self, item: object) -> Asked | None:
        """A prompt: what is to be asked, or ``None`` if its result is there already.

        Raises ``ConfigurationError`` if the file holds results of other prompts.
        """
        index = self._begun
        self._begun += 1
        try:
            asked = read(item, index, self._options)
            told = "" if self.file is None else digest(asked)
        except (InvalidRequest, TypeError, ValueError) as error:
            wrong = error if isinstance(error, InvalidRequest) else InvalidRequest(f"prompt {index}: {error}")
            self._add(MapResult(index, index, None, wrong))
            return None
        asked = replace(asked, digest=told)
        saved = self._saved(asked)
        if saved is not None:
            self._add(saved)
            return None
        self.in_flight += 1
        return asked

    def _saved(self, asked: Asked) -> MapResult[R] | None:
        line = None if self.file is None else self.file.saved(asked.index, asked.digest)
        if line is None or self.file is None:
            return None
        try:
            result = line.result()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            told = f"{self.file.path!r} has a line for prompt {asked.index} that is no result: {error}"
            raise ConfigurationError(told) from error
        kind = output_class(asked.options)
        if kind is not None and result.response is not None:
            try:
                kind.fill(result.response)
            except ValueError as error:
                raise ConfigurationError(f"{self.file.path!r}, prompt {asked.index}: {error}") from error
        return cast("MapResult[R]", result)

    # --- what ended ---

    def keep(self, asked: Asked, end: Ended[R]) -> None:
        """Write a result into the file, where there is one and it belongs there.  Raises ``OSError``."""
        result = end.result
        if self.file is not None and (result.error is None or lasting(result.error)):
            self.file.append(as_line(result, asked.digest))

    def collect(self, end: Ended[R], waiting: int) -> None:
        """A call ended; ``waiting`` others stand in line."""
        self.in_flight -= 1
        self._width.ended(self._clock(), waiting=waiting, failed=end.failed)
        self._add(end.result)

    def _add(self, result: MapResult[R]) -> None:
        self.tally.add(result)
        self._ready[result.index if self._ordered else self._came] = result
        self._came += 1

    # --- what is handed over ---

    def next(self) -> MapResult[R] | None:
        """The next result that is ready; ``None``: there is none yet, or no more."""
        result = self._ready.pop(self._handed, None)
        if result is not None:
            self._handed += 1
        return result

    @property
    def over(self) -> bool:
        """Whether everything was handed over."""
        return self.exhausted and not self.in_flight and not self._ready

    @property
    def patience(self) -> float | None:
        """Seconds to wait for a result before looking again; ``None``: there is nothing to show meanwhile."""
        return None if self.progress is None else self.progress.every

    def show(self, waiting: int, *, last: bool = False) -> None:
        """Show how far it is."""
        if self.progress is not None:
            self.tally.under_way, self.tally.waiting = self.in_flight, waiting
            self.progress.show(self.tally, self._clock(), last=last)

    def close(self) -> None:
        """Let go of the file."""
        if self.file is not None:
            self.file.close()
        self.show(0, last=True)
        self.progress = None
