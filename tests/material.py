"""Where the reference material lies: a folder beside the checkout, read in place and never copied."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

SHARED = Path(__file__).parents[2] / "shared"


def material(*parts: str) -> Path:
    """The path of a piece of reference material; skips the test where it is absent."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference material {'/'.join(parts)} is not beside this checkout", allow_module_level=True)
    return path


def corpus(name: str = "*") -> Iterator[dict[str, object]]:
    """The recorded exchanges of the files ``name.jsonl.gz`` (a glob), oldest file first."""
    for file in sorted(material("corpus").glob(name + ".jsonl.gz")):
        if file.name == "rosetta.jsonl.gz":
            continue
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            yield from map(json.loads, lines)
