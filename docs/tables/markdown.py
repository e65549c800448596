"""Markdown from docstrings and annotations."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable
from typing import Literal, get_args, get_origin

from resilient_llm import options


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table; cells may hold anything but line breaks."""
    head = list(head)
    lines = [head, ["---"] * len(head), *([cell.replace("\n", " ") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def code(text: object) -> str:
    """In a cell, where a bar would end the cell: some readers of Markdown show the backslash that would mask it."""
    return f"`{text}`".replace("|", "or")


def plain(docstring: str | None) -> str:
    """A docstring of ours as Markdown."""
    text = inspect.cleandoc(docstring or "")
    text = re.sub(r":(?:meth|func):`[~.]?(?:\w+\.)*(\w+)`", r"`\1()`", text)
    text = re.sub(r":\w+:`[~.]?(?:\w+\.)*(\w+)`", r"`\1`", text)
    return text.replace("``", "`")


def first(docstring: str | None) -> str:
    """Its first paragraph, on one line."""
    return " ".join(plain(docstring).partition("\n\n")[0].split())


def told(line: str) -> str:
    """A line written for a terminal, with values set as code."""
    line = re.sub(r"(?<![`\w])(None|True|False|\{'.*?\}\}|'[\w-]+')(?![`\w])", r"`\1`", line)
    return line.replace("|", "or")


def _words() -> dict[str, str]:
    """Names of types that are a choice of words, and the words."""
    found = vars(options).items()
    return {name: " or ".join(map(repr, get_args(one))) for name, one in found if get_origin(one) is Literal}


def kind(annotation: object) -> str:
    """A type as a reader writes it, without the names of modules."""
    text = annotation if isinstance(annotation, str) else getattr(annotation, "__name__", None) or str(annotation)
    text = getattr(annotation, "__forward_arg__", text)
    text = re.sub(r"\b(?:[a-z_]\w*\.)+(?=[A-Za-z])", "", str(text))
    text = text.replace("NoneType", "None").replace(" | ", " or ")
    return re.sub(r"\b[A-Z]\w+\b", lambda name: _words().get(name[0], name[0]), text)


def default(value: object) -> str:
    """A default in a cell."""
    text = repr(value)
    return text[1:-1] if text.startswith("<") and text.endswith(">") else code(text)
