"""In which line of a settings file each key stands.

``tomllib`` does not tell, so :func:`toml_lines` walks over a text that ``tomllib`` has accepted and notes the line of
every key and every element of an array.  It checks nothing and understands no values.  For YAML the parser itself
knows.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias, cast

Path: TypeAlias = tuple[str | int, ...]
"""The keys and indexes that lead to a value."""

_ESCAPES = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}
_UNICODE = {"u": 4, "U": 8}


def toml_lines(text: str) -> dict[Path, int]:
    """The line, counted from 1, of every key and element in a valid TOML document."""
    walk = _Walk(text)
    walk.document()
    return walk.lines


class _Walk:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line = 1
        self._elements: dict[Path, int] = {}  # arrays of tables, and how many there are so far
        self.lines: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        while self._skip():
            if self._peek() != "[":
                self._pair(table)
                continue
            line, double = self._line, self._text.startswith("[[", self._at)
            self._move(1 + double)
            table = self._resolved(self._key())
            self._skip()
            self._move(1 + double)
            if double:
                index = self._elements[table] = self._elements.get(table, -1) + 1
                self.lines.setdefault(table, line)
                table = (*table, index)
            for length in range(1, len(table) + 1):
                self.lines.setdefault(table[:length], line)

    def _resolved(self, key: tuple[str, ...]) -> Path:
        """Where ``[a.b]`` is if ``a`` is an array of tables: in its last element."""
        path: Path = ()
        for number, part in enumerate(key, 1):
            path = (*path, part)
            if number < len(key) and path in self._elements:
                path = (*path, self._elements[path])
        return path

    def _pair(self, table: Path) -> None:
        line = self._line
        path = table
        for part in self._key():
            path = (*path, part)
            self.lines.setdefault(path, line)
        self._skip()
        self._move(1)  # the equals sign
        self._value(path)

    def _key(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip()
            if self._peek() in "\"'":
                parts.append(self._string())
            else:
                start = self._at
                while self._peek() not in " \t.=]":
                    self._move(1)
                parts.append(self._text[start : self._at])
            self._skip()
            if self._peek() != ".":
                return tuple(parts)
            self._move(1)

    def _value(self, path: Path) -> None:
        self._skip()
        mark = self._peek()
        if mark in "\"'":
            self._string()
        elif mark == "[":
            self._list(path)
        elif mark == "{":
            self._table(path)
        else:
            while self._peek() not in ",]}\n#":
                self._move(1)

    def _list(self, path: Path) -> None:
        self._move(1)
        index = 0
        while self._skip() and self._peek() != "]":
            self.lines.setdefault((*path, index), self._line)
            self._value((*path, index))
            index += 1
            self._skip()
            if self._peek() == ",":
                self._move(1)
        self._move(1)

    def _table(self, path: Path) -> None:
        self._move(1)
        while self._skip() and self._peek() != "}":
            self._pair(path)
            self._skip()
            if self._peek() == ",":
                self._move(1)
        self._move(1)

    def _string(self) -> str:
        """The text of a string; that of one with several lines is not needed and is not unescaped."""
        quote = self._peek()
        if self._text.startswith(quote * 3, self._at):
            self._move(3)
            while not self._text.startswith(quote * 3, self._at):
                self._move(2 if quote == '"' and self._peek() == "\\" else 1)
            self._move(3)
            while self._peek() == quote:  # up to two quotes may stand before the three that end it
                self._move(1)
            return ""
        self._move(1)
        found: list[str] = []
        while self._peek() != quote:
            found.append(self._character(escapes=quote == '"'))
        self._move(1)
        return "".join(found)

    def _character(self, *, escapes: bool) -> str:
        mark = self._peek()
        self._move(1)
        if not escapes or mark != "\\":
            return mark
        kind = self._peek()
        self._move(1)
        digits = _UNICODE.get(kind)
        if digits is None:
            return _ESCAPES.get(kind, kind)
        code = self._text[self._at : self._at + digits]
        self._move(digits)
        return chr(int(code, 16))

    def _skip(self) -> bool:
        """Pass over space and comments; whether anything follows."""
        while self._at < len(self._text):
            mark = self._text[self._at]
            if mark == "#":
                end = self._text.find("\n", self._at)
                self._at = len(self._text) if end < 0 else end
            elif mark in " \t\r\n":
                self._move(1)
            else:
                return True
        return False

    def _peek(self) -> str:
        return self._text[self._at] if self._at < len(self._text) else "\n"

    def _move(self, count: int) -> None:
        self._line += self._text.count("\n", self._at, self._at + count)
        self._at += count


class Mark(Protocol):
    """Where a YAML node begins."""

    @property
    def line(self) -> int: ...


class Node(Protocol):
    """What is used of the nodes that PyYAML makes, which has no types of its own."""

    @property
    def start_mark(self) -> Mark: ...

    @property
    def value(self) -> object: ...


def yaml_lines(root: Node | None) -> dict[Path, int]:
    """The same for the node tree of a YAML document (``yaml.compose``)."""
    lines: dict[Path, int] = {}
    todo: list[tuple[Path, Node]] = [] if root is None else [((), root)]
    while todo:
        path, node = todo.pop()
        lines.setdefault(path, node.start_mark.line + 1)
        held: object = node.value
        if not isinstance(held, list):
            continue
        for index, one in enumerate(cast("list[Node | tuple[Node, Node]]", held)):
            if isinstance(one, tuple):
                key, value = one
                inner = (*path, str(key.value))
                lines[inner] = key.start_mark.line + 1
                todo.append((inner, value))
            else:
                todo.append(((*path, index), one))
    return lines
