"""The attempts of one call that run at the same time: who is under way, who won, who is late.  Without the waiting."""

from __future__ import annotations

from typing import Any

from resilient_llm.drive.exchange import AnyExchange
from resilient_llm.drive.task import Task

GRACE = 0.02  # seconds an attempt may take to notice by itself that its time is up


class Race:
    """One attempt and, while the last one begun stays silent, another one beside it; the first success wins."""

    __slots__ = ("alone", "error", "first", "running", "task", "won")

    def __init__(self, task: Task[Any], first: AnyExchange) -> None:
        self.task: Task[Any] = task
        self.first: AnyExchange = first
        self.running: list[AnyExchange] = [first]
        after = first.attempt.rescue_after
        self.alone: bool = after is None or after >= first.attempt.timeout or task.owner.wait is not None
        """Whether nothing will run beside the first attempt."""
        self.won: AnyExchange | None = None
        self.error: BaseException | None = None
        """What ends the call: a mistake in the use of the library, an interruption."""

    @property
    def over(self) -> bool:
        """Whether there is nothing left to wait for."""
        return self.won is not None or self.error is not None or not self.running

    def due(self) -> AnyExchange | None:
        """A rescue is due: the next attempt, if there is to be one now."""
        if self.over or self.running[-1].attempt.released:
            return None
        silent = self.running[-1]
        before = silent.attempt.rescue_after
        found = self.task.rescue(silent)
        if found is not None:
            self.running.append(found)
        elif silent.attempt.rescue_after == before:
            self.alone = True  # it is not said when to ask again
        return found

    def next_due(self) -> float | None:
        """Seconds until the rescue is to be asked for; ``None``: never."""
        if self.alone or self.over:
            return None
        attempt = self.running[-1].attempt
        after = attempt.rescue_after
        if after is None or attempt.released:
            return None
        return max(0.0, attempt.started + after - self.task.owner.clock())

    def ended(self, exchange: AnyExchange, error: BaseException | None) -> None:
        """An attempt is over: it brought an answer, or it raised."""
        if exchange not in self.running:
            return
        self.running.remove(exchange)
        if error is None:
            self.won = exchange
        elif isinstance(error, Exception):
            try:
                self.task.raised(exchange, error)
            except Exception as misused:
                self.error = misused
        else:
            self.task.abandoned(exchange)
            self.error = error
        if self.won is not None or self.error is not None:
            self.leave()

    def outcome(self) -> AnyExchange | None:
        """The winner, or ``None``.  Raises what ends the call."""
        if self.error is not None:
            raise self.error
        return self.won

    def apart(self) -> bool:
        """Whether the first attempt cannot run where the caller waits: a trial may have to run on, and who is asked for
        a key cannot be cut short."""
        return not self.alone and (self.first.attempt.kind == "trial" or self.first.asks_for_key)

    def leave(self) -> None:
        """End the attempts that are still under way: overtaken by the winner, or abandoned with the call."""
        while self.running:
            exchange = self.running.pop()
            if self.won is not None:
                self.task.overtaken(exchange)
                continue
            exchange.lost = True
            self.task.abandoned(exchange)
            exchange.stop()

    def give_up_late_ones(self) -> None:
        """Time out what should have timed out by itself: code of the user's cannot be interrupted."""
        now = self.task.owner.clock()
        for exchange in [*self.running]:
            if now >= exchange.limit.until + GRACE:
                exchange.lost = True
                self.ended(exchange, TimeoutError("gave no answer in time"))
                exchange.stop()

    def patience(self) -> float:
        """Seconds until one of them should have timed out by itself, or a rescue is to be asked for."""
        now = self.task.owner.clock()
        ends = [one.limit.until + GRACE - now for one in self.running]
        due = self.next_due()
        if due is not None:
            ends.append(due)
        return max(0.0, min(ends, default=0.0))
