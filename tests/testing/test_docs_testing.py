"""Every example on the page about testing runs."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example_runs(number: int) -> None:
    source = EXAMPLES[number]
    if "ResilientClient" in source and find_spec("resilient_llm.client") is None:
        pytest.skip("there is no client yet")
    exec(compile(source, f"{PAGE.name} example {number + 1}", "exec"), {"__name__": "example"})
