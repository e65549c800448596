"""HTTP/1.1 as bytes, without a connection; and bodies that do not fit into one packet."""

from __future__ import annotations

import itertools
import socket
import threading

import h11
import httpcore
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm.drive.engines.http1 import Http1, lines_of
from tests.hostile.clients import KINDS, caller, provider
from tests.hostile.servers import RawServer, answer, read_request

HOST = (b"host", b"h")


def asked(body: bytes = b"{}", *headers: tuple[bytes, bytes]) -> Http1:
    """A connection on which a request was sent."""
    http = Http1(httpcore)
    http.request(b"POST", b"/v1", lines_of(httpcore, [HOST, *headers]), body)
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
    lines = lines_of(httpcore, [HOST, (b"authorization", b"Bearer k")])
    assert http.request(b"POST", b"/v1", lines, b"{}") == [
        b"POST /v1 HTTP/1.1\r\nhost: h\r\nauthorization: Bearer k\r\ncontent-length: 2\r\n\r\n{}"
    ]
    large = bytes(1 << 20)
    pieces = Http1(httpcore).request(b"POST", b"/v1", lines, large)
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
    assert (head.status, head.headers["x-a"], body) == (200, "1, 2", b"one two")


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


# --- as h11 reads it ---------------------------------------------------------------------------------------

Read = tuple[int, dict[str, str], bytes, bool] | str
"""Status, headers, body, and whether another request may follow; or how it ended."""
FIELDS = st.sampled_from(
    [b"x-a: 1", b"X-A:2\t", b"date: Sun, 29 Nov 2026 02:33:19 GMT", b"x-empty:", b"server: \xe9 x"]
)
PIECES = st.lists(st.binary(min_size=1, max_size=30), max_size=4)
EXTENSIONS = st.sampled_from([b"", b"", b";name=value", b" "])
LENGTHS = st.sampled_from([b"content-length: %d", b"Content-Length:  %d "])
TRAILERS = st.sampled_from([b"", b"", b"x-trailer: 1\r\n"])


@st.composite
def answers(draw: st.DrawFn) -> bytes:
    """A whole answer in one of the usual forms, and perhaps something after it."""
    pieces, fields = draw(PIECES), draw(st.lists(FIELDS, max_size=3))
    if draw(st.booleans()):
        fields.append(draw(st.sampled_from([b"transfer-encoding: chunked", b"Transfer-Encoding: Chunked"])))
        chunks = [b"%x%b\r\n%b\r\n" % (len(piece), draw(EXTENSIONS), piece) for piece in pieces]
        body = b"".join(chunks) + b"0\r\n" + draw(TRAILERS) + b"\r\n"
    else:
        body = b"".join(pieces)
        fields.append(draw(LENGTHS) % len(body))
    fields += draw(st.sampled_from([[], [], [b"connection: keep-alive"], [b"connection: close"]]))
    status = draw(st.sampled_from([b"200 OK", b"404 Not Found", b"503", b"204 No Content", b"429 "]))
    head = b"HTTP/1.1 %b\r\n%b\r\n" % (status, b"".join(b"%b\r\n" % field for field in fields))
    return head + body + draw(st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\n"]))


def read_by(http: Http1, data: bytes, cuts: set[int]) -> Read:
    """What an answer says that arrives in pieces, and ends with its connection."""
    edges = [0, *sorted(cut for cut in cuts if 0 < cut < len(data)), len(data)]
    arriving = [data[one:two] for one, two in itertools.pairwise(edges)]
    head, body = None, b""
    try:
        for piece in arriving:
            http.received(piece)
            head = head or http.head()
            while head and (found := http.piece()) != b"":
                if found is None:
                    return head.status, dict(head.headers), body, http.renew()
                body += found
        http.received(b"")
        head = head or http.head()
        while head and (found := http.piece()):
            body += found
        return "it is over" if head else "no head"
    except httpcore.RemoteProtocolError:
        return "no answer"


def carefully(data: bytes, cuts: set[int]) -> Read:
    """The same as h11 reads it."""
    http = asked()
    http._careful_head()  # from the first byte on
    assert isinstance(http._h11, h11.Connection)
    return read_by(http, data, cuts)


CUTS = st.sets(st.integers(1, 300), max_size=6)


@given(answers(), CUTS)
def test_the_usual_answers_are_read_as_h11_reads_them(data: bytes, cuts: set[int]) -> None:
    assert read_by(asked(), data, cuts) == carefully(data, cuts)


@given(answers(), CUTS, st.integers(0, 400), st.sampled_from([*b"\0\r\n\t :;0aG\x7f\xff", -1]))
def test_what_h11_refuses_is_never_taken_for_an_answer(data: bytes, cuts: set[int], at: int, byte: int) -> None:
    """One byte is another one, or missing.  What stands beside the size of a chunk is read more strictly."""
    at %= len(data)
    spoilt = data[:at] + (b"" if byte < 0 else bytes([byte])) + data[at + 1 :]
    assert read_by(asked(), spoilt, cuts) in (carefully(spoilt, cuts), "no answer")


@pytest.mark.parametrize(
    "body",
    [
        b"4\nwell\r\n0\r\n\r\n",
        b"4\r\nwellx\r\n0\r\n\r\n",
        b"-4\r\nwell\r\n",
        b"0x4\r\nwell\r\n",
        b"\r\n",
        b"f" * 17 + b"\r\n",
    ],
)
def test_a_chunk_that_is_none(body: bytes) -> None:
    http = asked()
    http.received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + body)
    assert http.head() is not None
    with pytest.raises(httpcore.RemoteProtocolError):
        whole(http)


@pytest.mark.parametrize("data", [b"4;" + b"x" * 5000, b"0\r\n" + b"x: y\r\n" * 20_000], ids=["line", "trailers"])
def test_what_stands_between_chunks_is_bounded(data: bytes) -> None:
    http = asked()
    http.received(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + data)
    assert http.head() is not None
    with pytest.raises(httpcore.RemoteProtocolError):
        http.piece()


def test_a_head_is_bounded() -> None:
    http = asked()
    http.received(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200_000)
    with pytest.raises(httpcore.RemoteProtocolError):
        http.head()


def test_after_an_unusual_answer_comes_a_usual_one() -> None:
    http = asked()
    for status in (103, 200):
        interim = b"HTTP/1.1 103 Early Hints\r\n\r\n" if status == 103 else b""
        http.received(interim + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nwell")
        head = http.head()
        assert head is not None
        assert (head.status, whole(http), http.renew()) == (200, b"well", True)


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
