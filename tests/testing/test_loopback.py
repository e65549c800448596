"""The loopback server behaves, and misbehaves, as its script says: seen over real sockets with httpx."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from resilient_llm.model import ToolCall, Usage
from resilient_llm.testing import (
    Close,
    Cut,
    Drip,
    EndlessHeaders,
    Hang,
    InBandError,
    LoopbackLLM,
    Malformed,
    Raw,
    ReceivedRequest,
    Reply,
    Reset,
    Stall,
    Status,
)
from resilient_llm.testing.script import Answer, gzip_bomb

CHAT = "/v1/chat/completions"
ASK = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
WORDS = Reply(pieces=("one ", "two ", "three"))


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM() as server:
        yield server


@pytest.fixture
def client(server: LoopbackLLM) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=5) as client:
        yield client


def data_lines(text: str) -> list[str]:
    return [line[6:] for line in text.split("\n") if line.startswith("data: ")]


def contents(text: str) -> str:
    """The text of an OpenAI stream; what is not JSON is skipped."""
    found = ""
    for data in data_lines(text):
        try:
            chunk = json.loads(data)
        except ValueError:
            continue
        for choice in chunk.get("choices", ()):
            found += choice["delta"].get("content") or ""
    return found


def received_before_failure(client: httpx.Client) -> tuple[str, httpx.HTTPError]:
    """Text that arrived, and the error that ended it."""
    text = ""
    with client.stream("POST", CHAT, json=STREAM) as answer:
        try:
            for piece in answer.iter_text():
                text += piece
        except httpx.HTTPError as error:
            return text, error
    raise AssertionError("the stream did not break")


# --- answers -----------------------------------------------------------------------------------------------


def test_an_unscripted_server_answers_like_openai(client: httpx.Client) -> None:
    answer = client.post(CHAT, json=ASK)
    body = answer.json()
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"]
    assert body["object"] == "chat.completion"
    assert body["model"] == "gpt-5.2"
    assert body["choices"][0]["message"]["content"]
    assert body["choices"][0]["finish_reason"] == "stop"
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]


def test_a_stream_has_role_tokens_finish_usage_and_terminator(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(WORDS)
    answer = client.post(CHAT, json={**STREAM, "stream_options": {"include_usage": True}})
    assert answer.headers["content-type"].startswith("text/event-stream")
    *chunks, usage, done = data_lines(answer.text)
    deltas = [json.loads(chunk)["choices"][0] for chunk in chunks]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    assert [delta["delta"].get("content") for delta in deltas[1:4]] == ["one ", "two ", "three"]
    assert deltas[4]["finish_reason"] == "stop"
    assert json.loads(usage)["usage"]["completion_tokens"] == 3
    assert json.loads(usage)["choices"] == []
    assert done == "[DONE]"


def test_usage_is_streamed_only_on_request(client: httpx.Client) -> None:
    assert "usage" not in client.post(CHAT, json=STREAM).text


def test_stream_inside_a_tool_schema_does_not_make_a_stream(client: httpx.Client) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"stream": True}}}]
    assert client.post(CHAT, json={**ASK, "tools": tools}).json()["object"] == "chat.completion"


def test_tool_calls_thoughts_and_given_usage_travel(server: LoopbackLLM, client: httpx.Client) -> None:
    call = ToolCall("call_1", "weather", '{"city":"Paris"}')
    server.default = Reply("", tool_calls=(call,), thought="hmm", usage=Usage(7, 5, 2, 0, 3, 12), model="other")
    whole = client.post(CHAT, json=ASK).json()
    message = whole["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "weather", "arguments": '{"city":"Paris"}'}
    assert message["reasoning_content"] == "hmm"
    assert message["content"] is None
    assert whole["choices"][0]["finish_reason"] == "tool_calls"
    assert whole["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert whole["model"] == "other"
    chunks = [json.loads(data) for data in data_lines(client.post(CHAT, json=STREAM).text)[:-1]]
    deltas = [call for chunk in chunks for call in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert deltas[0]["id"] == "call_1"
    assert "".join(delta["function"]["arguments"] for delta in deltas) == '{"city":"Paris"}'
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_no_usage_when_told_so(server: LoopbackLLM, client: httpx.Client) -> None:
    server.default = Reply(usage=None)
    assert "usage" not in client.post(CHAT, json=ASK).json()
    assert "usage" not in client.post(CHAT, json={**STREAM, "stream_options": {"include_usage": True}}).text


def test_models_embeddings_and_unknown_paths(server: LoopbackLLM, client: httpx.Client) -> None:
    assert client.get("/v1/models").json()["data"][0]["id"]
    answer = client.post("/v1/embeddings", json={"model": "e", "input": ["a", "b", "a"], "dimensions": 4}).json()
    vectors = [entry["embedding"] for entry in answer["data"]]
    assert [len(vector) for vector in vectors] == [4, 4, 4]
    assert vectors[0] == vectors[2] != vectors[1]
    packed = client.post("/v1/embeddings", json={"input": "a", "encoding_format": "base64"}).json()
    assert isinstance(packed["data"][0]["embedding"], str)
    assert client.post("/v1/nothing", json={}).status_code == 404


# --- the script --------------------------------------------------------------------------------------------


def test_script_is_consumed_in_order_and_then_falls_back(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Status(429), Status(500))
    server.script(Reply("third"))
    server.default = Status(503)
    assert server.script_left == 3
    statuses = [client.post(CHAT, json=ASK).status_code for _ in range(5)]
    assert statuses == [429, 500, 200, 503, 503]
    assert server.script_left == 0


def test_a_function_of_the_request_decides(server: LoopbackLLM, client: httpx.Client) -> None:
    server.default = lambda request: Reply("streamed" if request.stream else str(request.json["model"]))
    assert callable(server.default)
    assert client.post(CHAT, json=ASK).json()["choices"][0]["message"]["content"] == "gpt-5.2"
    assert contents(client.post(CHAT, json=STREAM).text) == "streamed"


def test_a_failing_responder_answers_500_and_fails_the_test() -> None:
    def responder(request: ReceivedRequest) -> Reply:
        raise LookupError("oops")

    def use(server: LoopbackLLM) -> None:
        with server:
            assert httpx.post(server.url + CHAT, json=ASK).status_code == 500
            assert len(server.errors) == 1

    with pytest.raises(LookupError, match="oops"):
        use(LoopbackLLM(responder))


def test_what_is_no_behaviour_is_refused_when_given(server: LoopbackLLM) -> None:
    with pytest.raises(TypeError, match="behaviour"):
        server.script(b"hello")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="behaviour"):
        server.default = 429  # type: ignore[assignment]


def test_text_is_short_for_a_reply(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script("one")
    server.default = "another"
    answers = [client.post(CHAT, json=ASK).json()["choices"][0]["message"]["content"] for _ in range(3)]
    assert answers == ["one", "another", "another"]


def test_a_request_that_finds_the_script_used_up_fails_the_test(client: httpx.Client) -> None:
    def use(server: LoopbackLLM) -> None:
        with server:
            for status in (200, 500):
                assert httpx.post(server.url + CHAT, json=ASK).status_code == status

    with pytest.raises(AssertionError, match=r"request 2, POST .* finds the script used up"):
        use(LoopbackLLM("one"))


def test_a_script_that_is_cleared_is_none(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script("one")
    server.clear()
    assert client.post(CHAT, json=ASK).status_code == 200


def test_a_responder_may_steer_the_server_itself(server: LoopbackLLM, client: httpx.Client) -> None:
    def responder(request: ReceivedRequest) -> Reply:
        server.refuse()
        return Reply("last words")

    server.script(responder)
    assert client.post(CHAT, json=ASK).status_code == 200
    # Not with the same client: it might reuse the connection in the moment in which the server closes it.
    with pytest.raises(httpx.ConnectError):
        httpx.post(server.url + CHAT, json=ASK)


# --- statuses and bodies -----------------------------------------------------------------------------------


def test_status_with_headers_and_error_body(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Status(429, retry_after=1.5, headers={"X-Trace": "t"}, code="slow_down", message="easy"))
    answer = client.post(CHAT, json=ASK)
    assert answer.headers["retry-after"] == "1.5"
    assert answer.headers["x-trace"] == "t"
    assert answer.json()["error"]["code"] == "slow_down"
    assert answer.json()["error"]["message"] == "easy"


@pytest.mark.parametrize(
    ("body", "content_type", "sent"),
    [
        ("<html>sorry</html>", "text/html; charset=utf-8", b"<html>sorry</html>"),
        ("no healthy upstream", "text/plain; charset=utf-8", b"no healthy upstream"),
        ({"detail": "x"}, "application/json", b'{"detail":"x"}'),
        (b"\xff\xfe\x00", "application/json", b"\xff\xfe\x00"),
        ("", None, b""),
    ],
)
def test_bodies_of_every_kind(
    server: LoopbackLLM, client: httpx.Client, body: str, content_type: str | None, sent: bytes
) -> None:
    server.script(Status(200, body), Status(502, body))
    for status in (200, 502):
        answer = client.post(CHAT, json=ASK)
        assert answer.status_code == status
        assert answer.headers.get("content-type") == content_type
        assert answer.content == sent


def test_headers_can_be_replaced_and_removed(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(headers={"Content-Type": "text/html"}), Reply(headers={"content-type": None}))
    assert client.post(CHAT, json=STREAM).headers["content-type"] == "text/html"
    assert "content-type" not in client.post(CHAT, json=ASK).headers


def test_a_too_large_content_length_breaks_the_body(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(wrong_length=10), Status(500, wrong_length=1))
    for _ in range(2):
        with pytest.raises(httpx.RemoteProtocolError):
            client.post(CHAT, json=ASK)


def test_a_too_small_content_length_cuts_the_body(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(wrong_length=-10), "hello")
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        client.post(CHAT, json=ASK).json()
    # The surplus bytes spoil the connection; the client recovers by itself at the latest with a new one.
    with httpx.Client(base_url=server.url) as other:
        assert other.post(CHAT, json=ASK).status_code == 200


def test_a_body_not_in_its_content_encoding_cannot_be_decoded(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(headers={"content-encoding": "gzip"}))
    with pytest.raises(httpx.DecodingError):
        client.post(CHAT, json=ASK)


def test_gzip_bomb_is_small_on_the_wire_and_large_inside(server: LoopbackLLM, client: httpx.Client) -> None:
    bomb = gzip_bomb(3 << 20)
    assert isinstance(bomb.body, bytes)
    assert len(bomb.body) < 10_000
    assert gzip.decompress(bomb.body) == bytes(3 << 20)
    server.script(bomb)
    assert len(client.post(CHAT, json=ASK).content) == 3 << 20


def test_a_dripped_body_arrives_whole_in_many_pieces(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Status(200, "abcdefgh", drip=Drip(2, 0.05)))  # long enough for a busy machine
    with client.stream("POST", CHAT, json=ASK) as answer:
        pieces = list(answer.iter_raw())
    assert b"".join(pieces) == b"abcdefgh"
    assert len(pieces) > 1


def test_a_dripped_stream_is_still_valid(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply("hi", drip=Drip(40, 0)))
    answer = client.post(CHAT, json=STREAM)
    assert contents(answer.text) == "hi"
    assert answer.text.endswith("data: [DONE]\n\n")


# --- time --------------------------------------------------------------------------------------------------


def test_delay_comes_before_the_headers(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(delay=0.03))
    began = time.monotonic()
    with client.stream("POST", CHAT, json=STREAM):
        assert time.monotonic() - began >= 0.03


def test_slow_first_token_comes_after_the_headers(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply("x", first_token=0.05))
    with client.stream("POST", CHAT, json=STREAM) as answer:
        opened = time.monotonic()
        text = "".join(answer.iter_text())
        assert time.monotonic() - opened >= 0.03
    assert contents(text) == "x"


def test_tokens_come_at_their_interval(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(pieces=("a", "b", "c"), interval=0.02))
    began = time.monotonic()
    assert contents(client.post(CHAT, json=STREAM).text) == "abc"
    assert time.monotonic() - began >= 0.04


def test_a_whole_answer_takes_as_long_as_its_generation(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(pieces=("a", "b"), first_token=0.01, interval=0.02))
    began = time.monotonic()
    client.post(CHAT, json=ASK)
    assert time.monotonic() - began >= 0.03


def test_keep_alive_comments_fill_the_waits(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply("x", first_token=0.03, keep_alive=0.01))
    text = client.post(CHAT, json=STREAM).text
    assert text.count(": keep-alive\n\n") == 2
    assert contents(text) == "x"


def test_keep_alives_alone_go_on_until_the_client_leaves(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(fault=Stall(0), keep_alive=0.002, role_deltas=0))
    with client.stream("POST", CHAT, json=STREAM) as answer:
        seen = ""
        for piece in answer.iter_text():
            seen += piece
            if seen.count(": keep-alive") > 3:
                break
    assert not data_lines(seen)
    server.wait_for(lambda s: s.requests[0].hung_up_at)


# --- streams that go wrong ---------------------------------------------------------------------------------


def test_stall_after_k_tokens(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(pieces=("a", "b", "c"), fault=Stall(2)))
    client.timeout = httpx.Timeout(0.05)
    text, raised = received_before_failure(client)
    assert contents(text) == "ab"
    assert isinstance(raised, httpx.ReadTimeout)


@pytest.mark.parametrize(("how", "error"), [("close", httpx.RemoteProtocolError), ("reset", httpx.ReadError)])
@pytest.mark.parametrize("after", [0, 2])
def test_cut_connection_after_k_tokens(
    server: LoopbackLLM, client: httpx.Client, how: str, error: type[Exception], after: int
) -> None:
    server.script(Reply(pieces=("a", "b", "c"), fault=Cut(after, how)))  # type: ignore[arg-type]
    text, raised = received_before_failure(client)
    assert contents(text) == "ab"[:after]
    assert isinstance(raised, error)
    assert server.requests[0].hung_up_at is None


def test_cut_body_ends_properly_without_terminal_evidence(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(pieces=("a", "b", "c"), fault=Cut(2, "end")))
    text = client.post(CHAT, json=STREAM).text
    assert contents(text) == "ab"
    assert "[DONE]" not in text
    assert '"finish_reason":"stop"' not in text


def test_missing_terminator_and_missing_finish_reason(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(terminal=False), Reply(finish_reason=None), Reply(finish_reason=None))
    text = client.post(CHAT, json=STREAM).text
    assert "[DONE]" not in text
    assert '"finish_reason":"stop"' in text
    text = client.post(CHAT, json=STREAM).text
    assert "[DONE]" in text
    assert '"finish_reason":"stop"' not in text
    assert client.post(CHAT, json=ASK).json()["choices"][0]["finish_reason"] is None


def test_a_malformed_frame_sits_between_good_ones(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(pieces=("a", "b"), fault=Malformed(1)), Reply("a", fault=Malformed(0, b"data: \xff\n\n")))
    text = client.post(CHAT, json=STREAM).text
    assert contents(text) == "ab"
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        [json.loads(data) for data in data_lines(text) if data != "[DONE]"]
    assert b"data: \xff\n\n" in client.post(CHAT, json=STREAM).content


@pytest.mark.parametrize("after", [0, 1])
def test_an_error_inside_the_stream(server: LoopbackLLM, client: httpx.Client, after: int) -> None:
    server.script(Reply(pieces=("a", "b"), fault=InBandError(after, terminator=after > 0)))
    answer = client.post(CHAT, json=STREAM)
    assert answer.status_code == 200
    assert contents(answer.text) == "a"[:after]
    assert answer.text.endswith("data: [DONE]\n\n") == (after > 0)
    assert any("error" in json.loads(data) for data in data_lines(answer.text) if data != "[DONE]")


def test_role_deltas_are_counted(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(role_deltas=3), Reply(role_deltas=0))
    assert client.post(CHAT, json=STREAM).text.count('"role":"assistant"') == 3
    assert client.post(CHAT, json=STREAM).text.count('"role":"assistant"') == 0


def test_faults_of_whole_answers(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(fault=InBandError()), Reply(fault=Malformed()), Reply(fault=Malformed(0, b"??")))
    assert "error" in client.post(CHAT, json=ASK).json()
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        client.post(CHAT, json=ASK).json()
    assert client.post(CHAT, json=ASK).content == b"??"
    server.script(Reply(fault=Cut(0)), Reply(fault=Cut(1, "reset")), Reply(fault=Cut(1, "end")), Reply(fault=Stall(1)))
    with pytest.raises(httpx.RemoteProtocolError):
        client.post(CHAT, json=ASK)
    with pytest.raises(httpx.ReadError):
        client.post(CHAT, json=ASK)
    with pytest.raises(ValueError, match=r"Unterminated|Expecting"):
        client.post(CHAT, json=ASK).json()
    with client.stream("POST", CHAT, json=ASK, timeout=0.05) as answer, pytest.raises(httpx.ReadTimeout):
        answer.read()


# --- no answer at all --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (Hang(), httpx.ReadTimeout),
        (Close(), httpx.RemoteProtocolError),
        (Close(delay=0.01), httpx.RemoteProtocolError),
        (Reset(), httpx.ReadError),
        (Reset(delay=0.01), httpx.ReadError),
        (Raw((b"SSH-2.0-OpenSSH\r\n",)), httpx.RemoteProtocolError),
        (Raw((b"HTTP/1.1 200", b" OK\r\n"), interval=0.005, then="reset"), httpx.ReadError),
        (Raw((b"HTTP/1.1 200 OK\r\n",), then="hang"), httpx.ReadTimeout),
        (EndlessHeaders(), httpx.RemoteProtocolError),
    ],
    ids=repr,
)
def test_no_answer(server: LoopbackLLM, behaviour: Hang, error: type[Exception]) -> None:
    server.script(behaviour)
    with httpx.Client(base_url=server.url, timeout=0.1) as client, pytest.raises(error):
        client.post(CHAT, json=ASK)


def test_raw_bytes_may_be_a_valid_answer(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Raw((b"HTTP/1.1 204 No Content\r\n\r\n",), then="keep"), "hello")
    assert client.post(CHAT, json=ASK).status_code == 204
    assert client.post(CHAT, json=ASK).status_code == 200
    assert server.connection_count == 1


def test_endless_headers_can_be_slow(server: LoopbackLLM) -> None:
    server.script(EndlessHeaders(0.001))
    with talk(server, post(b"{}")) as sock:
        seen = b""
        while seen.count(b"x-loopback-filler") < 3:
            seen += sock.recv(4096)
    assert b"\r\n\r\n" not in seen
    server.wait_for(lambda s: s.requests[0].hung_up_at)


# --- the server as a whole ---------------------------------------------------------------------------------


def test_connections_are_kept_alive_and_counted(server: LoopbackLLM) -> None:
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            client.post(CHAT, json=ASK)
            client.post(CHAT, json=STREAM)
        assert server.open_connections == 1
        assert server.connection_count == 1
        assert {request.connection for request in server.requests} == {1}
    server.wait_for(lambda s: s.open_connections == 0)


def test_refuse_and_accept_on_the_same_port(server: LoopbackLLM, client: httpx.Client) -> None:
    client.post(CHAT, json=ASK)
    url = server.url
    for _ in range(2):
        server.refuse()
        server.refuse()
        assert server.open_connections == 0
        with pytest.raises(httpx.ConnectError):
            client.post(CHAT, json=ASK)
        server.accept()
        server.accept()
        assert server.url == url
        assert client.post(CHAT, json=ASK).status_code == 200


@pytest.mark.parametrize("drop", [False, True])
def test_refuse_finishes_or_drops_what_is_under_way(server: LoopbackLLM, client: httpx.Client, drop: bool) -> None:
    server.script(Reply(pieces=("a", "b"), interval=0.03))
    with client.stream("POST", CHAT, json=STREAM) as answer:
        server.refuse(drop=drop)
        if drop:
            with pytest.raises(httpx.ReadError):
                answer.read()
        else:
            assert contents(answer.read().decode()) == "ab"
    server.wait_for(lambda s: s.open_connections == 0)
    assert server.requests[0].hung_up_at is None


def test_drop_connections_resets_what_is_under_way(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply(fault=Stall(1)), "hello")
    with client.stream("POST", CHAT, json=STREAM) as answer:
        server.drop_connections()
        with pytest.raises(httpx.ReadError):
            answer.read()
    assert client.post(CHAT, json=ASK).status_code == 200


def test_a_paused_server_takes_connections_and_answers_after_resuming(server: LoopbackLLM) -> None:
    server.pause()
    server.pause()
    with httpx.Client(base_url=server.url, timeout=0.05) as client, pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=ASK)
    with talk(server, post(b"{}")) as sock:
        assert server.request_count == 0
        with pytest.raises(RuntimeError, match="paused"):
            server.refuse()
        server.resume()
        server.resume()
        assert sock.recv(100).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("behaviour", [Hang(), Reply(delay=60), Reply(fault=Stall(1)), Reply(interval=60)], ids=repr)
def test_closing_is_immediate_whatever_is_going_on(behaviour: Reply) -> None:
    threads = threading.active_count()
    with LoopbackLLM(behaviour) as server:
        sock = talk(server, post(json.dumps(STREAM).encode()))
        idle = talk(server, b"")
        half = talk(server, b"POST /v1/chat")
        server.wait_for(lambda s: s.request_count == 1 and s.open_connections == 3)
        began = time.monotonic()
    assert time.monotonic() - began < 0.2
    assert threading.active_count() == threads
    assert server.open_connections == 0
    assert server.requests[0].hung_up_at is None
    for each in (sock, idle, half):
        each.close()


def test_closing_a_paused_or_refusing_server_is_immediate() -> None:
    began = time.monotonic()
    with LoopbackLLM() as paused, LoopbackLLM() as refusing:
        paused.pause()
        refusing.refuse()
    assert time.monotonic() - began < 0.2


def test_a_server_that_is_closed_while_it_accepts_leaves_no_socket_open() -> None:
    for _ in range(5):
        server = LoopbackLLM().start()
        server.pause()
        with socket.create_connection(("127.0.0.1", server.port)):
            server.close()
        gc.collect()  # an open one would be told as a warning, which is an error


def test_life_cycle_errors_are_told() -> None:
    server = LoopbackLLM()
    assert server.port == 0
    with pytest.raises(RuntimeError, match="address"):
        _ = server.url
    with pytest.raises(RuntimeError, match="not running"):
        server.refuse()
    server.start()
    with pytest.raises(RuntimeError, match="already"):
        server.start()
    server.close()
    server.close()
    with server:
        assert httpx.post(server.url + CHAT, json=ASK).status_code == 200


def test_several_servers_at_once_have_their_own_scripts() -> None:
    with LoopbackLLM(Reply("1")) as one, LoopbackLLM(Reply("2")) as two:
        assert one.port != two.port
        texts = [httpx.post(server.url + CHAT, json=ASK).json() for server in (one, two)]
    assert [text["choices"][0]["message"]["content"] for text in texts] == ["1", "2"]


def test_hundreds_of_connections_at_once() -> None:
    count = 250

    async def ask(port: int, everyone: asyncio.Event) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        await everyone.wait()
        writer.write(post(json.dumps(STREAM).encode()))
        answer = await reader.readuntil(b"[DONE]")
        writer.close()
        await writer.wait_closed()
        return answer

    async def main() -> None:
        async with LoopbackLLM(default=Reply(pieces=("a", "b"), interval=0.01)) as server:
            everyone = asyncio.Event()
            tasks = [asyncio.create_task(ask(server.port, everyone)) for _ in range(count)]
            await server.wait_for_async(lambda s: s.open_connections == count)
            everyone.set()
            answers = await asyncio.gather(*tasks)
            assert all(contents(answer.decode()) == "ab" for answer in answers)
            assert len(server.requests) == count

    asyncio.run(main())


# --- what it records ---------------------------------------------------------------------------------------


def test_requests_are_recorded_with_headers_body_times_and_bytes(server: LoopbackLLM, client: httpx.Client) -> None:
    before = time.monotonic()
    answer = client.post(CHAT + "?a=1", json=ASK, headers=[("X-Twice", "1"), ("X-Twice", "2"), ("Authorization", "K")])
    (request,) = server.requests
    assert (request.method, request.path, request.wire) == ("POST", CHAT + "?a=1", "openai_chat")
    assert request.headers["x-twice"] == "1, 2"
    assert request.headers["authorization"] == "K"
    assert request.json == ASK
    assert json.loads(request.body) == ASK
    assert not request.stream
    assert request.answered_at is not None
    assert before <= request.received_at <= request.answered_at <= time.monotonic()
    assert request.bytes_sent > len(answer.content)
    assert request.hung_up_at is None
    assert "K" not in repr(request)
    server.clear()
    assert server.requests == []


def test_a_body_that_is_no_object_has_no_json(server: LoopbackLLM, client: httpx.Client) -> None:
    client.post(CHAT, content=b"[1]")
    client.post(CHAT, content=b'{"stream": true, "x')
    with pytest.raises(ValueError, match="not a JSON object"):
        _ = server.requests[0].json
    assert not server.requests[1].stream


def test_the_moment_the_client_hangs_up_is_recorded(server: LoopbackLLM, client: httpx.Client) -> None:
    server.script(Reply("a b c d e f g h", interval=0.01), Hang())
    with client.stream("POST", CHAT, json=STREAM) as answer:
        pieces = answer.iter_text()
        next(pieces)
        left = time.monotonic()
    with pytest.raises(httpx.ReadTimeout):
        client.post(CHAT, json=ASK, timeout=0.02)
    server.wait_for(lambda s: all(request.hung_up_at for request in s.requests))
    first, second = server.requests
    assert first.hung_up_at is not None
    assert left <= first.hung_up_at < left + 0.5
    assert first.answered_at is None
    assert first.bytes_sent > 0
    assert second.bytes_sent == 0


def test_a_hang_up_while_the_server_waits_for_the_socket(server: LoopbackLLM) -> None:
    server.script(Status(200, b"x" * (32 << 20)), Status(200, b"x" * (32 << 20), drip=Drip(16 << 20, 0)))
    for number in (0, 1):
        with talk(server, post(b"{}")) as sock:
            sock.recv(1)
        server.wait_for(lambda s, number=number: s.requests[number].hung_up_at)


def test_a_body_larger_than_the_socket_takes_arrives_whole(server: LoopbackLLM, client: httpx.Client) -> None:
    server.default = Status(200, b"x" * (8 << 20))
    assert len(client.post(CHAT, json=ASK).content) == 8 << 20
    with client.stream("POST", CHAT, json=ASK) as answer:
        server.wait_for(lambda s: s.requests[1].bytes_sent)
        assert len(answer.read()) == 8 << 20
    assert server.connection_count == 1


def test_many_different_answers_do_not_pile_up(server: LoopbackLLM, client: httpx.Client) -> None:
    for number in range(70):
        server.script(Reply(str(number)))
        assert client.post(CHAT, json=ASK).json()["choices"][0]["message"]["content"] == str(number)


def test_nothing_is_kept_without_record() -> None:
    with LoopbackLLM(record=False) as server:
        httpx.post(server.url + CHAT, json=ASK)
        assert server.requests == []
        assert server.request_count == 1


def test_waiting_in_vain_times_out(server: LoopbackLLM) -> None:
    with pytest.raises(TimeoutError, match="requests=0"):
        server.wait_for(lambda s: s.requests, timeout=0.01)


# --- HTTP --------------------------------------------------------------------------------------------------


def post(body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST /v1/chat/completions HTTP/1.1", b"Host: x", b"Content-Length: %d" % len(body), *headers]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def talk(server: LoopbackLLM, data: bytes) -> socket.socket:
    sock = socket.create_connection(("127.0.0.1", server.port), timeout=5)
    sock.sendall(data)
    return sock


def read_all(sock: socket.socket) -> bytes:
    answer = b""
    while data := sock.recv(1 << 16):
        answer += data
    return answer


def test_a_request_may_arrive_byte_by_byte(server: LoopbackLLM) -> None:
    with talk(server, b"") as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in post(b'{"model":"m"}', b"Connection: close"):
            sock.sendall(bytes([byte]))
        assert b'"model":"m"' in read_all(sock)


def test_pipelined_requests_are_answered_in_order(server: LoopbackLLM) -> None:
    server.script(Status(500, "first"), Status(501, "second", delay=0.005), Status(502, "third"))
    with talk(server, post(b"{}") * 2 + post(b"{}", b"Connection: close")) as sock:
        answer = read_all(sock)
    assert answer.index(b"first") < answer.index(b"second") < answer.index(b"third")


def test_chunked_requests_are_understood(server: LoopbackLLM, client: httpx.Client) -> None:
    client.post(CHAT, content=iter([b'{"mod', b'el":"chunky"}']))
    assert server.requests[0].json == {"model": "chunky"}
    assert client.post(CHAT, json=ASK).status_code == 200


def test_a_chunked_request_may_arrive_in_pieces(server: LoopbackLLM) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    with talk(server, head) as sock:
        for piece in (b"5", b'\r\n{"a"', b":\r\n2;x=y\r\n1}\r", b"\n0\r\n", b"\r\n"):
            sock.sendall(piece)
            time.sleep(0.002)
        assert read_all(sock).startswith(b"HTTP/1.1 200 OK")
    assert server.requests[0].json == {"a": 1}


def test_expect_100_continue_is_answered(server: LoopbackLLM) -> None:
    head, _, body = post(b'{"model":"m"}', b"Expect: 100-continue", b"Connection: close").partition(b"\r\n\r\n")
    with talk(server, head + b"\r\n\r\n") as sock:
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(body)
        assert read_all(sock).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize(
    "data",
    [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n"],
)
def test_what_is_no_http_gets_400(server: LoopbackLLM, data: bytes) -> None:
    with talk(server, data) as sock:
        assert read_all(sock).startswith(b"HTTP/1.1 400")


def test_a_head_without_end_is_cut_off(server: LoopbackLLM) -> None:
    with talk(server, b"x" * ((1 << 16) + 1)) as sock:
        assert read_all(sock) == b""


# --- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Reply(delay=-1),
        lambda: Answer(delay=-1),
        lambda: Reply(interval=float("nan")),
        lambda: Reply(keep_alive=0),
        lambda: Reply(role_deltas=-1),
        lambda: Status(99),
        lambda: Status(429, retry_after=-1),
        lambda: Cut(-1),
        lambda: Cut(0, "gently"),
        lambda: Stall(-1),
        lambda: Malformed(-1),
        lambda: InBandError(-1),
        lambda: Drip(0),
        lambda: Drip(1, -1),
        lambda: Close(-1),
        lambda: Reset(-1),
        lambda: Raw((), then="explode"),
        lambda: Raw((), -1),
        lambda: EndlessHeaders(-1),
    ],
)
def test_impossible_behaviours_are_refused_when_made(wrong: object) -> None:
    with pytest.raises(ValueError, match="not"):
        wrong()  # type: ignore[operator]
