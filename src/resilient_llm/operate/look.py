"""How commands show what they found: tables in columns, with colours where ``rich`` is installed and the output is a
terminal, and plain text everywhere else."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, TextIO, TypeAlias

Mood: TypeAlias = Literal["", "good", "warn", "bad", "dim"]

_STYLES: Final = {"good": "green", "warn": "yellow", "bad": "bold red", "dim": "bright_black", "": ""}


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table; ``mood`` colours its first cell, or all of it if it is ``dim``."""

    cells: tuple[str, ...]
    mood: Mood = ""


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table under a title; ``heads`` may be empty."""

    title: str
    rows: Sequence[Row]
    heads: tuple[str, ...] = ()


def row(*cells: object, mood: Mood = "") -> Row:
    """A row of anything that has a text."""
    return Row(tuple(map(str, cells)), mood)


def write(out: TextIO, *sheets: Sheet) -> None:
    """Write tables with a blank line between them; empty ones are left out."""
    shown = [sheet for sheet in sheets if sheet.rows]
    if _has_colours(out):
        _rich(out, shown)
        return
    for number, sheet in enumerate(shown):
        out.write(("\n" if number else "") + plain(sheet))


def plain(sheet: Sheet) -> str:
    """A table as text, in columns of their own width."""
    lines = [sheet.heads, *(one.cells for one in sheet.rows)] if sheet.heads else [one.cells for one in sheet.rows]
    count = max(map(len, lines))
    widths = [max((len(line[at]) for line in lines if at < len(line)), default=0) for at in range(count)]
    text = f"{sheet.title}\n" if sheet.title else ""
    for line in lines:
        text += ("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False))).rstrip() + "\n"
    return text


def _has_colours(out: TextIO) -> bool:
    if not out.isatty() or os.environ.get("TERM") == "dumb" or "NO_COLOR" in os.environ:
        return False
    return importlib.util.find_spec("rich") is not None


def _rich(out: TextIO, sheets: Sequence[Sheet]) -> None:
    from rich.console import Console  # noqa: PLC0415 - an extra
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=out, highlight=False)
    for number, sheet in enumerate(sheets):
        if number:
            console.print()
        if sheet.title:
            console.print(Text(sheet.title, style="bold"))
        table = Table(box=None, padding=(0, 2, 0, 2), show_header=bool(sheet.heads), header_style="dim", pad_edge=True)
        for at in range(max(len(one.cells) for one in sheet.rows)):
            table.add_column(sheet.heads[at] if at < len(sheet.heads) else "", overflow="fold")
        for one in sheet.rows:
            style = _STYLES[one.mood]
            rest = style if one.mood == "dim" else ""
            table.add_row(*(Text(cell, style=style if not at else rest) for at, cell in enumerate(one.cells)))
        console.print(table)
