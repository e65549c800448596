"""What exists twice, once with ``await``, is the same text but for what is declared here; and there is little of it."""

from __future__ import annotations

import ast
import difflib
import re
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "src" / "resilient_llm"
MOST = 250  # lines that may be there twice

NAMES = {
    "AsyncDriver": "Driver",
    "AsyncOpenStream": "OpenStream",
    "AsyncChatStream": "ChatStream",
    "AsyncResilientClient": "ResilientClient",
    "AsyncTextDeltas": "TextDeltas",
    "AsyncContest": "Contest",
    "AsyncCodeSource": "CodeSource",
    "AsyncSource": "Source",
    "AsyncEngine": "Engine",
    "AsyncPooled": "Pooled",
    "AsyncPooledAnswer": "PooledAnswer",
    "AsyncBackend": "Backend",
    "AsyncGiven": "Given",
    "AsyncGivenAnswer": "GivenAnswer",
    "AsyncFaultyEngine": "FaultyEngine",
    "AsyncIterator": "Iterator",
    "AsyncClient": "Client",
    "AsyncBaseTransport": "BaseTransport",
    "AsyncByteStream": "SyncByteStream",
    "LoopUnderWay": "UnderWay",
    "async_engines": "sync_engine",
    "handle_async_request": "handle_request",
    "answers_async": "answers",
    "aclose": "close",
    "aget": "get",
    "anext": "next",
    "__anext__": "__next__",
    "__aiter__": "__iter__",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "StopAsyncIteration": "StopIteration",
}
DRIVER = ("run", "open", "carry", "answered", "exchanged", "tidy")
STREAM = ("next", "step", "go_on", "end", "close")
CHAT_STREAM = ("__next__", "_open", "start", "__enter__", "__exit__", "close")
CLIENT = ("embed", "close", "stream", "__enter__", "__exit__")
PAIRS = [
    ("drive/aio.py", "AsyncDriver", "drive/sync.py", "Driver", DRIVER),
    ("drive/aio.py", "AsyncOpenStream", "drive/sync.py", "OpenStream", STREAM),
    ("client.py", "AsyncChatStream", "client.py", "ChatStream", CHAT_STREAM),
    ("client.py", "AsyncResilientClient", "client.py", "ResilientClient", CLIENT),
]
MODULES = [
    ("drive/aio.py", "drive/sync.py"),
    ("drive/loop.py", "drive/sync.py"),
    ("drive/engines/loops.py", "drive/engines/network.py"),
    ("drive/engines/pooled_async.py", "drive/engines/pooled.py"),
]
WITHIN = ["client.py", "drive/engines/seam.py", "drive/engines/given.py"]


class Sync(ast.NodeTransformer):
    """Async code as the sync code it stands for, without docstrings and annotations."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        plain = ast.FunctionDef(node.name, node.args, node.body, node.decorator_list, None, None, lineno=0)
        return self.visit(plain)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.name = NAMES.get(node.name, node.name)
        node.returns = None
        node.body = without_docstring(node.body)
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.name = NAMES.get(node.name, node.name)
        node.body = without_docstring(node.body)
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = NAMES.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = NAMES.get(node.attr, node.attr)
        return node


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    return body[documented:] or [ast.Pass()]


def classes(module: str) -> dict[str, ast.ClassDef]:
    """The classes of a module, by their own names, as sync code, without what is there for type checkers alone."""
    tree = ast.parse((SOURCE / module).read_text())
    found = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    for node in found.values():
        node.body = [one for one in node.body if not overload(one)]
    return found


def methods(module: str, name: str) -> dict[str, str]:
    """The methods of a class as normalised text."""
    found = Sync().visit(classes(module)[name])
    plain = [node for node in found.body if isinstance(node, ast.FunctionDef)]
    return {node.name: re.sub(r"\s+", " ", ast.unparse(ast.fix_missing_locations(node))) for node in plain}


def overload(node: ast.stmt) -> bool:
    marks = node.decorator_list if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else []
    return any(isinstance(one, ast.Name) and one.id == "overload" for one in marks)


def lines(tree: ast.AST) -> list[str]:
    """The code lines of sync code that say something; signatures for type checkers alone are left out."""
    text = ast.unparse(ast.fix_missing_locations(Sync().visit(tree)))
    skipped = ("import ", "from ", "@", ")", "try:", "else:", "finally:", "return", "pass", "def __", '"', "'")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith(skipped)]


@pytest.mark.parametrize(("pair", "method"), [(pair[:4], method) for pair in PAIRS for method in pair[4]], ids=str)
def test_twins_are_the_same_text(pair: tuple[str, str, str, str], method: str) -> None:
    module, name, other_module, other = pair
    assert methods(module, name)[method] == methods(other_module, other)[method]


def test_the_clients_offer_the_same() -> None:
    offered = [
        {method for method in methods("client.py", name) if not method.startswith("_")}
        for name in ("AsyncResilientClient", "ResilientClient")
    ]
    assert offered[0] == offered[1]


def equal(one: list[str], other: list[str]) -> int:
    """Lines that two texts have in common, in order."""
    return sum(block.size for block in difflib.SequenceMatcher(None, one, other, autojunk=False).get_matching_blocks())


def test_little_is_there_twice() -> None:
    twice = {
        f"{one} and {other}": equal(
            lines(ast.parse((SOURCE / one).read_text())), lines(ast.parse((SOURCE / other).read_text()))
        )
        for one, other in MODULES
    }
    for module in WITHIN:
        known = classes(module)
        for name, node in known.items():
            twin = NAMES.get(name)
            if twin in known:
                twice[f"{module} {twin}"] = equal(lines(node), lines(known[twin]))
    assert sum(twice.values()) <= MOST, twice
    print(twice)
