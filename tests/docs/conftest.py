"""The site, built once from a copy of the pages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The build of the whole site: what it said, and (as ``args[-1]``) the folder it wrote."""
    missing = [name for name in ("zensical", "mkdocstrings") if find_spec(name) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)} (the docs extra)")
    project = tmp_path_factory.mktemp("site")
    shutil.copytree(DOCS, project / "docs", ignore=shutil.ignore_patterns(".site", ".cache", "__pycache__"))
    (project / "src").symlink_to(ROOT / "src")
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "-f", "docs/zensical.toml", "--strict"],
        cwd=project, check=False, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    done.args = [*done.args, str(project / "docs" / ".site")]
    return done


@pytest.fixture(scope="session")
def site(built: subprocess.CompletedProcess[str]) -> Path:
    """Where the built site is."""
    assert built.returncode == 0, built.stdout + built.stderr
    return Path(built.args[-1])
