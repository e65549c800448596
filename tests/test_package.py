"""What is built is the same wherever it is built, and holds what it should."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("src", "tests", "docs", "examples", "benchmarks", ".ci", ".github")
FILES = ("pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE")


def built(folder: Path, seconds: int) -> Path:
    """Build from a copy of the project whose files have another time of change."""
    project = folder / "project"
    project.mkdir(parents=True)
    junk = shutil.ignore_patterns("__pycache__", ".site", ".cache", "*.egg-info")
    for part in PARTS:
        shutil.copytree(ROOT / part, project / part, ignore=junk)
    for file in FILES:
        shutil.copy(ROOT / file, project / file)
    for path in project.rglob("*"):
        os.utime(path, (seconds, seconds))
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", str(folder / "dist")],
        cwd=project, check=True, capture_output=True, env={**os.environ, "SOURCE_DATE_EPOCH": "1580601600"},
    )  # fmt: skip
    return folder / "dist"


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    if find_spec("hatchling") is None:
        pytest.skip("needs hatchling (the dev extra)")
    folder = tmp_path_factory.mktemp("build")
    yield built(folder / "first", 1_700_000_000), built(folder / "second", 1_750_000_000)
    shutil.rmtree(folder)


def test_two_builds_are_the_same_to_the_byte(both: tuple[Path, Path]) -> None:
    first, second = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in both)
    assert len(first) == 2
    assert first.keys() == second.keys()
    assert all(first[name] == second[name] for name in first)


def test_the_wheel_holds_the_package_and_nothing_else(both: tuple[Path, Path]) -> None:
    (wheel,) = both[0].glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        names = packed.namelist()
        (metadata,) = (packed.read(name).decode() for name in names if name.endswith("/METADATA"))
    assert "resilient_llm/py.typed" in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"resilient_llm"}
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert [line.split()[1].partition("<")[0].partition(">")[0] for line in needed] == [
        "anyio",
        "httpx",
        "opentelemetry-api",
        "typing-extensions",
    ]


def test_the_sdist_holds_what_its_tests_need(both: tuple[Path, Path]) -> None:
    (sdist,) = both[0].glob("*.tar.gz")
    with tarfile.open(sdist) as packed:
        names = {name.partition("/")[2] for name in packed.getnames()}
    assert {
        "docs/generate.py",
        "docs/zensical.toml",
        ".github/SECURITY.md",
        ".ci/run",
        "tests/test_package.py",
    } <= names
    assert not [name for name in names if any(part in name for part in (".site/", ".cache/", "__pycache__"))]


def test_workflows_have_no_known_weakness() -> None:
    zizmor = shutil.which("zizmor", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if zizmor is None:
        pytest.skip("needs zizmor (the dev extra)")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", "--persona", "pedantic", str(ROOT / ".github")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
