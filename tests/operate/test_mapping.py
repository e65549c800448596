"""``python -m resilient_llm map``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from resilient_llm.__main__ import main
from resilient_llm.operate.mapping import prompt_of
from resilient_llm.testing import LoopbackLLM, Reply, Status

LINES = [
    '"one"',
    '[{"role": "user", "content": "two"}]',
    "",
    '{"prompt": "three", "key": "k", "options": {"max_tokens": 7}}',
    '{"messages": [{"role": "user", "content": "four"}], "custom_id": 4}',
]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    return tmp_path / "resilient.toml"


def configured(server: LoopbackLLM, settings: Path) -> None:
    settings.write_text(
        f'[[providers]]\nkind = "openai"\nmodel = "m"\nid = "a"\nbase_url = "{server.url}/v1"\napi_key = "plain:k"\n'
        "[retry]\nmax_attempts = 1\n"
    )


def test_it_asks_all_prompts_and_resumes(tmp_path: Path, settings: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    prompts.write_text("\n".join(LINES) + "\n")
    command = [
        "map",
        str(prompts),
        "--out",
        str(out),
        "--settings",
        str(settings),
        "--system",
        "s",
        "--concurrency",
        "1",
    ]
    with LoopbackLLM(default=Reply("fine")) as server:
        configured(server, settings)
        assert main(command) == 0
        assert server.request_count == 4
        asked = [json.loads(request.body) for request in server.requests]
        assert [body["messages"][-1]["content"] for body in asked] == ["one", "two", "three", "four"]
        assert all(body["messages"][0]["content"] == "s" for body in asked)
        assert main([*command, "--json", "--quiet"]) == 0
        assert server.request_count == 4
    told = capsys.readouterr()
    assert "answered" in told.out
    assert json.loads(told.out[told.out.index("{") :])["saved"] == 4
    assert "4/4" in told.err
    assert [json.loads(line)["key"] for line in out.read_text().splitlines()] == [0, 1, "k", 4]


def test_failures_are_told_and_files_that_are_none(
    tmp_path: Path, settings: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts, out = tmp_path / "prompts.jsonl", tmp_path / "results.jsonl"
    prompts.write_text('"one"\n')
    command = ["map", str(prompts), "--out", str(out), "--settings", str(settings), "--quiet"]
    with LoopbackLLM(default=Status(400)) as server:
        configured(server, settings)
        assert main(command) == 1
        assert "prompt 0 (key 0): the provider rejected the request" in capsys.readouterr().err
        prompts.write_text('{"prompt": "a", "text": "b"}\n')
        assert main(["map", str(prompts), "--out", str(out) + "2", "--settings", str(settings), "--quiet"]) == 2
        assert "line 1: a prompt has prompt or messages" in capsys.readouterr().err
        assert main(["map", str(tmp_path / "none"), "--out", str(out), "--settings", str(settings)]) == 2


@pytest.mark.parametrize(
    "line",
    [3, None, {}, {"prompt": "a", "messages": []}, {"prompt": "a", "key": []}, {"prompt": "a", "options": {"n": 1}}],
)
def test_lines_that_are_no_prompt(line: object) -> None:
    with pytest.raises(ValueError, match=r"prompt|key"):
        prompt_of(line)
