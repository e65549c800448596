"""``python -m resilient_llm completion SHELL``: a script that completes commands and options.

It is generated from the parsers of the commands, so that a new option is completed at once.  Load it with
``source <(resilient-llm completion bash)``, ``source <(resilient-llm completion zsh)`` or
``resilient-llm completion fish | source``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

_NAME: Final = "resilient-llm"


@dataclass(frozen=True, slots=True)
class Option:
    """One option; ``choices`` of its value: ``None``: it has no value; empty: the name of a file, or anything."""

    flags: tuple[str, ...]
    summary: str
    choices: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Completed:
    """What can be completed of one command; ``values`` are those of its first argument, empty: names of files."""

    name: str
    summary: str
    options: tuple[Option, ...]
    values: tuple[str, ...]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument("shell", choices=[*SHELLS], help="which shell")


def run(arguments: argparse.Namespace) -> int:
    """Print the script.  Returns 0."""
    parser = cast("Callable[[], argparse.ArgumentParser]", arguments.whole)()
    sys.stdout.write(SHELLS[arguments.shell](list(commands_of(parser))))
    return 0


def commands_of(parser: argparse.ArgumentParser) -> Iterator[Completed]:
    """The commands of a parser, as they were configured.  argparse has no public way to list that."""
    for action in _actions(parser):
        summaries: Sequence[argparse.Action] = vars(action).get("_choices_actions", ())
        subparsers: Mapping[str, argparse.ArgumentParser] = vars(action)["choices"] if summaries else {}
        told = {one.dest: one.help or "" for one in summaries}
        for name, subparser in subparsers.items():
            yield _command(name, told.get(name, ""), subparser)


def _command(name: str, summary: str, parser: argparse.ArgumentParser) -> Completed:
    actions = _actions(parser)
    options = tuple(
        Option(tuple(one.option_strings), _summary(one, parser.prog), _choices(one))
        for one in actions
        if one.option_strings
    )
    places = [one for one in actions if not one.option_strings]
    return Completed(name, summary, options, (_choices(places[0]) or ()) if places else ())


def _actions(parser: argparse.ArgumentParser) -> Sequence[argparse.Action]:
    found: Sequence[argparse.Action] = vars(parser)["_actions"]
    return found


def _choices(action: argparse.Action) -> tuple[str, ...] | None:
    if action.nargs == 0:
        return None
    return tuple(map(str, action.choices or ()))


def _summary(action: argparse.Action, program: str) -> str:
    return (action.help or "") % {**vars(action), "prog": program}


# --- shells ---


def bash(commands: Sequence[Completed]) -> str:
    """For bash 3.2 and later, without the bash-completion package."""
    options = "".join(f"    {one.name}) options={_quoted(' '.join(_flags(one)))} ;;\n" for one in commands)
    values = "".join(f"    {one.name}) values={_quoted(' '.join(one.values))} ;;\n" for one in commands if one.values)
    chosen = "".join(
        f"    {_quoted(f'{one.name} {flag}')}) values={_quoted(' '.join(option.choices))} ;;\n"
        for one in commands
        for option in one.options
        if option.choices
        for flag in option.flags
    )
    files = "|".join(
        _quoted(f"{one.name} {flag}")
        for one in commands
        for option in one.options
        if option.choices == ()
        for flag in option.flags
    )
    return f"""\
_resilient_llm() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command=${{COMP_WORDS[1]}}
  local options= values=
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W {_quoted(" ".join(one.name for one in commands))} -- "$current"))
    return
  fi
  case "$command" in
{options}  esac
  case "$command $previous" in
    {files or "-"}) COMPREPLY=($(compgen -f -- "$current")); return ;;
{chosen}  esac
  if [ -z "$values" ] && [ "${{current#-}}" = "$current" ]; then
    case "$command" in
{values}    esac
  fi
  if [ -n "$values" ]; then
    COMPREPLY=($(compgen -W "$values" -- "$current"))
  elif [ "${{current#-}}" != "$current" ]; then
    COMPREPLY=($(compgen -W "$options" -- "$current"))
  else
    COMPREPLY=($(compgen -f -- "$current"))
  fi
}}
complete -o filenames -F _resilient_llm {_NAME}
"""


def zsh(commands: Sequence[Completed]) -> str:
    """For zsh, sourced or as a file named ``_resilient-llm`` in ``fpath``."""
    names = "\n".join(f"    {_quoted(f'{one.name}:{one.summary}')}" for one in commands)
    cases = ""
    for one in commands:
        lines = [_quoted(_zsh_option(option, flag)) for option in one.options for flag in option.flags]
        rest = f"1:value:({' '.join(one.values)})" if one.values else "*:file:_files"
        cases += f"    {one.name}) _arguments {' '.join([*lines, _quoted(rest)])} ;;\n"
    return f"""\
#compdef {_NAME}
_resilient_llm() {{
  local -a commands
  commands=(
{names}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}  esac
}}
compdef _resilient_llm {_NAME}
"""


def _zsh_option(option: Option, flag: str) -> str:
    told = option.summary.replace("[", "(").replace("]", ")").replace(":", "\\:")
    if option.choices is None:
        return f"{flag}[{told}]"
    return f"{flag}[{told}]:value:" + (f"({' '.join(option.choices)})" if option.choices else "_files")


def fish(commands: Sequence[Completed]) -> str:
    """For fish."""
    complete = f"complete -c {_NAME}"
    lines = [f"{complete} -n __fish_use_subcommand -f -a {one.name} -d {_quoted(one.summary)}" for one in commands]
    for one in commands:
        within = f"{complete} -n '__fish_seen_subcommand_from {one.name}'"
        if one.values:
            lines.append(f"{within} -f -a {_quoted(' '.join(one.values))}")
        for option in one.options:
            flags = " ".join(f"-l {flag[2:]}" if flag.startswith("--") else f"-s {flag[1:]}" for flag in option.flags)
            lines.append(f"{within} {flags}{_fish_value(option)} -d {_quoted(option.summary)}")
    return "\n".join(lines) + "\n"


def _fish_value(option: Option) -> str:
    if option.choices is None:
        return ""
    return f" -x -a {_quoted(' '.join(option.choices))}" if option.choices else " -r"


def _flags(command: Completed) -> list[str]:
    return [flag for option in command.options for flag in option.flags]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


SHELLS: Final[dict[str, Callable[[Sequence[Completed]], str]]] = {"bash": bash, "zsh": zsh, "fish": fish}
