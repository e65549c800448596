"""Every Python block on every page is executed, in the order of its page, against a server on this machine.

The blocks of a page share their names.  A ``test_*`` function is called with the fixtures it asks for, an
``async def main()`` is run, and a block that awaits at its top level is run inside an event loop.
"""

from __future__ import annotations

import argparse
import ast
import asyncio
import gc
import inspect
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from tests.docs.pages import PAGES, Block, blocks, name
from tests.docs.vendors import SECRET, vendors

WITH_PYTHON = [page for page in PAGES if any(block.language == "python" for block in blocks(page))]
MOST_EXCUSED = 12
"""Blocks that may be excused, all pages together; the reason stands beside each."""


def compiled(page: Path, block: Block) -> CodeType:
    """The block, such that tracebacks name the page and the line."""
    source = "\n" * (block.line - 1) + block.code
    return compile(source, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)


def run(page: Path, block: Block, names: dict[str, Any], request: pytest.FixtureRequest) -> None:
    """Execute one block, and what it defines to be run by somebody else."""
    before = dict(names)
    code = compiled(page, block)
    if code.co_flags & inspect.CO_COROUTINE:

        async def at_top_level() -> None:
            await eval(code, names)

        asyncio.run(at_top_level())
    else:
        exec(code, names)
    for key, value in list(names.items()):
        if before.get(key) is value or not inspect.isfunction(value) or value.__module__ != names["__name__"]:
            continue
        wanted = inspect.signature(value).parameters
        if key.startswith("test_"):
            value(**{one: request.getfixturevalue(one) for one in wanted})
        elif key == "main" and inspect.iscoroutinefunction(value) and not wanted and "main()" not in block.code[-60:]:
            asyncio.run(value())


def close(names: dict[str, Any]) -> None:
    """End what the page left open: most pages do not close their clients."""
    for value in names.values():
        if isinstance(value, ResilientClient):
            value.close()
        elif isinstance(value, AsyncResilientClient):
            asyncio.run(value.aclose())
    names.clear()
    gc.collect()


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name)
def test_snippets_run(
    page: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with vendors(monkeypatch) as server:
        names: dict[str, Any] = {"__name__": f"page_{page.stem.replace('-', '_')}", "server": server}
        try:
            for block in blocks(page):
                if block.language == "python" and block.skipped is None:
                    run(page, block, names, request)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] in ("resilient_llm", "tests", ""):
                raise
            pytest.skip(f"needs {error.name} (the extras peers and docs)")
        finally:
            close(names)
    assert not SECRET.search(capsys.readouterr().out)


def test_few_blocks_are_excused() -> None:
    excused = [f"{name(page)}:{block.line}" for page in PAGES for block in blocks(page) if block.skipped is not None]
    assert len(excused) <= MOST_EXCUSED, excused


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_data_in_blocks_can_be_read(page: Path) -> None:
    for block in blocks(page):
        if block.language == "toml":
            tomllib.loads(block.code)
        elif block.language == "json":
            json.loads(block.code)


def commands(page: Path) -> Iterator[tuple[int, list[str]]]:
    """What pages tell to type that is a command of ours, with the number of its line."""
    for block in blocks(page):
        if block.language not in ("", "console", "bash", "sh"):
            continue
        for number, line in enumerate(block.code.splitlines(), block.line):
            typed = re.split(r" #|[|>;]|&&", line.removeprefix("$ "))[0]
            found = re.match(r"(?:\w+=\S* )*(?:python -m resilient_llm|resilient-llm)(?: (.*))?$", typed.strip())
            if found:
                yield number, shlex.split(found[1] or "")


def understood(parser: argparse.ArgumentParser, words: list[str]) -> bool:
    """Whether a command line makes sense; what is wrong with it is on standard error."""
    try:
        parser.parse_args(words)
    except SystemExit as ended:
        return not ended.code  # as after --help
    return True


def test_commands_of_ours_are_understood(capsys: pytest.CaptureFixture[str]) -> None:
    from resilient_llm.__main__ import COMMANDS, parser_of

    parser = parser_of(COMMANDS)
    found = [(name(page), line, words) for page in PAGES for line, words in commands(page)]
    assert len(found) > 10
    for page, line, words in found:
        assert understood(parser, words), f"{page}:{line}: {capsys.readouterr().err}"
