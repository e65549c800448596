"""The house as it was drawn: who may import whom, what stays pure, and what is public."""

from __future__ import annotations

import ast
import functools
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import resilient_llm

ROOT = Path(resilient_llm.__file__).parent
BASE = {"model", "errors", "policy"}
DRIVEN = BASE | {"decide", "wire", "capability", "providers", "telemetry", "drive"}
FACE = DRIVEN | {"client"}

MAY_IMPORT = {
    "model": {"errors"},
    "errors": {"model"},
    "policy": {"errors"},
    "decide": BASE,
    "wire": {"model", "errors"},
    "capability": {"model", "errors", "wire"},
    "providers": BASE | {"wire", "capability"},
    "telemetry": BASE | {"decide", "wire"},
    "drive": DRIVEN,
    "client": FACE,
    "mount": FACE,
    "operate": FACE | {"mount", "testing"},
    "testing": FACE | {"mount"},
    "__init__": FACE,
    "__main__": FACE | {"mount", "operate", "testing"},
}
"""Layer -> the layers it may know, itself apart."""

PURE = ("model", "errors", "policy", "decide", "wire", "capability")
PUBLIC = ("", "providers", "policy", "model", "errors", "testing", "mount", "capability", "wire")
UNDECIDED = {"time", "random", "logging", "asyncio", "datetime", "os", "socket", "secrets", "contextvars"}
"""What a decision must not look at: it is given the time and the luck."""

MODULES = sorted(ROOT.rglob("*.py"))
every_module = pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
pure_modules = pytest.mark.parametrize(
    "path",
    [path for path in MODULES if path.relative_to(ROOT).with_suffix("").parts[0] in PURE],
    ids=lambda path: str(path.relative_to(ROOT)),
)


def layer_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


@functools.cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(path: Path) -> Iterator[str]:
    """Every module a file imports, wherever in it, those for type checkers included."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            if node.module == "resilient_llm":
                yield from (f"resilient_llm.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""


def test_every_layer_has_its_rule() -> None:
    assert {layer_of(path) for path in MODULES} <= MAY_IMPORT.keys()


@every_module
def test_a_module_imports_only_what_lies_below_it(path: Path) -> None:
    layer = layer_of(path)
    known = {name.split(".")[1] for name in imports(path) if name.startswith("resilient_llm.")}
    assert known - {layer} <= MAY_IMPORT[layer]


@every_module
def test_a_module_with_anything_in_it_says_what_it_is_for(path: Path) -> None:
    tree = tree_of(path)
    assert not tree.body or ast.get_docstring(tree), "no docstring"


@pure_modules
def test_what_is_pure_needs_nothing_but_the_standard_library(path: Path) -> None:
    foreign = {name.partition(".")[0] for name in imports(path)} - {"resilient_llm"} - sys.stdlib_module_names
    assert foreign <= {"typing_extensions"}, "annotations, at most"


@pure_modules
def test_what_is_pure_waits_for_nobody(path: Path) -> None:
    waiting = (ast.AsyncFunctionDef, ast.AsyncFor, ast.AsyncWith, ast.Await)
    assert not [node for node in ast.walk(tree_of(path)) if isinstance(node, waiting)]
    assert not [name for name in imports(path) if name.partition(".")[0] in ("asyncio", "anyio", "trio")]


@pytest.mark.parametrize("path", sorted((ROOT / "decide").glob("*.py")), ids=lambda path: path.name)
def test_a_decision_looks_at_no_clock_no_dice_and_no_log(path: Path) -> None:
    assert not UNDECIDED & {name.partition(".")[0] for name in imports(path)}


def test_wire_and_decide_do_not_know_each_other() -> None:
    for one, other in (("decide", "wire"), ("wire", "decide")):
        for path in (ROOT / one).glob("*.py"):
            assert not [name for name in imports(path) if name.startswith(f"resilient_llm.{other}")], path


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_exists_and_nothing_public_is_left_out(name: str) -> None:
    module = importlib.import_module(f"resilient_llm.{name}".rstrip("."))
    listed = getattr(module, "__all__", None)
    if listed is None:
        return
    assert len(listed) == len(set(listed))
    missing = [item for item in listed if not hasattr(module, item)]
    assert not missing, "listed and not there"
    offered = {item for item in borrowed(Path(str(module.__file__))) if not item.startswith("_")}
    assert offered <= set(listed), "there and not listed"


def borrowed(path: Path) -> Iterator[str]:
    """The names a module takes from its own package to hand them on, those it loads late included."""
    package = path.name == "__init__.py"
    for node in ast.walk(tree_of(path)):
        if package and isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilient_llm."):
            yield from (alias.asname or alias.name for alias in node.names)
