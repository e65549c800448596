"""The live view with ``rich`` (extra ``cli``)."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from resilient_llm.chaos.timeline.story import ActSeen, Story
from resilient_llm.demo.view import EVENTS, HEADINGS, Frame, Row, cells

_STYLES = {"good": "green", "warn": "yellow", "bad": "red", "wait": "cyan", "idle": "bright_black"}
_RIGHT = {"answers/s", "share", "p50", "in flight"}


class RichTerminal:
    """Draws tables; what an act came to scrolls up above them."""

    interval: float = 0.15

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console()
        self._live = Live(console=self._console, auto_refresh=False, transient=True)
        self._live.start()

    def act_begins(self, story: Story, seen: ActSeen) -> None: ...

    def act_ends(self, story: Story, seen: ActSeen, noticed: str) -> None:
        self._live.console.print(f"[bold]{len(story.acts):>2}. {seen.act.title}:[/] {escape(noticed)}", highlight=False)

    def show(self, picture: Frame) -> None:
        # Narrower than the terminal: it echoes ^C at the end of the last line, and must not begin another for that.
        self._live.update(renderable(picture, self._console.width - 4), refresh=True)

    def close(self) -> None:
        self._live.stop()


def renderable(picture: Frame, width: int) -> RenderableType:
    """The picture as rich draws it."""
    told = Text("\n".join(f"{when} {who}: {text}" for when, who, text in picture.events), style="dim")
    told.append("\n" * max(0, EVENTS - len(picture.events)))
    head = Text.assemble((picture.doing, "bold"), "\n", ("Watch: ", "dim"), (picture.watch, "italic"))
    calm = picture.noticed.startswith("nothing")
    noticed = Text.assemble("Callers notice ", (picture.noticed, "green" if calm else "bold yellow"))
    body = Group(head, Text(), _table(picture.rows), Text(), Text(picture.overall), noticed, Text(), told)
    return Panel(
        body, title=f"{picture.clock}  {escape(picture.act)}", title_align="left", border_style="blue", width=width
    )


def _table(rows: tuple[Row, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for heading in HEADINGS:
        table.add_column(heading, justify="right" if heading in _RIGHT else "left", no_wrap=True)
    for row in rows:
        mood = _STYLES[row.mood]
        texts = cells(row)
        styles = ("bold", "", "", mood, "green" if row.score > 0.6 else "yellow" if row.score > 0.25 else "red", "", "")
        table.add_row(*(Text(text, style=style) for text, style in zip(texts, styles, strict=True)))
    return table
