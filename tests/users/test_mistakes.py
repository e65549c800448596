"""Wrong addresses, keys and sizes: what is one provider's alone is answered by the next one."""

from __future__ import annotations

import json
import time

import pytest

from resilient_llm import FaultKind, RequestRejected, ResilientClient
from resilient_llm.errors import CallFailed
from tests.users.server import WELL, Answer, Network, Received, echo, failed
from tests.users.using import openai

HTML = b"<!doctype html><html><body>Welcome to our portal</body></html>"


@pytest.mark.parametrize("body", [b"method not allowed", b'{"detail": "short and stout"}'], ids=["text", "json"])
@pytest.mark.parametrize("status", [404, 405, 410, 418])
def test_a_wrong_address_is_passed_over(network: Network, status: int, body: bytes) -> None:
    kind = "application/json" if body.startswith(b"{") else "text/plain"
    a = network.provider(Answer(status=status, body=body, headers=(("content-type", kind),)))
    b = network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        for _ in range(3):
            reply = client.chat("hi", deadline=5)
            assert (reply.text, reply.provider) == (echo("hi"), "b")
    assert len(a.requests) == 1


def test_a_warning_says_what_looks_wrong_with_an_address(network: Network, caplog: pytest.LogCaptureFixture) -> None:
    a = network.provider(Answer(status=405, body=b"method not allowed", headers=(("content-type", "text/plain"),)))
    with ResilientClient([openai(a, "a"), openai(network.provider(), "b")]) as client, caplog.at_level("WARNING"):
        client.chat("hi", deadline=5)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("base_url" in warning for warning in warnings)


def test_a_redirect_moves_on_without_retries(network: Network) -> None:
    a, b = network.provider(Answer(status=302, body=b"", headers=(("location", "/login"),))), network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client:
        reply = client.chat("hi", deadline=5)
    assert (reply.provider, len(reply.attempts), len(a.requests)) == ("b", 2, 1)


def test_a_lone_redirect_is_tried_once(network: Network) -> None:
    a = network.provider(Answer(status=302, body=b"", headers=(("location", "/login"),)))
    began = time.monotonic()
    with ResilientClient([openai(a, "a")]) as client, pytest.raises(CallFailed):
        client.chat("hi", deadline=3)
    assert len(a.requests) == 1
    assert time.monotonic() - began < 1


def test_html_in_a_200_to_a_stream_is_an_invalid_answer_with_its_status(network: Network) -> None:
    a, b = network.provider(Answer(body=HTML, headers=(("content-type", "text/html"),))), network.provider()
    with ResilientClient([openai(a, "a"), openai(b, "b")]) as client, client.stream("hi", deadline=5) as stream:
        assert "".join(stream.text_deltas()) == echo("hi")
        first = stream.attempts[0]
    assert first.fault is not None
    assert (first.provider, first.fault.kind, first.status) == ("a", FaultKind.INVALID_RESPONSE, 200)


def test_a_key_that_was_rotated_after_a_401_is_used_by_the_next_call(network: Network) -> None:
    keys = ["old"]

    def script(request: Received) -> Answer:
        if request.headers["authorization"] == "Bearer new":
            return WELL
        return failed(401, "Incorrect API key provided", kind="invalid_request_error")

    a = network.provider(script)
    with ResilientClient([openai(a, "a", api_key=lambda: keys[-1])]) as client:
        with pytest.raises(CallFailed):
            client.chat("hi", deadline=3)
        keys.append("new")
        assert client.chat("hi", deadline=3).text == echo("hi")


def too_long() -> Answer:
    body = {
        "error": {
            "message": "This model's maximum context length is 8192 tokens.",
            "type": "invalid_request_error",
            "param": "messages",
            "code": "context_length_exceeded",
        }
    }
    return Answer(status=400, body=json.dumps(body).encode(), headers=(("content-type", "application/json"),))


def windowed(network: Network, name: str, window: int | None, answer: Answer) -> tuple[object, object]:
    provider = network.provider(answer)
    return provider, openai(provider, name, context_window=window)


def test_a_prompt_that_is_too_long_goes_to_larger_and_unknown_windows_alone(network: Network) -> None:
    small, one = windowed(network, "small", 8_000, too_long())
    other_small, two = windowed(network, "other-small", 8_000, WELL)
    unknown, three = windowed(network, "unknown", None, too_long())
    large, four = windowed(network, "large", 200_000, WELL)
    with ResilientClient([one, two, three, four]) as client:
        assert client.chat("hi", deadline=5).provider == "large"
    assert [len(provider.requests) for provider in (small, other_small, unknown, large)] == [1, 0, 1, 1]


def test_a_prompt_that_is_too_long_for_everybody_is_the_caller_s(network: Network) -> None:
    with ResilientClient([openai(network.provider(too_long()), name) for name in "ab"]) as client:
        with pytest.raises(RequestRejected):
            client.chat("hi", deadline=5)
        assert {health.breaker for health in client.health().values()} == {"closed"}
