"""Writes everything on the pages that the code knows better: ``python docs/generate.py``.

Tables stand between ``<!-- NAME: begin -->`` and ``<!-- NAME: end -->``.  With ``--check`` nothing is written, and the
exit status is 1 if a page is out of date.  It also draws the pictures of the mechanisms.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from tables import classes, facts, keywords, pictures, plot, policies, translation  # noqa: E402 - the path comes first

from resilient_llm.operate.settings import schema  # noqa: E402
from tests.telemetry import reference  # noqa: E402

Tables = Mapping[str, Callable[[], str]]
PAGES: Mapping[str, Tables] = {
    **translation.SECTIONS,
    **keywords.SECTIONS,
    **policies.SECTIONS,
    **facts.SECTIONS,
    **classes.SECTIONS,
}


def page(text: str, tables: Tables, name: str) -> str:
    """The page with the current tables."""
    for mark, make in tables.items():
        begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
        if begin not in text or end not in text:
            raise SystemExit(f"docs/{name} lacks {begin} or {end}")
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n\n{make()}\n\n{end}{tail}"
    return text


def current() -> Iterator[tuple[Path, str]]:
    """Every page with generated parts, as it should be."""
    for name, tables in PAGES.items():
        path = DOCS / name
        yield path, page(path.read_text(encoding="utf-8"), tables, name)
    path = DOCS / "reference" / "telemetry.md"
    yield path, reference.rewritten(path.read_text(encoding="utf-8"))
    yield DOCS / "resilient.schema.json", json.dumps(schema(), indent=2) + "\n"


def main() -> int:
    """Write the pages, or with ``--check`` name those that are out of date."""
    stale = [(path, text) for path, text in current() if path.read_text(encoding="utf-8") != text]
    for path, text in stale:
        if "--check" in sys.argv:
            sys.stderr.write(f"{path.relative_to(DOCS.parent)} is out of date: python docs/generate.py\n")
        else:
            path.write_text(text, encoding="utf-8")
    if "--check" not in sys.argv:
        pictures.write(DOCS / "mechanisms")
        plot.write(DOCS)
    return int(bool(stale) and "--check" in sys.argv)


if __name__ == "__main__":
    sys.exit(main())
