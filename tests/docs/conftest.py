"""The site, built once from a copy of the pages, whatever the number of processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.pages import DOCS, ROOT


class Built(NamedTuple):
    """What the build said, and the folder it wrote."""

    status: int
    said: str
    site: Path


def build(project: Path) -> None:
    """Build from a copy, so that nothing is written into the checkout.  The result is there when it is whole."""
    shutil.copytree(DOCS, project / "docs", ignore=shutil.ignore_patterns(".site", ".cache", "__pycache__"))
    (project / "src").symlink_to(ROOT / "src")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "-f", "docs/zensical.toml", "--strict"],
        cwd=project, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    result = project / "result.part"
    result.write_text(json.dumps([done.returncode, done.stdout + done.stderr]), encoding="utf-8")
    result.rename(project / "result.json")


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The build of the whole site.  The first process that wants it makes it; the others wait."""
    missing = [name for name in ("zensical", "mkdocstrings") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (the docs extra)")
    base = tmp_path_factory.getbasetemp()
    project = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "site"
    result = project / "result.json"
    try:
        project.mkdir()
    except FileExistsError:
        until = time.monotonic() + 300
        while not result.exists():
            assert time.monotonic() < until, "another process did not build the site"
            time.sleep(0.1)
    else:
        build(project)
    status, said = json.loads(result.read_text(encoding="utf-8"))
    return Built(status, said, project / "docs" / ".site")


@pytest.fixture(scope="session")
def site(built: Built) -> Path:
    """Where the built site is."""
    assert built.status == 0, built.said
    return built.site
