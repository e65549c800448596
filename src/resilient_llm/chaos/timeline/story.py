"""What was observed: plain facts in seconds since the beginning, for views, reports and the timeline alike."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from resilient_llm import events

Ending: TypeAlias = Literal["answered", "interrupted", "failed", "wrong"]
"""How a call ended for its caller; ``wrong``: not with the text the provider sent, or with an error of another kind."""


@dataclass(frozen=True, slots=True)
class CallSeen:
    """One call as its caller saw it.  ``first`` is seconds to the first word of a stream, ``provider`` who answered
    (empty: nobody), ``error`` the class of what was raised."""

    number: int
    streamed: bool
    began: float
    ended: float
    ending: Ending
    attempts: int
    provider: str = ""
    first: float | None = None
    error: str = ""
    message: str = ""

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.began


@dataclass(frozen=True, slots=True)
class Act:
    """One act: what is done to whom (``faults``: provider -> the word for it on the timeline), and what to watch.

    ``length`` is in units of the pace; everything is repaired after the share ``troubled`` of it, so that the way back
    can be seen too.
    """

    key: str
    title: str
    doing: str
    watch: str
    length: float
    troubled: float = 0.65
    faults: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(slots=True)
class ActSeen:
    """One act as it was played; ``repaired`` and ``ended`` are ``None`` until then."""

    act: Act
    began: float
    repaired: float | None = None
    ended: float | None = None


@dataclass(slots=True)
class Story:
    """Everything that happened so far.  ``wall`` is the clock time of second 0, ``cuts`` how many streams the
    providers cut after their first words, ``lag`` by how many seconds at most a caller began late because this machine
    was busy, ``complete`` whether the day was played to its end."""

    pace: str
    seed: int
    providers: tuple[str, ...]
    wall: float = 0.0
    calls: list[CallSeen] = field(default_factory=list[CallSeen])
    events: list[events.Event] = field(default_factory=list[events.Event])
    acts: list[ActSeen] = field(default_factory=list[ActSeen])
    began_calls: int = 0
    cuts: int = 0
    lag: float = 0.0
    ended: float = 0.0
    complete: bool = False

    def act(self, key: str) -> ActSeen | None:
        """The act of this name, if it has begun."""
        return next((seen for seen in self.acts if seen.act.key == key), None)


class Notebook:
    """Writes the story down while it happens.  Its :meth:`heard` is a listener of the client."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self._origin = time.monotonic()
        self._lock = threading.Lock()
        story.wall = time.time()

    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self._origin

    def heard(self, event: events.Event) -> None:
        """Take an event of the client."""
        with self._lock:
            self.story.events.append(replace(event, at=event.at - self._origin))

    def begin(self) -> int:
        """A call begins; returns its number."""
        self.story.began_calls += 1
        return self.story.began_calls

    def seen(self, call: CallSeen) -> None:
        """A call ended."""
        self.story.calls.append(call)

    def act_begins(self, act: Act) -> ActSeen:
        """The curtain rises for an act."""
        seen = ActSeen(act, self.now())
        self.story.acts.append(seen)
        return seen


def clock_time(story: Story, at: float) -> str:
    """Clock time of a second of the story, as 13:02:11."""
    return time.strftime("%H:%M:%S", time.localtime(story.wall + at))
