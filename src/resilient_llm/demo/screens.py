"""Where the demonstration is shown while it runs: a terminal that can be drawn on, a plain one, or nowhere."""

from __future__ import annotations

import importlib.util
import math
import os
import shutil
import textwrap
from typing import Protocol, TextIO

from resilient_llm.chaos.timeline.story import ActSeen, Story, clock_time
from resilient_llm.demo.view import Frame, lines


class Screen(Protocol):
    """Something to look at.  ``interval`` is the seconds between pictures (infinite: it takes none)."""

    interval: float

    def act_begins(self, story: Story, seen: ActSeen) -> None: ...

    def act_ends(self, story: Story, seen: ActSeen, noticed: str) -> None: ...

    def show(self, picture: Frame) -> None: ...

    def close(self) -> None:
        """Leave the terminal as it was found."""
        ...


class Silence:
    """Shows nothing."""

    interval: float = math.inf

    def act_begins(self, story: Story, seen: ActSeen) -> None: ...

    def act_ends(self, story: Story, seen: ActSeen, noticed: str) -> None: ...

    def show(self, picture: Frame) -> None: ...

    def close(self) -> None: ...


class PlainLines:
    """A few lines per act, for logs and pipes."""

    interval: float = math.inf

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def act_begins(self, story: Story, seen: ActSeen) -> None:
        act = seen.act
        self._out.write(f"{clock_time(story, seen.began)} {len(story.acts)}. {act.title}: {act.doing} {act.watch}\n")
        self._out.flush()

    def act_ends(self, story: Story, seen: ActSeen, noticed: str) -> None:
        self._out.write(f"         {noticed}\n")
        self._out.flush()

    def show(self, picture: Frame) -> None: ...

    def close(self) -> None: ...


_UP, _ERASE_BELOW, _ERASE_LINE = "\x1b[{}F", "\x1b[J", "\x1b[K"
_HIDE_CURSOR, _SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


class AnsiTerminal:
    """Draws over its last picture; what an act came to scrolls up above it."""

    interval: float = 0.2

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._height = 0
        self._out.write(_HIDE_CURSOR)

    def act_begins(self, story: Story, seen: ActSeen) -> None: ...

    def act_ends(self, story: Story, seen: ActSeen, noticed: str) -> None:
        self._rewind()
        width = shutil.get_terminal_size().columns - 1
        text = textwrap.fill(f"{len(story.acts)}. {seen.act.title}: {noticed}", width, subsequent_indent="   ")
        self._out.write(f"{_ERASE_BELOW}{text}\n")
        self._height = 0

    def show(self, picture: Frame) -> None:
        size = shutil.get_terminal_size()
        drawn = lines(picture, size.columns - 1, colour="NO_COLOR" not in os.environ)[: max(1, size.lines - 1)]
        self._rewind()
        self._out.write("".join(f"{line}{_ERASE_LINE}\n" for line in drawn) + _ERASE_BELOW)
        self._out.flush()
        self._height = len(drawn)

    def close(self) -> None:
        self._rewind()
        self._out.write(_ERASE_BELOW + _SHOW_CURSOR)
        self._out.flush()
        self._height = 0

    def _rewind(self) -> None:
        if self._height:
            self._out.write(_UP.format(self._height))


def screen_for(out: TextIO, *, silent: bool) -> Screen:
    """The best there is for this output."""
    if silent:
        return Silence()
    if not out.isatty() or os.environ.get("TERM") == "dumb":
        return PlainLines(out)
    if importlib.util.find_spec("rich") is not None:
        from resilient_llm.demo.rich_screen import RichTerminal  # noqa: PLC0415 - only where it is installed

        return RichTerminal()
    return AnsiTerminal(out)
