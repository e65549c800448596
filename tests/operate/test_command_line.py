"""The command line as a whole: its table, completion in shells, and the self-measurement."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from resilient_llm.__main__ import COMMANDS, main, parser_of
from resilient_llm.operate import completion

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_keeps_the_protocol_and_explains_itself(name: str, capsys: Capture) -> None:
    module = import_module(COMMANDS[name].module)
    assert callable(module.configure)
    assert "Returns" in (module.run.__doc__ or "") or "2 if" in (module.run.__doc__ or "")
    with pytest.raises(SystemExit) as left:
        main([name, "--help"])
    assert left.value.code == 0
    assert f"usage: {parser_of([]).prog} {name}" in capsys.readouterr().out


def test_the_overview_names_every_command_and_status(capsys: Capture) -> None:
    assert main([]) == 0
    told = capsys.readouterr().out
    assert all(name in told and command.summary in told for name, command in COMMANDS.items())
    assert "130  interrupted" in told


def test_choosing_a_command_imports_no_other() -> None:
    code = (
        "import sys; from resilient_llm.__main__ import main\n"
        "try: main(['completion', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in sys.modules if name in ('httpx', 'resilient_llm.simulate.__main__')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


# --- completion ---


def script(shell: str, capsys: Capture) -> str:
    assert main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(script: str, *words: str) -> list[str]:
    """What bash would offer for the last word."""
    asked = " ".join(f"'{word}'" for word in words)
    run = (
        f"{script}\nCOMP_WORDS=({asked}); COMP_CWORD={len(words) - 1}; _resilient_llm; printf '%s\\n' ${{COMPREPLY[@]}}"
    )
    done = subprocess.run(["bash", "-c", run], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_options_choices_and_files(capsys: Capture) -> None:
    bash = script("bash", capsys)
    assert completed(bash, "resilient-llm", "") == list(COMMANDS)
    assert completed(bash, "resilient-llm", "ch") == ["check", "chaos"]
    assert completed(bash, "resilient-llm", "check", "--w") == ["--without-keys", "--within"]
    assert completed(bash, "resilient-llm", "completion", "z") == ["zsh"]
    assert completed(bash, "resilient-llm", "check", "pyproj") == ["pyproject.toml"]
    assert completed(bash, "resilient-llm", "demo", "--output", "READ") == ["README.md"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_accept_their_script(shell: str, capsys: Capture) -> None:
    text = script(shell, capsys)
    for name in COMMANDS:
        assert name in text
    assert "without-keys" in text
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n"], input=text, text=True, check=True)


def test_what_is_completed_comes_from_the_parsers() -> None:
    found = {one.name: one for one in completion.commands_of(parser_of(COMMANDS))}
    assert list(found) == list(COMMANDS)
    options = {flag: option for option in found["check"].options for flag in option.flags}
    assert options["--probe"].choices is None
    assert options["--patience"].choices == ()
    assert options["--patience"].summary == "for an answer (30)"


# --- bench ---


def test_bench_measures_calls_beside_httpx(capsys: Capture) -> None:
    assert main(["bench", "--calls", "2", "--rounds", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    figures = {one["what"]: one for one in found["figures"]}
    assert figures["client.chat()"]["beside"] == "httpx.Client.post().json()"
    assert figures["httpx.Client.post().json()"]["ratio"] == 1.0
    assert all(one["cpu_us"] > 0 for one in figures.values())
    assert found["python"].startswith(("CPython", "PyPy"))


def test_bench_refuses_no_calls(capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["bench", "--calls", "0"])
    assert left.value.code == 2


def test_whoever_stops_reading_gets_no_traceback(tmp_path: Path) -> None:
    steps = [{"do": "stopped_waiting", "at": 0.0}] * 20_000  # more than a pipe holds
    record = tmp_path / "record.json"
    record.write_text(json.dumps({"version": 1, "call": "x", "started": 0.0, "steps": steps}))
    with subprocess.Popen(
        [sys.executable, "-m", "resilient_llm", "explain", str(record)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.readline()
        running.stdout.close()
        assert running.stderr.read() == b""
        assert running.wait(20) == 0
