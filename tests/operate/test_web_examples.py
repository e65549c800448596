"""The web examples, each in its own real server: a failure is a status, and a fork does no harm."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

import httpx
import pytest

from resilient_llm.testing import Cut, Hang, LoopbackLLM, Reply, Status
from tests.operate.processes import ROOT, serving

WEB = ROOT / "examples" / "web"
ANSWER = "The sky scatters blue light."


def needs(*modules: str) -> pytest.MarkDecorator:
    missing = [name for name in modules if find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}")


@contextmanager
def example(*command: str, **environment: str) -> Iterator[tuple[httpx.Client, LoopbackLLM]]:
    with LoopbackLLM(default=Reply(ANSWER)) as llm:
        settings = {"LLM_URLS": f"{llm.url}/v1", "LLM_DEADLINE": "3", **environment}
        with serving(list(command), WEB, settings) as http:
            ends = time.monotonic() + 30
            while http.post("/chat", json={"text": "?"}).status_code == 504 and time.monotonic() < ends:
                pass  # the first call imports what it needs, on a busy machine for longer than it has
            yield http, llm


def answers_as_documented(http: httpx.Client, llm: LoopbackLLM, path: str) -> None:
    """Failures before the first content, in the order in which they leave the least behind."""
    llm.script(Status(400, body={"error": {"message": "no", "type": "invalid_request_error"}}))
    assert http.post(path, json={"text": "?"}).status_code == 400
    llm.default = Hang()
    assert http.post(path, json={"text": "?"}).status_code == 504
    llm.default = Status(429, retry_after=30)
    refused = http.post(path, json={"text": "?"})
    assert refused.status_code == 503
    assert 29 <= int(refused.headers["retry-after"]) <= 39
    assert http.get("/llm/livez").status_code == 200


@needs("fastapi", "uvicorn")
def test_fastapi_streams_and_answers_failures_with_a_status() -> None:
    with example("uvicorn", "--fd={fd}", "--log-level=warning", "fastapi_chat:app") as (http, llm):
        answer = http.post("/chat", json={"text": "Why is the sky blue?"})
        assert answer.status_code == 200, answer.text
        assert text_of(answer.text) == (ANSWER, "done")
        llm.script(Reply(ANSWER, fault=Cut(after=2)))
        assert text_of(http.post("/chat", json={"text": "?"}).text)[1] == "error"
        assert http.get("/llm/").status_code == 200
        assert http.get("/llm/snapshot").json()["providers"]["server-1"]["samples"] >= 1
        answers_as_documented(http, llm, "/chat")
        assert http.get("/llm/readyz").status_code == 503


def text_of(events: str) -> tuple[str, str]:
    """The text of server-sent events, and the name of the last one."""
    blocks = [block.splitlines() for block in events.strip().split("\n\n")]
    pairs = [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]
    return "".join(data for name, data in pairs if name == "text"), pairs[-1][0]


@needs("flask", "gunicorn")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
def test_flask_under_gunicorn_serves_from_every_worker_with_a_client_used_before_the_fork() -> None:
    command = ["gunicorn", "--bind=fd://{fd}", "--preload", "--workers=2", "--threads=2", "flask_chat:app"]
    with example(*command, LLM_ASK_FIRST="1") as (http, llm):
        first = http.post("/chat", json={"text": "?"}).json()
        os.kill(first["worker"], signal.SIGSTOP)  # the next one can only be answered by the other
        second = httpx.post(f"{http.base_url}/chat", json={"text": "?"}, timeout=30, trust_env=False).json()
        os.kill(first["worker"], signal.SIGCONT)
        assert first["worker"] != second["worker"]
        assert first["text"] == second["text"] == ANSWER
        assert http.post("/stream", json={"text": "?"}).text == ANSWER
        llm.script(Reply(ANSWER, fault=Cut(after=2)))
        assert http.post("/stream", json={"text": "?"}).text.endswith("[the answer was interrupted]\n")
        answers_as_documented(http, llm, "/stream")


@needs("django", "gunicorn")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="gunicorn needs fork")
def test_django_answers_failures_with_a_status() -> None:
    with example("gunicorn", "--bind=fd://{fd}", "--workers=1", "--threads=2", "django_chat:application") as (
        http,
        llm,
    ):
        assert http.post("/chat", json={"text": "?"}).json() == {"text": ANSWER, "provider": "server-1"}
        assert http.post("/stream", json={"text": "?"}).text == ANSWER
        assert http.get("/llm/").status_code == 200
        assert http.get("/llm/nothing").status_code == 404
        answers_as_documented(http, llm, "/chat")
        assert http.get("/llm/readyz").status_code == 503
