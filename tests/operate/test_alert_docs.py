"""Every alert leads to a runbook that exists."""

from __future__ import annotations

import re
from pathlib import Path

from resilient_llm.operate.alerts.words import RUNBOOKS, TITLES

PAGE = (Path(__file__).parents[2] / "docs" / "alerts.md").read_text(encoding="utf-8")


def test_every_kind_has_a_runbook_with_its_parts_and_no_other_is_there() -> None:
    sections = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", PAGE, re.DOTALL | re.MULTILINE))
    assert sections.keys() == TITLES.keys()
    for kind, text in sections.items():
        for part in ("*What it means:*", "*Look at:*", "*Do:*", "*Ignore it when*"):
            assert part in text, f"{kind} lacks {part}"


def test_the_default_runbooks_are_on_that_page() -> None:
    assert (Path(__file__).parents[2] / RUNBOOKS).is_file()
