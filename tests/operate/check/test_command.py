"""``python -m resilient_llm check``, as it is typed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from resilient_llm.__main__ import main
from resilient_llm.operate.look import Sheet, plain, row, write
from resilient_llm.operate.settings import schema
from resilient_llm.testing import LoopbackLLM, Reply, Status

KEY = "sk-very-secret-0123456789"
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("APP_ENV", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def write_file(text: str) -> None:
    Path("resilient.toml").write_text(text)


GOOD = """\
deadline = 30
[providers.main]
kind = "openai"
model = "gpt-5.2"
api_key = "env:MAIN_KEY"
headers = {x-team = "us"}
[providers.own]
kind = "openai"
model = "m"
api_key = "plain:sk-very-secret-0123456789"
base_url = "https://gateway.example/abcdefgh0123/v1"
tags = ["eu", "gpu"]
"""


def test_right_settings_are_shown_with_their_origin_and_no_secret(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(GOOD)
    monkeypatch.setenv("MAIN_KEY", KEY)
    monkeypatch.setenv("RESILIENT_LLM__RETRY__MAX_ATTEMPTS", "3")
    assert main(["check", "resilient.toml"]) == 0
    told = capsys.readouterr().out
    assert KEY not in told
    assert "https://gateway.example/***/v1" in told
    lines = [line.split() for line in told.splitlines()]
    assert ["deadline", "30", "resilient.toml:1"] in lines
    assert ["providers.own.api_key", "plain:***", "resilient.toml:10"] in lines
    assert ["providers.main.headers", "<x-team>", "resilient.toml:6"] in lines
    assert ["retry.max_attempts", "3", "variable", "RESILIENT_LLM__RETRY__MAX_ATTEMPTS"] in lines
    assert ["env:MAIN_KEY", "there"] in lines
    assert "resilient.toml: the settings are right" in told
    assert "default" not in [line[-1] for line in lines if line and line[0].startswith("breaker")]
    assert main(["check", "resilient.toml", "--all"]) == 0
    assert ["breaker.consecutive", "5", "default"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_every_mistake_is_shown_at_once(capsys: Capture) -> None:
    write_file("deadlin = 3\n[providers.main]\nkind = 'openai'\nmodel = 'm'\nweight = 0\n")
    assert main(["check", "resilient.toml"]) == 1
    told = capsys.readouterr().out
    assert "resilient.toml:1" in told
    assert "did you mean deadline=?" in told
    assert "resilient.toml:5" in told
    assert "set OPENAI_API_KEY" in told
    assert "resilient.toml: 3 errors" in told
    assert main(["check", "resilient.toml", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["valid"], found["fine"]) == (False, False)
    assert found["problems"][0] == {
        "severity": "error",
        "key": "deadlin",
        "message": "there is no such setting",
        "suggestion": "did you mean deadline=?",
        "source": "resilient.toml",
        "line": 1,
    }


def test_keys_that_are_not_here_can_be_left_for_later(capsys: Capture) -> None:
    write_file(GOOD + "[providers.third]\nkind = 'openai'\nmodel = 'x'\n")
    assert main(["check", "resilient.toml"]) == 1
    capsys.readouterr()
    assert main(["check", "resilient.toml", "--without-keys"]) == 0
    assert "the variable MAIN_KEY is not set" in capsys.readouterr().out
    write_file(GOOD)
    assert main(["check", "resilient.toml"]) == 1
    assert "1 secret is not there" in capsys.readouterr().out


def test_a_proxy_and_certificates_are_shown_without_passwords(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROXY", "http://me:canary-word@proxy:3128")
    provider = "[providers.a]\nkind = 'openai'\nmodel = 'm'\napi_key = 'plain:k'\n"
    write_file(provider + "proxy = 'env:PROXY'\nverify = false\n")
    assert main(["check", "resilient.toml"]) == 0
    told = capsys.readouterr().out
    assert "through http://proxy:3128, its certificate not verified" in " ".join(told.split())
    assert "env:PROXY" in told
    assert "canary" not in told
    write_file(provider + "verify = '/nowhere/ca.pem'\ncert = ['/nowhere/cert.pem', '/nowhere/key.pem', 'env:WORD']\n")
    assert main(["check", "resilient.toml"]) == 1
    assert "/nowhere/ca.pem" in capsys.readouterr().out
    assert main(["check", "resilient.toml", "--without-keys"]) == 0


def test_a_file_that_cannot_be_read_is_no_finding_but_a_wrong_command(capsys: Capture) -> None:
    write_file(GOOD)
    assert main(["check", "nowhere.toml"]) == 2
    assert "there is no such file" in capsys.readouterr().out
    assert main(["check", "resilent.toml", "--json"]) == 2
    assert "did you mean resilient.toml?" in json.loads(capsys.readouterr().out)["problems"][0]["message"]
    Path("folder.toml").mkdir()
    assert main(["check", "folder.toml"]) == 2
    assert "cannot be read: Is a directory" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["chaos"], ["explain"], ["simulate"], ["map", "--out", "x"]])
def test_commands_say_which_file_is_not_there(command: list[str], capsys: Capture) -> None:
    write_file(GOOD)
    assert main([*command, "nowhere.toml"]) == 2
    told = capsys.readouterr().err
    assert "nowhere.toml" in told
    assert "there is no" in told
    assert "Errno" not in told


def test_map_takes_the_usual_settings_file(capsys: Capture) -> None:
    provider = "[providers.a]\nkind = 'openai'\nmodel = 'm'\napi_key = 'plain:k'\nbase_url = '{}/v1'\n"
    with LoopbackLLM(default=Reply("ready")) as server:
        write_file(provider.format(server.url))
        Path("prompts.jsonl").write_text('"Hello?"\n')
        assert main(["map", "prompts.jsonl", "--out", "results.jsonl", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["answered"] == 1


def test_the_schema_is_printed(capsys: Capture) -> None:
    assert main(["check", "--schema"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(schema()))


def test_the_providers_are_asked(capsys: Capture) -> None:
    provider = "[providers.{}]\nkind = 'openai'\nmodel = 'm'\napi_key = 'plain:k'\nbase_url = '{}/v1'\n"
    with LoopbackLLM(default=Reply("ready")) as well, LoopbackLLM(default=Status(401)) as locked:
        write_file(provider.format("a", well.url))
        assert main(["check", "resilient.toml", "--probe"]) == 0
        assert "all providers answer" in capsys.readouterr().out
        nowhere = provider.format("c", well.url).replace("plain:k", "file:/nowhere")
        write_file(provider.format("b", locked.url) + nowhere)
        assert main(["check", "resilient.toml", "--probe"]) == 1
        assert "right; 1 secret is not there; b, c did not answer as it should" in capsys.readouterr().out
        write_file(provider.format("a", well.url) + provider.format("b", locked.url))
        assert main(["check", "resilient.toml", "--probe"]) == 1
        told = capsys.readouterr().out
        assert "b did not answer as it should" in told
        assert ["b", "key", "refused"] in [line.split() for line in told.splitlines()]
        assert main(["check", "resilient.toml", "--probe", "--json", "--within", "9"]) == 1
        found = json.loads(capsys.readouterr().out)
    assert [one["status"] for one in found["probe"]] == ["ok", "key refused"]
    assert [step["level"] for step in found["probe"][0]["steps"]] == ["reachable", "answering", "correct", "fast"]


@pytest.mark.parametrize("seconds", ["0", "-1", "x"])
def test_times_that_make_no_sense_are_refused(seconds: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit) as left:
        main(["check", "resilient.toml", "--within", seconds])
    assert left.value.code == 2


class Terminal(io.StringIO):
    """An output that says it is one."""

    def isatty(self) -> bool:
        return True


def test_tables_are_plain_in_files_and_coloured_in_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    sheet = Sheet("Title", [row("a", "[b]", mood="bad"), row("long", "c")], ("x", "y"))
    assert plain(sheet) == "Title\n  x     y\n  a     [b]\n  long  c\n"
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()
    write(out, sheet, Sheet("empty", []))
    assert "\x1b[" in out.getvalue()
    assert "[b]" in out.getvalue()
    assert "empty" not in out.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    write(out, sheet)
    assert out.getvalue() == plain(sheet)
