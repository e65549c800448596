"""The pages of the documentation, and what stands in them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*DOCS.rglob("*.md"), ROOT / "README.md", *(ROOT / ".github").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]
)

_BLOCK = re.compile(
    r"^(?P<indent> *)(?P<fence>```|~~~)(?P<language>\w*)[^\n]*\n(?P<code>.*?)^ *(?P=fence) *$"
    r"|^<!-- setup\n(?P<setup>.*?)^-->$"
    r"|^ *<!-- not run: (?P<reason>[^\n]+) -->$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True)
class Block:
    """A piece of code on a page.

    ``line`` is where its first line stands, ``skipped`` why it is not executed, ``hidden`` whether readers do not see
    it.
    """

    language: str
    code: str
    line: int
    skipped: str | None = None
    hidden: bool = False


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path) -> Iterator[Block]:
    """Every block of code in the order of the page.

    ``<!-- setup ... -->`` holds Python that readers do not see, ``<!-- not run: why -->`` excuses the next block.
    """
    text = page.read_text(encoding="utf-8")
    skipped = None
    for found in _BLOCK.finditer(text):
        if found["reason"] is not None:
            skipped = found["reason"]
            continue
        part = "setup" if found["setup"] is not None else "code"
        line = text.count("\n", 0, found.start(part)) + 1
        language = "python" if part == "setup" else found["language"]
        yield Block(language, textwrap.dedent(found[part]), line, skipped, part == "setup")
        skipped = None
