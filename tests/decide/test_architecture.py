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
WORDS = {"faults", "model", "errors", "events", "health", "policy"}
FACE = {"keywords", "options", "typed"}
DRIVEN = WORDS | FACE | {"decide", "record", "wire", "capability", "providers", "drive"}
CLIENT = DRIVEN | {"telemetry", "batch", "client"}
ABOVE = CLIENT | {"mount", "simulate", "chaos", "demo", "testing"}

MAY_IMPORT = {
    "faults": set(),
    "model": {"faults"},
    "errors": {"faults", "model"},
    "events": {"errors", "faults"},
    "health": set(),
    "policy": {"errors", "faults"},
    "keywords": set(),
    "typed": {"errors", "model"},
    "version": set(),
    "options": WORDS | FACE | {"wire", "capability"},
    "decide": {"errors", "faults", "events", "health", "policy"},
    "record": {"errors", "faults", "policy", "decide"},
    "wire": {"faults", "model", "errors"},
    "capability": {"faults", "model", "errors", "wire"},
    "providers": WORDS | {"wire", "capability", "keywords", "version"},
    "drive": DRIVEN | {"telemetry"},
    "telemetry": DRIVEN,
    "batch": DRIVEN,
    "client": CLIENT,
    "mount": CLIENT,
    "simulate": ABOVE | {"operate"},
    "chaos": ABOVE,
    "demo": ABOVE,
    "testing": ABOVE,
    "operate": ABOVE | {"version"},
    "__init__": ABOVE | {"version", "operate"},
    "__main__": ABOVE | {"operate", "version"},
}
"""Layer -> the layers it may know, itself apart."""

CIRCLES: set[tuple[str, ...]] = set()
"""Circles that are still there; the list may only shrink."""
LARGE_CLASSES: set[str] = set()
"""Classes that are still too large; the list may only shrink."""
LONG_FUNCTIONS: set[str] = set()
"""Functions of the core that are still too long; the list may only shrink."""
MOST_PARAMETERS, MOST_IN_FUNCTION, MOST_IN_CLASS = 7, 40, 300

PURE = ("faults", "keywords", "typed", "model", "errors", "events", "health", "policy", "decide", "wire", "capability")
PUBLIC = (
    "",
    "providers",
    "policy",
    "options",
    "model",
    "errors",
    "events",
    "health",
    "testing",
    "mount",
    "operate",
    "batch",
    "record",
    "capability",
    "wire",
)
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
        for path in (ROOT / one).rglob("*.py"):
            assert not [name for name in imports(path) if name.startswith(f"resilient_llm.{other}")], path


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def neighbours() -> dict[str, set[str]]:
    """Each module and those of the package that it imports, at once or later, for type checkers or for itself.

    A package's own ``__init__`` is left out: importing a module from a package is no use of what the package offers.
    """
    names = {name_of(path): path for path in MODULES}
    found: dict[str, set[str]] = {}
    for name, path in names.items():
        found[name] = known = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("resilient_llm"):
                home = (node.module or "").removeprefix("resilient_llm").removeprefix(".")
                known |= {home, *(f"{home}.{alias.name}".removeprefix(".") for alias in node.names)}
            elif isinstance(node, ast.Import):
                known |= {alias.name.removeprefix("resilient_llm.") for alias in node.names}
        known &= {other for other, file in names.items() if file.name != "__init__.py" and other != name}
    return found


def circles(graph: dict[str, set[str]]) -> set[tuple[str, ...]]:
    """Groups of modules each of which leads back to itself."""

    def reachable(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            fresh = graph[todo.pop()] - seen
            seen |= fresh
            todo.extend(fresh)
        return seen

    reach = {name: reachable(name) for name in graph}
    in_one = [name for name in graph if name in reach[name]]
    return {
        tuple(sorted(other for other in in_one if other in reach[name] and name in reach[other])) for name in in_one
    }


def test_no_module_leads_back_to_itself() -> None:
    assert circles(neighbours()) <= CIRCLES


def test_a_circle_would_be_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}, "e": set()}) == {("a", "b", "c")}


# --- sizes of the core ---


def definitions(node: ast.AST, within: str = "") -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            name = f"{within}.{child.name}".removeprefix(".")
            yield name, child
            yield from definitions(child, name)


def core() -> list[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    return [found for path in sorted((ROOT / "decide").glob("*.py")) for found in definitions(tree_of(path))]


def length(node: ast.FunctionDef | ast.ClassDef) -> int:
    return (node.end_lineno or 0) - node.lineno + 1


def test_no_class_is_large() -> None:
    everything = [found for path in sorted(ROOT.rglob("*.py")) for found in definitions(tree_of(path))]
    large = {name for name, node in everything if isinstance(node, ast.ClassDef) and length(node) > MOST_IN_CLASS}
    assert large <= LARGE_CLASSES


def test_no_function_of_the_core_is_long() -> None:
    long = {name for name, node in core() if isinstance(node, ast.FunctionDef) and length(node) > MOST_IN_FUNCTION}
    assert long <= LONG_FUNCTIONS


def test_no_function_of_the_core_has_many_parameters() -> None:
    many = [
        name
        for name, node in core()
        if isinstance(node, ast.FunctionDef)
        and len([*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs])
        - (node.args.args[:1] != [] and node.args.args[0].arg in ("self", "cls"))
        > MOST_PARAMETERS
    ]
    assert not many


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


def test_every_wire_has_the_same_files_and_none_is_long() -> None:
    wires = {found.parent for found in (ROOT / "wire").glob("*/request.py")}
    assert len(wires) == 7
    files = {"__init__.py", "answer.py", "parts.py", "request.py", "stream.py"}
    assert all({found.name for found in wire.glob("*.py")} == files for wire in wires)
    lengths = {str(found): len(found.read_text().splitlines()) for found in (ROOT / "wire").rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > 450} == {}
