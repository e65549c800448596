"""``python -m resilient_llm map PROMPTS.jsonl --out RESULTS.jsonl``: many prompts, with the client that settings make.

A line of the prompts is a text (``"Hello"``), a list of messages, or an object: ``prompt`` (a text) or ``messages``,
and, if you like, ``key`` (``custom_id`` and ``id`` are the same) and ``options``, those of ``chat()``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, cast

from resilient_llm.batch.prompts import Prompt
from resilient_llm.batch.results import MapResult
from resilient_llm.batch.settings import MapOptions
from resilient_llm.client import ResilientClient
from resilient_llm.errors import ConfigurationError, InvalidRequest
from resilient_llm.operate.look import Sheet, row, write
from resilient_llm.operate.settings import load
from resilient_llm.operate.settings.problems import SettingsError

_USUAL: Final = "resilient.toml"
_INTERRUPTED: Final = 130  # what shells say of a command that Ctrl-C ended
_SHOWN: Final = 10
"""Failures that are shown one by one."""
_KEYS: Final = ("key", "custom_id", "id")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("prompts", type=Path, help="a file of JSON lines: texts, lists of messages, or objects")
    parser.add_argument("--out", type=Path, required=True, help="results are appended here; it resumes from them")
    parser.add_argument(
        "--settings", metavar="FILE", help="a .toml or .yaml file (resilient.toml if there is one, else variables)"
    )
    parser.add_argument("--environment", metavar="NAME", help="whose file goes before it (default: APP_ENV)")
    parser.add_argument("--concurrency", type=int, metavar="N", help="prompts at once (default: found out)")
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="for one prompt (default: the client's)")
    parser.add_argument("--route", metavar="NAME", help="of the settings (default: the first)")
    parser.add_argument("--system", metavar="TEXT", help="a system message put before each prompt")
    parser.add_argument("--max-tokens", type=int, metavar="N", help="the most tokens an answer may have")
    parser.add_argument("--temperature", type=float, metavar="X", help="randomness")
    parser.add_argument("--quiet", action="store_true", help="show no progress")
    parser.add_argument("--json", action="store_true", help="print the sums as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Ask all prompts and print the sums.

    Returns 0 if every prompt has an answer, 1 if some failed, 2 for a file that is not what it should be, 130 after
    Ctrl-C; the same command takes up where it ended.
    """
    totals = Totals()
    if arguments.settings is None and Path(_USUAL).exists():
        arguments.settings = _USUAL
    try:
        prompts = PromptFile(arguments.prompts)
        with load(arguments.settings, environment=arguments.environment) as client:
            _ask(client, prompts, arguments, totals)
    except OSError as error:
        told = "there is no such file" if isinstance(error, FileNotFoundError) else error.strerror or str(error)
        sys.stderr.write(f"{error.filename or arguments.out}: {told}\n")
        return 2
    except (SettingsError, ConfigurationError, InvalidRequest) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: the same command takes up where this one ended\n")
        return _INTERRUPTED
    totals.write(as_json=arguments.json)
    return 1 if totals.failed else 0


def _ask(client: ResilientClient, prompts: PromptFile, arguments: argparse.Namespace, totals: Totals) -> None:
    given = {name: getattr(arguments, name) for name in _PASSED if getattr(arguments, name) is not None}
    options = cast(MapOptions, {**given, "save_to": arguments.out, "ordered": False, "progress": not arguments.quiet})
    with client.map(prompts, **options) as results:
        for result in results:
            totals.add(result)


_PASSED: Final = ("concurrency", "deadline", "route", "system", "max_tokens", "temperature")


class PromptFile:
    """The prompts in a file of JSON lines, read as they are needed."""

    def __init__(self, path: Path) -> None:
        """Raises ``OSError`` for a file that cannot be read."""
        self._path = path
        with path.open("rb") as file:
            self._count = sum(1 for line in file if line.strip())

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Prompt]:
        with self._path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        yield prompt_of(json.loads(line))
                    except ValueError as error:
                        raise ConfigurationError(f"{self._path}, line {number}: {error}") from error


def prompt_of(line: object) -> Prompt:
    """The prompt that a line's JSON stands for.  Raises ``ValueError`` saying what is wrong with it."""
    if isinstance(line, str | list):
        return cast(Prompt, line)
    if not isinstance(line, dict):
        raise ValueError("a prompt is a text, a list of messages or an object")
    fields = dict(cast("Mapping[str, object]", line))
    asked = [fields.pop(name) for name in ("prompt", "messages") if name in fields]
    keys = [fields.pop(name) for name in _KEYS if name in fields]
    options: Any = fields.pop("options", {})
    if len(asked) != 1 or fields:
        told = f"not {', '.join(sorted(fields))}" if fields else "and one of the first two"
        raise ValueError(f"a prompt has prompt or messages, key and options, {told}")
    if len(keys) > 1 or not isinstance(options, dict) or not all(isinstance(key, str | int) for key in keys):
        raise ValueError("key is a text or a number, once, and options is an object")
    if not keys and options:
        raise ValueError("a prompt with options needs a key")
    return cast(Prompt, (keys[0], asked[0], options) if keys else asked[0])


class Totals:
    """What the results add up to."""

    def __init__(self) -> None:
        self.answered: int = 0
        self.failed: int = 0
        self.saved: int = 0
        self.input_tokens: int = 0
        self.output_tokens: int = 0

    def add(self, result: MapResult[Any]) -> None:
        """One more; a failure is told."""
        self.saved += result.saved
        if result.response is None:
            self.failed += 1
            if self.failed <= _SHOWN:
                sys.stderr.write(f"prompt {result.index} (key {result.key!r:.80}): {result.error}\n")
            return
        self.answered += 1
        if result.response.usage is not None:
            self.input_tokens += result.response.usage.input_tokens
            self.output_tokens += result.response.usage.output_tokens

    def write(self, *, as_json: bool) -> None:
        """Print them."""
        if as_json:
            sys.stdout.write(json.dumps(vars(self), indent=2) + "\n")
            return
        told = {
            "answered": f"{self.answered:,}",
            "failed": f"{self.failed:,}",
            "of these from before": f"{self.saved:,}",
            "tokens": f"{self.input_tokens:,} in, {self.output_tokens:,} out",
        }
        write(sys.stdout, Sheet("", [row(name, value) for name, value in told.items()]))
