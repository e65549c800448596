"""The version is said in one place."""

from __future__ import annotations

import re
from pathlib import Path

import resilient_llm
from resilient_llm.providers.base import USER_AGENT

ROOT = Path(__file__).parent.parent


def test_the_version_is_said_once() -> None:
    said = [
        path
        for path in (ROOT / "pyproject.toml", *(ROOT / "src").rglob("*.py"))
        if path.parent.name != "telemetry"  # the conventions have versions of their own
        and re.search(rf"""["'/]{re.escape(resilient_llm.__version__)}["']""", path.read_text(encoding="utf-8"))
    ]
    assert said == [ROOT / "src" / "resilient_llm" / "version.py"]
    assert f"resilient-llm/{resilient_llm.__version__}" == USER_AGENT
