"""Several calls that make one: parts of a request for embeddings, sent at once and put together.

The first part that fails ends the others, and its error is the whole's.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Final, TypeAlias, cast

from resilient_llm.batch.part import part_of
from resilient_llm.drive.sync import Driver
from resilient_llm.drive.task import Task
from resilient_llm.model import EmbedRequest, EmbedResponse

if TYPE_CHECKING:
    from resilient_llm.drive.aio import AsyncDriver

MOST: Final = 8
"""Parts that are under way at once."""

Begin: TypeAlias = Callable[[], Task[EmbedRequest]]
"""Makes the call of a part, when its turn has come."""
Ended: TypeAlias = "queue.SimpleQueue[tuple[int, EmbedResponse | BaseException]]"


def answers(driver: Driver, parts: Sequence[Begin]) -> list[EmbedResponse]:
    """The answers to the parts, in order."""
    if len(parts) == 1:
        return [_answer(driver, parts[0])]
    mine, ended = part_of(driver), _new_queue()
    found: dict[int, EmbedResponse] = {}

    def carry_out(number: int, begin: Begin) -> None:
        try:
            ended.put((number, _answer(mine, begin)))
        except BaseException as error:
            ended.put((number, error))

    def start(number: int) -> None:
        context = copy_context()
        if not mine.workers.start(lambda: context.run(carry_out, number, parts[number])):
            carry_out(number, parts[number])

    begun = min(MOST, len(parts))
    try:
        for number in range(begun):
            start(number)
        while len(found) < len(parts):
            number, end = ended.get()
            if isinstance(end, BaseException):
                begun -= 1
                raise end
            found[number] = end
            if begun < len(parts):
                start(begun)
                begun += 1
    finally:
        mine.under_way().leave()
        _wait_for(ended, begun - len(found))
    return [found[number] for number in range(len(parts))]


def _wait_for(ended: Ended, count: int) -> None:
    """Wait until the parts that were ended have noticed it, a second at most."""
    until = time.monotonic() + 1.0
    with suppress(queue.Empty):
        for _ in range(count):
            ended.get(True, max(until - time.monotonic(), 0.0))


def _new_queue() -> Ended:
    return queue.SimpleQueue()


def _answer(driver: Driver, begin: Begin) -> EmbedResponse:
    return cast(EmbedResponse, driver.run(begin()).response())


async def answers_async(driver: AsyncDriver, parts: Sequence[Begin]) -> list[EmbedResponse]:
    """The same, in tasks of the running event loop.  Cancelling it cancels them all."""
    import anyio  # noqa: PLC0415 - the sync client imports no event loop

    found: dict[int, EmbedResponse] = {}
    errors: list[Exception] = []
    waiting = iter(range(len(parts)))

    async def work() -> None:
        for number in waiting:
            try:
                found[number] = cast(EmbedResponse, (await driver.run(parts[number]())).response())
            except Exception as error:
                errors.append(error)
                group.cancel_scope.cancel()
                return

    if len(parts) == 1:
        return [cast(EmbedResponse, (await driver.run(parts[0]())).response())]
    async with anyio.create_task_group() as group:
        for _ in range(min(MOST, len(parts))):
            group.start_soon(work)
    if errors:
        raise errors[0]
    return [found[number] for number in range(len(parts))]
