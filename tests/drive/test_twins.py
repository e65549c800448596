"""The sync and the async driver are the same text, but for ``await`` and what is declared here."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

DRIVE = Path(__file__).parents[2] / "src" / "resilient_llm" / "drive"
DRIVER = ("run", "pause", "attempt", "ask", "open", "open_http", "send")
STREAM = ("begin", "next", "wait", "end", "close")
HTTP = ("read",)

NAMES = {
    "AsyncDriver": "Driver",
    "AsyncHttp": "Http",
    "AsyncAnswer": "Answer",
    "AsyncOpenStream": "OpenStream",
    "AsyncHttpSource": "HttpSource",
    "AsyncSource": "Source",
    "AsyncIterator": "Iterator",
    "aclose": "close",
    "aget": "get",
    "anyio": "time",
    "anext": "next",
    "__anext__": "__next__",
    "__aiter__": "__iter__",
    "StopAsyncIteration": "StopIteration",
}


class Sync(ast.NodeTransformer):
    """Async code as the sync code it stands for."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        plain = ast.FunctionDef(
            node.name, node.args, node.body, node.decorator_list, node.returns, node.type_comment, lineno=0
        )
        return self.visit(plain)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.name = NAMES.get(node.name, node.name)
        node.body = node.body[isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant) :]
        return node

    def visit_With(self, node: ast.With) -> ast.AST | list[ast.stmt]:
        """A sync attempt is bounded by the timeouts of its phases, not by a cancel scope around it."""
        self.generic_visit(node)
        bound = ast.unparse(node.items[0])
        return node.body if "fail_after" in bound or bound.startswith("Within(") else node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = NAMES.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        self.generic_visit(node)
        node.attr = NAMES.get(node.attr, node.attr)
        return node


def methods(module: str, name: str) -> dict[str, str]:
    """The methods of a class as normalised text."""
    tree = Sync().visit(ast.parse((DRIVE / module).read_text()))
    found = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return {
        node.name: re.sub(r"\s+", " ", ast.unparse(ast.fix_missing_locations(node)))
        for node in found.body
        if isinstance(node, ast.FunctionDef)
    }


@pytest.mark.parametrize("method", DRIVER)
def test_the_drivers_are_twins(method: str) -> None:
    assert methods("aio.py", "AsyncDriver")[method] == methods("sync.py", "Driver")[method]


@pytest.mark.parametrize("method", STREAM)
def test_the_streams_are_twins(method: str) -> None:
    assert methods("aio.py", "AsyncOpenStream")[method] == methods("sync.py", "OpenStream")[method]


@pytest.mark.parametrize("method", HTTP)
def test_the_answers_are_twins(method: str) -> None:
    assert methods("http.py", "AsyncAnswer")[method] == methods("http.py", "Answer")[method]


@pytest.mark.parametrize("pair", [("client.py", "AsyncResilientClient", "ResilientClient")])
def test_the_clients_offer_the_same(pair: tuple[str, str, str]) -> None:
    module, one, other = pair
    public = [{n for n in methods(f"../{module}", name) if not n.startswith("_")} for name in (one, other)]
    assert public[0] == public[1] == {"chat", "stream", "embed", "close"}
