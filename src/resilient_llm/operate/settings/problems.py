"""What is wrong with settings: everything at once, each with its place and what would be right."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Literal

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.secrets.held import Secret
from resilient_llm.operate.secrets.reference import Reference
from resilient_llm.operate.settings.places import Path


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value came from: a line of a file, a variable, an argument."""

    source: str
    """The file's name, ``variable NAME``, ``mapping`` or ``argument``."""
    line: int | None = None
    """Counted from 1; ``None``: there are no lines, or it is unknown which."""

    def __str__(self) -> str:
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong.  ``severity``: an ``error`` keeps the settings from being used, a ``warning`` does
    not."""

    key: str
    """The setting, as ``retry.max_attempts``; empty for the whole."""
    message: str
    origin: Origin | None = None
    suggestion: str = ""
    """What was probably meant; empty: no idea."""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.origin}: " if self.origin is not None else ""
        key = f"{self.key}: " if self.key else ""
        return f"{where}{key}{self.message}{f'; {self.suggestion}' if self.suggestion else ''}"


class SettingsError(ConfigurationError):
    """Settings that cannot be used; :attr:`problems` are all that was found."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems: tuple[Problem, ...] = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class Problems:
    """Collects what is wrong while settings are read.  ``secret`` makes the secret that a reference names."""

    def __init__(
        self, origins: Mapping[Path, Origin] | None = None, secret: Callable[[Reference], Secret] = Secret
    ) -> None:
        self._origins = origins or {}
        self.secret: Callable[[Reference], Secret] = secret
        self.found: list[Problem] = []

    def aside(self) -> Problems:
        """For a try whose problems are nobody's concern."""
        return Problems(None, self.secret)

    def tell(self, path: Path, message: str, suggestion: str = "") -> None:
        """Something at this path makes the settings unusable."""
        self._add(path, Problem(shown(path), message, self.origin(path), suggestion))

    def warn(self, path: Path, message: str, suggestion: str = "") -> None:
        """Something at this path is probably not what was meant."""
        self._add(path, Problem(shown(path), message, self.origin(path), suggestion, "warning"))

    def _add(self, path: Path, problem: Problem) -> None:
        if problem not in self.found:
            self.found.append(problem)

    def origin(self, path: Path) -> Origin | None:
        """Where the value at a path, or the innermost table around it that is known, came from."""
        for length in range(len(path), -1, -1):
            found = self._origins.get(path[:length])
            if found is not None:
                return found
        return None

    @property
    def errors(self) -> list[Problem]:
        """Those that keep the settings from being used."""
        return [one for one in self.found if one.severity == "error"]

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The others."""
        return tuple(one for one in self.found if one.severity == "warning")

    def raise_errors(self) -> None:
        """Raises ``SettingsError`` if there are any errors; it has the warnings too."""
        if self.errors:
            raise SettingsError(sorted(self.found, key=_by_place))


def _by_place(problem: Problem) -> tuple[str, int]:
    origin = problem.origin
    return ("", 0) if origin is None else (origin.source, origin.line or 0)


def shown(path: Path) -> str:
    """A path as people write it: ``providers.main.weight``, ``providers[2].weight``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            name = part if part.replace("_", "").replace("-", "").isalnum() else f'"{part}"'
            text += f".{name}" if text else name
    return text


def guess(name: str, known: Iterable[str]) -> str:
    """A sentence about the name that was probably meant, else which there are."""
    names = sorted(known)
    close = get_close_matches(name.lower(), names, 1, 0.6)
    return f"did you mean {close[0]!r}?" if close else f"there are {', '.join(names)}"
