"""What the documentation shows is what the code does."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest

from resilient_llm import events
from resilient_llm.policy import Policies

ROOT = Path(__file__).parents[1]
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"])


def test_the_breaker_diagram_is_drawn_from_the_transition_table() -> None:
    done = subprocess.run([sys.executable, "docs/state_diagram.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "run: python docs/state_diagram.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_is_python(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        indented = "async def example():\n" + "".join(f"    {line}\n" for line in block.splitlines())
        ast.parse(indented)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_setting_is_listed_with_its_default() -> None:
    policies = Policies()
    groups = [(group.name, getattr(policies, group.name)) for group in fields(policies)]
    wanted = [
        (f"{name}.{one.name}", repr(getattr(policy, one.name))) for name, policy in groups for one in fields(policy)
    ]
    page = (ROOT / "docs" / "operating.md").read_text()
    assert re.findall(r"^\| `(\w+\.\w+)` \| `([^`]+)` \|", page, re.MULTILINE) == wanted


def test_every_event_is_listed() -> None:
    page = (ROOT / "docs" / "operating.md").read_text()
    for event in get_args(events.Event):
        assert f"`{event.__name__}`" in page
