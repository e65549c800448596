"""Whatever comes over the wire is classified, and the next provider is asked; nothing else ever comes out."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from typing import Any

import pytest

from resilient_llm.errors import AllAttemptsFailed, CallFailed, FaultKind
from resilient_llm.testing import EndlessHeaders, Malformed, Raw, Reply, Status
from resilient_llm.testing.script import gzip_bomb
from tests.drive.clients import World, openai

JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
CHUNKED = JSON + b"transfer-encoding: chunked\r\n\r\n"
INVALID = {FaultKind.INVALID_RESPONSE}
BROKEN = {
    *(FaultKind.INVALID_RESPONSE, FaultKind.CONNECTION, FaultKind.SERVER_ERROR, FaultKind.TIMEOUT),
    FaultKind.MISCONFIGURED,
}

BAD: dict[str, tuple[Any, set[FaultKind]]] = {
    "garbage bytes": (Status(200, b"\xff\xfe\x00\x80garbage"), INVALID),
    "an HTML page": (Status(200, "<html><body>Welcome to the hotel Wi-Fi</body></html>"), INVALID),
    "an HTML error page": (Status(502, "<html><h1>Bad gateway</h1></html>"), {FaultKind.SERVER_ERROR}),
    "an empty body": (Status(200, ""), INVALID),
    "JSON that is no object": (Status(200, b"[1, 2]"), INVALID),
    "JSON that is no answer": (Status(200, {"hello": "world"}), INVALID),
    "JSON null": (Status(200, b"null"), INVALID),
    "deeply nested JSON": (Status(200, b"[" * 100_000), BROKEN),
    "JSON with huge numbers": (Status(200, b'{"choices": ' + b"9" * 5000 + b"}"), BROKEN),
    "JSON cut in two": (Reply(fault=Malformed()), INVALID),
    "JSON that says it is an error in no known way": (Status(200, {"error": "oh no"}), BROKEN),
    "no choices": (Status(200, {"choices": []}), INVALID),
    "another charset": (
        Status(200, '{"choices": "é"}'.encode("utf-16"), headers={"content-type": "application/json; charset=utf-8"}),
        INVALID,
    ),
    "fewer bytes than announced": (Reply(wrong_length=50), BROKEN),
    "no gzip where gzip is announced": (Reply(headers={"content-encoding": "gzip"}), INVALID),
    "an unknown content encoding": (Reply(headers={"content-encoding": "br"}), INVALID),
    "a gzip bomb": (gzip_bomb(8 << 20), INVALID),
    "half a gzip": (
        Status(200, gzip.compress(b'{"choices": []}' * 99)[:40], headers={"content-encoding": "gzip"}),
        INVALID,
    ),
    "endless headers": (EndlessHeaders(), BROKEN),
    "a malformed chunk": (Raw((CHUNKED, b"zz\r\noops\r\n")), BROKEN),
    "a chunk that is too short": (Raw((CHUNKED, b"ff\r\n{")), BROKEN),
    "no HTTP at all": (Raw((b"SSH-2.0-OpenSSH_9.6\r\n",)), BROKEN),
    "an impossible status": (Raw((b"HTTP/1.1 999 What\r\ncontent-length: 0\r\n\r\n",)), BROKEN),
    "a status line cut short": (Raw((b"HTTP/1.1 2",)), BROKEN),
    "binary headers": (Raw((b"HTTP/1.1 200 OK\r\n\x00\x01: \x02\r\n\r\n",)), BROKEN),
    "204": (Raw((b"HTTP/1.1 204 No Content\r\n\r\n",)), BROKEN),
    "a redirect": (Status(302, "", headers={"location": "http://127.0.0.1:9/elsewhere"}), BROKEN),
    "a permanent redirect": (Status(308, "", headers={"location": "/v1/chat/completions"}), BROKEN),
    "an error object with status 200": (
        Status(200, {"error": {"message": "try later", "type": "server_error", "code": None}}),
        {FaultKind.SERVER_ERROR, FaultKind.OVERLOADED},
    ),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_moves_on(world: World, case: str, streamed: bool) -> None:
    behaviour, kinds = BAD[case]
    if streamed and case == "fewer bytes than announced":
        pytest.skip("streams announce no length")
    client, first, second = world.pair(behaviour, stream={"max_bytes": 1 << 20}, deadline=5)
    if streamed:
        stream = client.stream()
        stream.text()
        response = stream.response
    else:
        response = client.chat()
    assert (response.provider, response.text) == ("second", "Hello from the loopback server.")
    fault = response.attempts[0].fault
    assert fault is not None
    assert fault.kind in (BROKEN if streamed else kinds), fault
    assert len(fault.message) <= 300
    assert (first.request_count, second.request_count) == (1, 1)


@pytest.mark.parametrize("case", BAD)
def test_nothing_but_bad_answers_ends_in_one_known_error(world: World, case: str) -> None:
    client = world.client(
        [openai(world.server(default=BAD[case][0]))], stream={"max_bytes": 1 << 20}, retry={"max_attempts": 1}
    )
    with pytest.raises(AllAttemptsFailed) as caught:
        client.chat(deadline=5)
    assert isinstance(caught.value, CallFailed)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("streamed", [False, True], ids=["chat", "stream"])
def test_an_endless_body_is_cut_off(world: World, streamed: bool) -> None:
    block = b"10000\r\n" + b" " * 65536 + b"\r\n"
    endless = Raw((CHUNKED, *[block] * 1600), interval=0.0005)  # 100 MB
    client, first, _ = world.pair(endless, stream={"max_bytes": 1 << 20})
    tracemalloc.start()
    try:
        response = client.chat() if not streamed else None
        if streamed:
            stream = client.stream()
            stream.text()
            response = stream.response
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert response is not None
    assert response.provider == "second"
    assert response.attempts[0].fault is not None
    assert "longer than 1048576 bytes" in response.attempts[0].fault.message
    assert peak < 20 << 20
    assert first.requests[0].hung_up_at or first.open_connections <= 1


def test_compressed_answers_are_understood(world: World) -> None:
    body = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}]}'
    bare = zlib.compressobj(wbits=-zlib.MAX_WBITS)  # as some servers mean it
    server = world.server(
        Status(200, gzip.compress(body), headers={"content-encoding": "gzip"}),
        Status(200, zlib.compress(body), headers={"content-encoding": "deflate"}),
        Status(200, bare.compress(body) + bare.flush(), headers={"content-encoding": "deflate"}),
        Status(200, body, headers={"content-encoding": "identity"}),
        Status(200, body, headers={"content-encoding": ""}),
        Status(200, gzip.compress(body), headers={"content-encoding": " GZIP "}),
    )
    client = world.client([openai(server)])
    assert [client.chat().text for _ in range(6)] == ["hi"] * 6
    assert "gzip" in server.requests[0].headers["accept-encoding"]


def test_surplus_bytes_after_an_answer_spoil_at_most_the_connection(world: World) -> None:
    client, _, _ = world.pair(Reply(wrong_length=-5))
    assert client.chat().provider in ("first", "second")
    assert client.chat().text == "Hello from the loopback server."


def test_an_answer_for_a_redirect_never_leaves_for_another_server(world: World) -> None:
    other = world.server()
    server = world.server(default=Status(307, "", headers={"location": other.url + "/v1/chat/completions"}))
    client = world.client([openai(server)], retry={"max_attempts": 1})
    with pytest.raises(CallFailed):
        client.chat()
    assert other.request_count == 0
