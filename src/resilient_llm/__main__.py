"""The command line: ``python -m resilient_llm COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Final, NamedTuple, Protocol, cast


class Command(NamedTuple):
    """One subcommand: the module that has ``configure(parser)`` and ``run(arguments) -> exit status``, imported only
    when the command is chosen, and what the overview says about it."""

    module: str
    summary: str


COMMANDS: Final[dict[str, Command]] = {
    "demo": Command("resilient_llm.demo.command", "a scripted bad day for three providers on this machine"),
    "chaos": Command("resilient_llm.chaos.command", "whether a hypothesis about a client survives injected faults"),
    "explain": Command("resilient_llm.record.command", "how a recorded call was decided"),
    "simulate": Command(
        "resilient_llm.simulate.__main__", "what becomes of calls on modelled bad days, in virtual time"
    ),
}
"""Every subcommand in the order of the overview."""


class CommandModule(Protocol):
    """What the module of a command offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, arguments: argparse.Namespace) -> int: ...


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status; without one, say which there are."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["simulate"]:  # it has options of its own, and is also run as ``python -m resilient_llm.simulate``
        from resilient_llm.simulate.__main__ import main as simulate  # noqa: PLC0415 - only when it is chosen

        return simulate(given[1:])
    parser = argparse.ArgumentParser(
        prog="python -m resilient_llm", description="Keeps your LLM calls answered while providers fail."
    )
    commands = parser.add_subparsers(metavar="COMMAND", dest="command")
    chosen: CommandModule | None = None
    for name, command in COMMANDS.items():
        subparser = commands.add_parser(name, help=command.summary, description=f"Shows {command.summary}.")
        if given[:1] == [name]:
            chosen = cast(CommandModule, import_module(command.module))
            chosen.configure(subparser)
    parsed = parser.parse_args(given)
    if chosen is None:
        parser.print_help()
        return 0
    return chosen.run(parsed)


if __name__ == "__main__":
    sys.exit(main())
