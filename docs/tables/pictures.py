"""A picture for each mechanism: a short bad time of the decision core in virtual time, drawn as it happened."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from resilient_llm import events
from resilient_llm.chaos.timeline.drawing import states
from resilient_llm.decide.pool import Pool
from resilient_llm.policy import Policies
from resilient_llm.simulate import Load, Nature, Production, Provider, Trouble, World
from resilient_llm.simulate.allowance import Allowance

WIDTH, LEFT, RIGHT = 860.0, 76.0, 12.0
ROW, STRIP, LANE, GAP = 5.0, 9.0, 62.0, 12.0
STYLE = """
text { font: 12px system-ui, sans-serif; fill: #6b7684; }
.name { font-weight: 600; font-size: 13px; text-anchor: end; }
.tick { text-anchor: middle; font-size: 11px; }
.lane { fill: #8a95a322; } .axis { stroke: #8a95a355; }
.fault { fill: #6b7684; } .fault-name { fill: #fff; font-size: 10px; font-weight: 600; }
.closed { fill: #8fd0a9; } .open { fill: #e5484d; } .softly_open { fill: #f0a818; } .gated { fill: #4a8ff0; }
.success { fill: #3aa76d; } .error { fill: #d92d33; } .cancelled { fill: #8a95a3; } .rate_limit { fill: #4a8ff0; }
.trial { stroke: #6b7684; stroke-width: 1.4; } .hedge { stroke: #9747d1; stroke-width: 1.4; }
""".strip()
KEY = (
    ("success", "answered"),
    ("error", "failed"),
    ("rate_limit", "refused with 429"),
    ("cancelled", "cancelled"),
    ("success trial", "a trial"),
    ("success hedge", "a rescue"),
)
STATES = (("closed", "closed"), ("softly_open", "softly open"), ("open", "open"), ("gated", "gate closed"))


@dataclass(frozen=True)
class Scene:
    """A bad time, and the part of it that is drawn."""

    title: str
    tiers: Sequence[Sequence[Provider]]
    load: Load
    begin: float
    end: float
    policies: Policies = field(default_factory=Policies)
    seed: int = 3


@dataclass(frozen=True)
class Bar:
    """An attempt or a call: from when to when, and how it looks."""

    begin: float
    end: float
    look: str
    title: str = ""


def played(scene: Scene) -> tuple[list[events.Event], list[Bar]]:
    """What the pool recorded, and the calls."""
    policies = scene.policies
    client = Production(scene.tiers, policies)
    client.pool = Pool(client.routes, policies, random.Random(scene.seed).random)
    client.pool.listening = True
    world = World([client], scene.load, scene.seed).run(scene.end)
    calls = [Bar(one.started, one.ended, "success" if one.ok else "error", one.why) for one in world.ended]
    return list(client.pool.take_events()), sorted(calls, key=lambda one: one.begin)


def attempts(own: Iterable[events.Event]) -> list[Bar]:
    """The attempts of one provider."""
    bars = []
    for event in own:
        if isinstance(event, events.AttemptEnded):
            record = event.record
            limited = record.fault is not None and record.fault.kind == "rate_limited"
            look = "rate_limit" if limited else record.outcome
            look += f" {record.kind}" if record.kind in ("trial", "hedge") else ""
            said = f"attempt {record.number} of call {event.call}, {record.kind}: {record.outcome}"
            bars.append(Bar(event.at - record.duration, event.at, look, said))
    return sorted(bars, key=lambda one: one.begin)


class Canvas:
    """Seconds to pixels, and the markup so far."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.parts: list[str] = []

    def x(self, at: float) -> float:
        share = (at - self.scene.begin) / (self.scene.end - self.scene.begin)
        return LEFT + min(max(share, 0.0), 1.0) * (WIDTH - LEFT - RIGHT)

    def box(self, bar: Bar, top: float, height: float) -> None:
        """A stretch of time; nothing outside the picture is drawn."""
        if bar.end < self.scene.begin or bar.begin > self.scene.end:
            return
        left = self.x(bar.begin)
        width = max(self.x(bar.end) - left, 1.6)
        place = f'x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" height="{height:g}" class="{bar.look}"'
        hover = f"><title>{escape(bar.title)}</title></rect>" if bar.title else "/>"
        self.parts.append(f"<rect {place}{hover}")

    def text(self, x: float, y: float, look: str, said: str) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{look}">{escape(said)}</text>')

    def rows(self, bars: Sequence[Bar], top: float, height: float) -> None:
        """Bars below each other, as far apart as they must."""
        count = max(1, int(height // ROW))
        free = [float("-inf")] * count
        for bar in bars:
            row = next((index for index, until in enumerate(free) if until <= bar.begin), free.index(min(free)))
            free[row] = max(bar.end, bar.begin + (self.scene.end - self.scene.begin) / 400)
            self.box(bar, top + row * ROW, ROW - 1.4)


def svg(scene: Scene) -> str:
    """The picture of a scene."""
    happened, calls = played(scene)
    canvas = Canvas(scene)
    top = 4.0
    for provider in (one for tier in scene.tiers for one in tier):
        _lane(canvas, provider, [event for event in happened if event.provider == provider.id], top)
        top += LANE + GAP + 2
    canvas.text(LEFT - 8, top + LANE / 2, "name", "calls")
    canvas.box(Bar(scene.begin, scene.end, "lane"), top, LANE)
    canvas.rows(calls, top + 3, LANE - 4)
    top += LANE
    step = next(one for one in (1, 2, 5, 10, 20) if (scene.end - scene.begin) / one <= 12)
    for second in range(int(scene.begin), int(scene.end) + 1, step):
        canvas.text(canvas.x(second), top + 15, "tick", f"{second - int(scene.begin)} s")
    _key(canvas, top + 22)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH:g} {top + 70:g}" role="img">'
        f"<title>{escape(scene.title)}</title><style>{STYLE}</style>\n" + "\n".join(canvas.parts) + "\n</svg>\n"
    )


def _lane(canvas: Canvas, provider: Provider, own: Sequence[events.Event], top: float) -> None:
    """One provider: what was wrong with it, the states of its breaker and gate, and its attempts."""
    scene = canvas.scene
    canvas.text(LEFT - 8, top + LANE / 2 + 10, "name", provider.id)
    canvas.box(Bar(scene.begin, scene.end, "lane"), top + 26, LANE - 14)
    for trouble in (one for one in provider.timetable if isinstance(one, Trouble)):
        canvas.box(Bar(trouble.start, trouble.end, "fault"), top, 12)
        canvas.text(canvas.x(trouble.start) + 4, top + 9.5, "fault-name", LABELS[trouble.kind])
    for span in states(own, scene.end):
        title = f"{span.kind.replace('_', ' ')}: {span.title}"
        canvas.box(Bar(span.begin, span.end, span.kind, title), top + 14, STRIP)
    canvas.rows(attempts(own), top + 28, LANE - 16)


def _key(canvas: Canvas, top: float) -> None:
    for row, (named, height) in enumerate(((STATES, 8), (KEY, 4))):
        place, y = LEFT, top + 20 * row
        for look, said in named:
            canvas.parts.append(
                f'<rect x="{place:g}" y="{y + 8 - height / 2:g}" width="12" height="{height}" class="{look}"/>'
            )
            canvas.text(place + 17, y + 12, "", said)
            place += 34 + 6.6 * len(said)


LABELS = {
    "error": "answers 500",
    "hang": "silent",
    "429": "answers 429",
    "refuse": "refuses connections",
    "slow": "ten times slower",
    "overloaded": "answers 529",
    "shrink": "less room",
}
QUICK = Nature(first_token=0.3, sigma=0.25, pace=0.004)
OTHER = Nature(first_token=0.4, sigma=0.25, pace=0.004)


def _calls(rate: float, deadline: float = 60.0) -> Load:
    return Load(rate=rate, deadline=deadline, prompt=300, output=60)


def _two(*troubles: Trouble, other: Sequence[Trouble] = ()) -> Sequence[Sequence[Provider]]:
    return [[Provider("first", QUICK, list(troubles))], [Provider("second", OTHER, list(other))]]


def _alone(*troubles: Trouble, nature: Nature = QUICK) -> Sequence[Sequence[Provider]]:
    return [[Provider("only", nature, list(troubles))]]


def write(folder: Path) -> None:
    """Draw every picture anew."""
    for name, scene in SCENES.items():
        (folder / f"{name}.svg").write_text(svg(scene), encoding="utf-8")


SCENES = {
    "breaker": Scene(
        "A provider that fails is left alone, tried by real calls, and comes back",
        _two(Trouble(63, 73, "error")), _calls(4.0), 60, 90,
    ),
    "gate": Scene(
        "A provider that answers 429 is asked again when it said; its breaker stays closed",
        _two(Trouble(63, 68, "429", retry_after=6.0)), _calls(4.0), 60, 84,
    ),
    "retry": Scene(
        "A lone provider that fails two calls in three is asked again",
        _alone(Trouble(62, 74, "error", rate=0.66)), _calls(1.0), 60, 80,
    ),
    "rescue": Scene(
        "A provider falls silent: second attempts start beside the silent ones",
        _two(Trouble(63, 70, "hang")), _calls(2.0), 60, 84,
    ),
    "last-resort": Scene(
        "Both providers are down: one trial at a time, the other calls stand in line",
        _two(Trouble(63, 70, "refuse"), other=[Trouble(63, 70, "error")]), _calls(2.0), 60, 84,
    ),
    "line": Scene(
        "Twenty calls at once for a lone provider that allows one a second: who must wait is served in order",
        _alone(nature=Nature(first_token=0.3, sigma=0.25, pace=0.004, allowance=Allowance(requests=60, burst=6.0))),
        Load(trace=[(1.0 + 0.1 * number, 300, 60) for number in range(20)], deadline=60.0), 0, 24,
    ),
    "health": Scene(
        "A provider grows ten times slower: it is asked when nobody better is there",
        _two(Trouble(63, 76, "slow", factor=10.0)), _calls(3.0), 60, 90,
    ),
    "budget": Scene(
        "A lone provider without room: extra attempts grow rare instead of doubling its load",
        _alone(Trouble(63, 78, "overloaded")), _calls(5.0, 8.0), 60, 90,
    ),
    "deadline": Scene(
        "A lone provider is silent: a second attempt after half the time, and an error when the time is over",
        _alone(Trouble(63, 72, "hang")), _calls(1.0, 6.0), 60, 84,
    ),
}  # fmt: skip
