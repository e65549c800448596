"""The site is built without a warning, and everything on it is reached and comes from it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.docs.conftest import Built
from tests.docs.pages import DOCS

LARGEST = 12_000_000
"""Bytes of the whole site, its search index included."""


def test_the_site_is_built_without_a_warning(built: Built) -> None:
    assert built.status == 0, built.said
    assert "No issues found" in built.said


def named(entries: Iterable[object]) -> Iterator[str]:
    """The pages of a navigation."""
    for entry in entries:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            yield from named(entry.values())
        elif isinstance(entry, list):
            yield from named(entry)


def test_every_page_has_a_place_in_the_navigation() -> None:
    config = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md") if ".site" not in page.parts}
    listed = list(named(config["nav"]))
    assert sorted(listed) == sorted(pages)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    loaded = re.compile(r"""<(?:script|img|link|iframe|source|video)\b[^>]*?(?:src|href)=["'](?:https?:)?//[^"']+""")
    for page in site.rglob("*.html"):
        found = [tag for tag in loaded.findall(page.read_text(encoding="utf-8")) if 'rel="canonical"' not in tag]
        assert not found, f"{page.relative_to(site)}: {found}"


def test_the_site_is_not_heavy(site: Path) -> None:
    assert sum(file.stat().st_size for file in site.rglob("*") if file.is_file()) < LARGEST


def test_sources_of_the_pages_are_not_published(site: Path) -> None:
    assert not [file for file in site.rglob("*") if file.suffix in (".py", ".toml", ".md")]
