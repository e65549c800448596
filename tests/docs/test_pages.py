"""What the documentation shows is what the code does."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, name


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
