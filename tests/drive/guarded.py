"""Servers that show and demand certificates, and proxies that demand a password, on this machine."""

from __future__ import annotations

import base64
import datetime
import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.hostile.servers import RawServer, Serve, answer, read_request

ME = "me:canary word"
BASIC = base64.b64encode(ME.encode())
_PAST = {
    "not_before": datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC),
    "not_after": datetime.datetime(2021, 1, 1, tzinfo=datetime.UTC),
}


class Certificates:
    """An authority, certificates of it, and one of an authority that nobody knows, as files."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.folder = folder
        self.ca = str(folder / "ca.pem")
        self._authority.cert_pem.write_to_path(self.ca)
        self.client = self.issue("client.pem")
        self.stranger = str(folder / "stranger.pem")
        trustme.CA().issue_cert("client").private_key_and_cert_chain_pem.write_to_path(self.stranger)

    def issue(self, name: str) -> str:
        """A client's certificate with its key in one file."""
        path = str(self.folder / name)
        self._authority.issue_cert("client").private_key_and_cert_chain_pem.write_to_path(path)
        return path

    def apart(self) -> tuple[str, str]:
        """A client's certificate and its key in two files."""
        issued, cert, key = self._authority.issue_cert("client"), self.folder / "cert.pem", self.folder / "key.pem"
        issued.private_key_pem.write_to_path(str(key))
        cert.write_bytes(b"".join(one.bytes() for one in issued.cert_chain_pems))
        return str(cert), str(key)

    def locked(self, password: str) -> tuple[str, str]:
        """The same, with a key that a password opens."""
        cert, key = self.apart()
        opened = load_pem_private_key(Path(key).read_bytes(), None)
        lock = BestAvailableEncryption(password.encode())
        path = self.folder / "locked.pem"
        path.write_bytes(opened.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock))
        return cert, str(path)

    def trusting(self) -> ssl.SSLContext:
        """A context of a client that trusts the authority."""
        return ssl.create_default_context(cafile=self.ca)

    def inside(self, name: str = "localhost", *, demands: bool = False, expired: bool = False) -> ssl.SSLContext:
        """A context of a server; ``demands``: a certificate of the client."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        past: Any = _PAST if expired else {}
        self._authority.issue_cert(name, **past).configure_cert(made)
        if demands:
            made.verify_mode = ssl.CERT_REQUIRED
            self._authority.configure_trust(made)
        return made


def encrypted(context: ssl.SSLContext, shown: list[bytes] | None = None, *, once: bool = False) -> RawServer:
    """A server that answers every request, or ``once`` on each connection; ``shown`` gets the client's certificate of
    each connection."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        inside = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        with inside:
            try:
                inside.do_handshake()
            except ssl.SSLError:
                with suppress(OSError):  # as a well-behaved server, which leaves time to read why
                    socket.socket.shutdown(inside, socket.SHUT_WR)
                    while socket.socket.recv(inside, 65536):
                        pass
                return
            if shown is not None:
                shown.append(inside.getpeercert(binary_form=True) or b"")
            while read_request(inside):
                inside.sendall(answer(b"well"))
                if once:
                    return

    return RawServer(serve)


def _join(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError), other:
        while True:
            for ready in select.select([one, other], [], [], 10)[0]:
                data = ready.recv(65536)
                if not data:
                    return
                (other if ready is one else one).sendall(data)


def connect_proxy(asked: list[bytes], *, password: bool = True) -> RawServer:
    """An HTTP proxy for tunnels, whose every target is on this machine; ``asked`` gets what it is told."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        asked.append(head)
        if password and BASIC not in head:
            connection.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n")
            return
        port = int(head.split()[1].rpartition(b":")[2])
        to = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        _join(connection, to)

    return RawServer(serve)


def socks_proxy(asked: list[bytes]) -> RawServer:
    """A SOCKS proxy that wants the name and the password."""

    def serve(connection: socket.socket, over: threading.Event) -> None:
        asked.append(connection.recv(64))
        connection.sendall(b"\5\2")
        name, _, password = ME.encode().partition(b":")
        if connection.recv(64) != b"\1%c%b%c%b" % (len(name), name, len(password), password):
            connection.sendall(b"\1\1")
            return
        connection.sendall(b"\1\0")
        port = int.from_bytes(connection.recv(300)[-2:], "big")
        to = socket.create_connection(("127.0.0.1", port))
        connection.sendall(b"\5\0\0\1\0\0\0\0\0\0")
        _join(connection, to)

    return RawServer(serve)


__all__ = ["BASIC", "ME", "Certificates", "RawServer", "Serve", "connect_proxy", "encrypted", "socks_proxy"]
