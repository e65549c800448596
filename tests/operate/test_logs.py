"""Log lines as JSON, of this library and of others."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from resilient_llm import CallFailed, ResilientClient
from resilient_llm.operate.logs import JsonFormatter
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, Status

ROOT = Path(__file__).parents[2]


@contextmanager
def written(name: str) -> Iterator[list[dict[str, object]]]:
    """The lines that a logger writes inside the block, read back afterwards."""
    stream, lines = io.StringIO(), list[dict[str, object]]()
    handler, logger = logging.StreamHandler(stream), logging.getLogger(name)
    handler.setFormatter(JsonFormatter())
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(logging.NOTSET)
        lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_failed_call_leaves_lines_that_lead_to_each_other() -> None:
    with (
        LoopbackLLM(default=Status(401, headers={"x-request-id": "req_7"})) as server,
        written("resilient_llm") as lines,
    ):
        with (
            ResilientClient(
                [OpenAI("m", id="one", base_url=f"{server.url}/v1", api_key="sk-canary-12345678")]
            ) as client,
            pytest.raises(CallFailed),
        ):
            client.chat("?", deadline=1)
        sent = server.requests[0].headers["x-client-request-id"]
    attempt, gate, failed = lines
    assert [line["event"] for line in lines] == [
        "resilient_llm.client.attempt",
        "resilient_llm.provider.ejection",
        "gen_ai.client.operation.exception",
    ]
    assert [line["level"] for line in lines] == ["DEBUG", "WARNING", "WARNING"]
    assert gate["error.type"] == "authentication"
    assert attempt["resilient_llm.attempt.id"] == sent == f"{failed['resilient_llm.call.id']}-1"
    assert attempt["resilient_llm.provider.request_id"] == failed["resilient_llm.provider.request_id"] == "req_7"
    assert "canary" not in json.dumps(lines)


def test_whatever_is_logged_becomes_json_on_one_line() -> None:
    with written("somebody.else") as lines:
        logger = logging.getLogger("somebody.else")
        logger.info("two\nlines of %s", "text", extra={"odd": object, "nan": float("nan"), "deep": {"a": [1, (2,)]}})
        try:
            raise ValueError("no")
        except ValueError:
            logger.exception("failed", extra={"level": "is not overwritten"})
    first, second = lines
    assert first["message"] == "two\nlines of text"
    assert (first["nan"], first["deep"], first["logger"]) == (None, {"a": [1, [2]]}, "somebody.else")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", str(first["time"]))
    assert second["level"] == "ERROR"
    assert "ValueError: no" in str(second["exception"])


@pytest.mark.skipif(find_spec("structlog") is None, reason="needs structlog")
def test_the_structlog_example_keeps_every_fact_and_what_the_application_bound() -> None:
    example = ROOT / "examples" / "observability" / "logs_structlog.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", str(example)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    (failover,) = [line for line in lines if line["otel.event.name"] == "resilient_llm.client.failover"]
    assert failover["http_request"] == "GET /sky"
    assert failover["level"] == "warning"
    assert failover["resilient_llm.failover.reason"] == "rate_limit"
    assert failover["resilient_llm.attempt.id"] in done.stdout, "the same id that the provider was sent"


def test_no_value_costs_its_line() -> None:
    class Silent:
        def __repr__(self) -> str:
            raise ValueError("no repr")

    record = logging.makeLogRecord({"msg": "a\u2028b\ud800", "levelno": 20, "one": Silent(), "two": b"\xff"})
    line = JsonFormatter().format(record)
    assert line.isascii()
    assert len(line.splitlines()) == 1
    told = json.loads(line)
    assert (told["message"], told["one"], told["two"]) == ("a\u2028b\ud800", "<Silent>", "b'\\xff'")
