"""Proxies that the environment names: a request for each URL, a tunnel, SOCKS; and proxies that refuse."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable
from typing import Any

import httpcore
import pytest
import trustme

from resilient_llm.drive.engines import family
from resilient_llm.drive.engines.proxies import Proxy
from resilient_llm.errors import CallFailed, ConfigurationError, FaultKind
from tests.hostile.clients import KINDS, caller, provider
from tests.hostile.servers import RawServer, Serve, answer, read_request

BASIC = b"Basic " + base64.b64encode(b"me:canary word")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Names a proxy for everything."""

    def name(url: str) -> None:
        monkeypatch.setattr(urllib.request, "getproxies", lambda: {"all": url})
        monkeypatch.setattr(urllib.request, "proxy_bypass", lambda host: False)

    return name


def read_head(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        assert piece
        data += piece
    return data


@pytest.mark.parametrize("kind", KINDS)
def test_a_tunnel_carries_several_encrypted_requests(
    kind: str, named: Callable[[str], None], authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads: list[bytes] = []
    inside = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("llm.example").configure_cert(inside)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    monkeypatch.setattr(family, "_trust", lambda face: trusting)

    def serve(connection: socket.socket, over: threading.Event) -> None:
        heads.append(read_head(connection))
        connection.sendall(b"HTTP/1.1 200 Connection ")  # in two pieces
        connection.sendall(b"established\r\n\r\n")
        with inside.wrap_socket(connection, server_side=True) as encrypted:
            while read_request(encrypted):
                encrypted.sendall(answer(b"well"))

    with RawServer(serve) as server:
        named(f"http://me:canary%20word@127.0.0.1:{server.port}")
        with caller(kind, [provider("https://llm.example:8443")]) as client:
            assert [client.ask(deadline=5) for _ in range(3)] == ["well"] * 3
    assert len(heads) == 1
    assert heads[0].startswith(b"CONNECT llm.example:8443 HTTP/1.1\r\n")
    assert b"proxy-authorization: " + BASIC in heads[0].replace(b"Proxy-Authorization", b"proxy-authorization")


@pytest.mark.parametrize("kind", KINDS)
def test_without_encryption_each_url_is_asked_of_the_proxy(kind: str, named: Callable[[str], None]) -> None:
    asked: list[bytes] = []

    def serve(connection: socket.socket, over: threading.Event) -> None:
        while request := read_request(connection):
            asked.append(request)
            connection.sendall(answer(b"well"))

    with RawServer(serve) as server:
        named(f"http://me:canary%20word@127.0.0.1:{server.port}")
        with caller(kind, [provider("http://llm.example")]) as client:
            assert [client.ask(deadline=5) for _ in range(2)] == ["well"] * 2
        assert server.connections == 1
    assert all(one.startswith(b"POST http://llm.example/v1/chat/completions HTTP/1.1\r\n") for one in asked)
    assert all(BASIC in one for one in asked)


def socks(reply: int = 0, method: int = 2) -> Serve:
    """A SOCKS proxy that is the server too."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        assert connection.recv(64) == b"\5\1\2"
        connection.sendall(bytes((5, method)))
        if method != 2:
            return
        assert connection.recv(64) == b"\1\2me\x0bcanary word"
        connection.sendall(b"\1\0")
        assert connection.recv(64) == b"\5\1\0\3\x0bllm.example\0\x50"
        connection.sendall(b"\5%c\0\1\0\0\0\0\0\0" % reply)
        while not reply and read_request(connection):
            connection.sendall(answer(b"well"))

    return serve


@pytest.mark.parametrize("kind", KINDS)
def test_socks(kind: str, named: Callable[[str], None]) -> None:
    with RawServer(socks()) as server:
        named(f"socks5h://me:canary%20word@127.0.0.1:{server.port}")
        with caller(kind, [provider("http://llm.example")]) as client:
            assert [client.ask(deadline=5) for _ in range(2)] == ["well"] * 2
        assert server.connections == 1


def refusing(connection: socket.socket, over: threading.Event) -> None:
    read_head(connection)
    connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")


def silent(connection: socket.socket, over: threading.Event) -> None:
    read_head(connection)


def garbage(connection: socket.socket, over: threading.Event) -> None:
    read_head(connection)
    connection.sendall(b"220 smtp.example ready\r\n")


@pytest.mark.parametrize(
    ("serve", "scheme", "why"),
    [
        (refusing, "http", "407"),
        (silent, "http", "none"),
        (garbage, "http", "none"),
        (socks(reply=5), "socks5", "connect"),
        (socks(method=0xFF), "socks5", "authentication"),
    ],
    ids=["refuses", "closes", "is no proxy", "cannot connect", "wants another authentication"],
)
@pytest.mark.parametrize("kind", KINDS)
def test_a_proxy_that_does_not_work_is_a_failed_connection(
    kind: str, serve: Serve, scheme: str, why: str, named: Callable[[str], None]
) -> None:
    url = "https://llm.example" if scheme == "http" else "http://llm.example"
    with RawServer(serve) as server:
        named(f"{scheme}://me:canary%20word@127.0.0.1:{server.port}")
        with caller(kind, [provider(url)], retry={"max_attempts": 1}) as client, pytest.raises(CallFailed) as failed:
            client.ask(deadline=5)
    fault = failed.value.fault
    assert fault is not None
    assert fault.kind is FaultKind.CONNECTION
    assert why in str(failed.value)
    assert "canary" not in f"{failed.value} {failed.value!r} {failed.value.__cause__!r}"


def test_what_is_missing_for_socks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("resilient_llm.drive.engines.proxies.imported", missing)
    with pytest.raises(ConfigurationError, match="pip install socksio"):
        next(Proxy("socks5", "h", 1, None).greeting(httpcore, "llm.example", 80))
