"""HTTP/1.1 as bytes, without a connection; and bodies that do not fit into one packet."""

from __future__ import annotations

import socket
import threading

import httpcore
import pytest

from resilient_llm.drive.engines.http1 import Http1
from tests.hostile.clients import KINDS, caller, provider
from tests.hostile.servers import RawServer, answer, read_request

HOST = (b"host", b"h")


def asked(body: bytes = b"{}", *headers: tuple[bytes, bytes]) -> Http1:
    """A connection on which a request was sent."""
    http = Http1(httpcore)
    http.request(b"POST", b"/v1", [HOST, *headers, (b"content-length", b"%d" % len(body))], body)
    return http


def whole(http: Http1) -> bytes:
    """The rest of an answer that has arrived."""
    found = b""
    while piece := http.piece():
        found += piece
    assert piece is None, "more bytes are needed"
    return found


def test_a_request_is_one_piece_unless_it_is_large() -> None:
    http = Http1(httpcore)
    headers = [HOST, (b"authorization", b"Bearer k"), (b"content-length", b"2")]
    assert http.request(b"POST", b"/v1", headers, b"{}") == [
        b"POST /v1 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer k\r\ncontent-length: 2\r\n\r\n{}"
    ]
    large = bytes(1 << 20)
    pieces = Http1(httpcore).request(b"POST", b"/v1", [HOST, (b"content-length", b"%d" % len(large))], large)
    assert (len(pieces), pieces[1] is large) == (2, True)


@pytest.mark.parametrize("value", [b"a\r\nx: y", b"a\0"])
def test_a_header_that_could_split_a_request_is_refused(value: bytes) -> None:
    with pytest.raises(httpcore.LocalProtocolError):
        asked(b"{}", (b"x", value))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_an_answer_in_pieces_of_any_size(size: int) -> None:
    http = asked()
    data = (
        b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n"
    )
    head, body = None, b""
    for at in range(0, len(data), size):
        http.received(data[at : at + size])
        head = head or http.head()
        while head and (piece := http.piece()):
            body += piece
    assert head is not None
    assert (head.status_code, list(head.headers)[:2], body) == (200, [(b"x-a", b"1"), (b"x-a", b"2")], b"one two")


@pytest.mark.parametrize(
    ("data", "again"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell", True),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nwell\r\n0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwell", False),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 4\r\n\r\nwell", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwellHTTP/1.1 200 OK\r\n", False),
    ],
    ids=["length", "chunked", "close", "HTTP/1.0", "something follows"],
)
def test_another_request_may_follow(data: bytes, again: bool) -> None:
    http = asked()
    http.received(data)
    assert http.head() is not None
    assert whole(http) == b"well"
    assert http.renew() is again


def test_an_answer_may_end_with_its_connection() -> None:
    http = asked()
    http.received(b"HTTP/1.1 200 OK\r\n\r\nwell")
    assert http.head() is not None
    assert (http.piece(), http.piece()) == (b"well", b"")
    http.received(b"")
    assert http.piece() is None
    assert not http.renew()


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\ncontent-le", b"220 smtp.example ready\r\n\r\n"])
def test_what_is_no_answer(data: bytes) -> None:
    http = asked()

    def read() -> None:
        for piece in (data, b""):
            http.received(piece)
            http.head()

    with pytest.raises(httpcore.RemoteProtocolError):
        read()


def test_a_body_that_was_cut() -> None:
    http = asked()
    http.received(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nwell")
    assert http.head() is not None
    assert http.piece() == b"well"
    http.received(b"")
    with pytest.raises(httpcore.RemoteProtocolError):
        http.piece()


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_request_to_a_server_that_reads_late(kind: str) -> None:
    sizes: list[int] = []

    def serve(connection: socket.socket, over: threading.Event) -> None:
        over.wait(0.05)  # by then the connection is full
        while request := read_request(connection):
            sizes.append(len(request))
            connection.sendall(answer(b"well"))

    with RawServer(serve) as server, caller(kind, [provider(server.url)]) as client:
        assert [client.ask("x" * 3_000_000, deadline=20), client.ask("x", deadline=5)] == ["well"] * 2
        assert server.connections == 1
    assert sizes[0] > 3_000_000


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_that_comes_before_the_request_was_read(kind: str) -> None:
    """The rest of the request meets a closed connection, and the answer is read all the same."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nconnection: close\r\n" + answer(b"early").partition(b"\r\n")[2])
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(1 << 20):
            pass

    with RawServer(serve) as server, caller(kind, [provider(server.url)]) as client:
        assert client.ask("x" * 3_000_000, deadline=20) == "early"
