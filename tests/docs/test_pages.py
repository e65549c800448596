"""What the documentation shows is what the code does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.comparison.contestants import CONTESTANTS
from benchmarks.comparison.page import Result, answered
from benchmarks.comparison.scenarios import SCENARIOS
from tests.docs.pages import DOCS, PAGES, ROOT, name

README = ROOT / "README.md"
LONGEST = 2000
"""Words outside code that ten minutes are enough for."""
FOR_THE_CURIOUS = ("reference/", "simulation.md", "design.md", "translation.md")
"""Pages where something is looked up, or that say why."""


def test_generated_tables_are_those_of_the_code() -> None:
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    prose = re.sub(r"```.*?```|<!--.*?-->|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", prose):
        if "://" not in target and not target.startswith("mailto:"):
            found = (page.parent / target).resolve()
            assert found.exists(), f"{page.name} links to {target}"
            assert found.is_relative_to(DOCS) or DOCS not in page.parents, f"{page.name}: the site has no {target}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_no_bar_is_masked_inside_code(page: Path) -> None:
    """Some readers of Markdown show the backslash."""
    assert not re.findall(r"^\|.*`[^`\n]*\\\|[^`\n]*`", page.read_text(encoding="utf-8"), re.MULTILINE)


def test_no_page_that_users_need_takes_longer_than_ten_minutes() -> None:
    for page in PAGES:
        if str(page.relative_to(ROOT)).removeprefix("docs/").startswith(FOR_THE_CURIOUS):
            continue
        prose = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        assert len(prose.split()) <= LONGEST, name(page)


def test_the_figures_of_the_comparison_in_the_readme_are_the_measured_ones() -> None:
    kept = json.loads((DOCS / "comparison.json").read_text(encoding="utf-8"))
    (told,) = re.findall(r"in 16 scenarios of a bad day: (.*?)\[The comparison\]", README.read_text("utf-8"), re.DOTALL)
    shares = {name: answered(Result.from_json(name, value), SCENARIOS) for name, value in kept.items()}
    assert set(shares) == set(CONTESTANTS)
    assert [int(figure) for figure in re.findall(r"(\d+) (?:to|%)", told)] == [
        round(100 * shares[one])
        for one in (
            "ours",
            "ours-restart",
            "litellm",
            "litellm-tuned",
            "pydantic-ai",
            "avadhika",
            "langchain",
            "openai",
        )
    ]
