"""The command line: ``python -m resilient_llm COMMAND``, also installed as ``resilient-llm``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Final, NamedTuple, Protocol, cast

from resilient_llm.version import __version__


class Command(NamedTuple):
    """One subcommand: the module that has ``configure(parser)`` and ``run(arguments) -> exit status``, imported only
    when the command is chosen, and what the overview says about it."""

    module: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "demo": Command("resilient_llm.demo.command", "a scripted bad day for three providers on this machine"),
    "check": Command("resilient_llm.operate.check.command", "whether settings are right, and providers answer"),
    "map": Command("resilient_llm.operate.mapping", "the answers to many prompts, in a file it resumes from"),
    "explain": Command("resilient_llm.record.command", "how a recorded call was decided"),
    "chaos": Command("resilient_llm.chaos.command", "whether a hypothesis about a client survives injected faults"),
    "simulate": Command(
        "resilient_llm.simulate.__main__", "what becomes of calls on modelled bad days, in virtual time"
    ),
    "bench": Command("resilient_llm.operate.bench", "what a call costs on this machine, beside bare httpx"),
    "completion": Command("resilient_llm.operate.completion", "a script that completes these commands in a shell"),
}
"""Every subcommand in the order of the overview; the only place where one is registered."""

_STATUSES: Final = """\
exit status:
  0    what was asked for is so
  1    it is not: a finding, a goal that was missed, a hypothesis that did not hold
  2    the command was not understood, or a file is not what it should be
  130  interrupted with Ctrl-C

Commands that have --json print one JSON document for machines. Shell completion: COMMAND completion bash|zsh|fish.
"""


class CommandModule(Protocol):
    """What the module of a command offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; without one, say which there are."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = given[0] if given and given[0] in COMMANDS else None
    parser = parser_of([] if chosen is None else [chosen])
    parsed = parser.parse_args(given)
    if chosen is None:
        _overview(parser.prog)
        return 0
    logging.getLogger("resilient_llm").addHandler(logging.NullHandler())  # commands say themselves what they found
    parsed.whole = lambda: parser_of(COMMANDS)  # for the command that completes all of them
    try:
        return _module(chosen).run(parsed)
    except BrokenPipeError:  # as in "explain record.json | head": nobody reads on, which is no fault
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def parser_of(wanted: Sequence[str] | dict[str, Command]) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of those that are wanted: their modules are imported."""
    called = Path(sys.argv[0]).name
    program = "resilient-llm" if called.startswith("resilient-llm") else "python -m resilient_llm"
    parser = argparse.ArgumentParser(
        prog=program,
        description="Keeps your LLM calls answered while providers fail.",
        epilog=_STATUSES.replace("COMMAND", program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"resilient_llm {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.summary, description=f"Shows {command.summary}.")
        if name in wanted:
            _module(name).configure(subparser)
    return parser


def _overview(program: str) -> None:
    from resilient_llm.operate.look import Sheet, row, write  # noqa: PLC0415 - not for those who know what they want

    title = f"resilient_llm {__version__}: keeps your LLM calls answered while providers fail"
    commands = [row(f"{program} {name}", command.summary, mood="good") for name, command in COMMANDS.items()]
    write(sys.stdout, Sheet(title, commands), Sheet("", [row(f"{program} COMMAND --help", "the options of one")]))
    sys.stdout.write(f"\n{_STATUSES.replace('COMMAND', program)}")


def _module(name: str) -> CommandModule:
    return cast(CommandModule, import_module(COMMANDS[name].module))


if __name__ == "__main__":
    sys.exit(main())
