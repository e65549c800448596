"""Every example on the pages about testing and chaos experiments runs."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLES = [
    pytest.param(source, id=f"{page} {number}")
    for page in ("testing.md", "chaos.md")
    for number, source in enumerate(
        re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE), 1
    )
]


@pytest.mark.parametrize("source", EXAMPLES)
def test_example_runs(source: str) -> None:
    if "ResilientClient" in source and find_spec("resilient_llm.client") is None:
        pytest.skip("there is no client yet")
    exec(compile(source, "example", "exec"), {"__name__": "example"})
