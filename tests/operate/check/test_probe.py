"""Probes of real servers on this machine, in every state that is told apart."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from resilient_llm.operate.check import Probe, probe, probing
from resilient_llm.operate.check.reach import ask, connect
from resilient_llm.operate.secrets import Secret
from resilient_llm.providers import OpenAI
from resilient_llm.testing import Hang, LoopbackLLM, Reply, ScriptedProvider, Status
from tests.drive.clients import openai
from tests.drive.guarded import BASIC, Certificates, connect_proxy, encrypted


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("Ready.")) as running:
        yield running


def one(provider: Any, **options: Any) -> Probe:
    (found,) = probe([provider], **options)
    return found


def levels(found: Probe) -> list[tuple[str, bool | None]]:
    return [(step.level, step.ok) for step in found.steps]


def test_a_provider_that_is_well_passes_all_four_levels(server: LoopbackLLM) -> None:
    found = one(openai(server))
    assert (found.status, found.fine) == ("ok", True)
    assert levels(found) == [("reachable", True), ("answering", True), ("correct", True), ("fast", True)]
    assert found.steps[0].detail == f"TCP to 127.0.0.1:{server.port}"
    assert found.steps[2].detail == "answered 'Ready.'"
    (asked,) = [request for request in server.requests if request.path.endswith("/chat/completions")]
    assert asked.json["max_tokens" if "max_tokens" in asked.json else "max_completion_tokens"] <= 256


@pytest.mark.parametrize(
    ("behaviour", "status", "fine"),
    [
        (Status(429, retry_after=7), "limited", True),
        (Status(401), "key refused", False),
        (Status(403), "key refused", False),
        (Status(404), "misconfigured", False),
        (Status(500), "down", False),
        (Reply("I am a teapot"), "wrong answer", False),
    ],
)
def test_what_a_provider_answers_is_told_apart(server: LoopbackLLM, behaviour: Any, status: str, fine: bool) -> None:
    server.default = behaviour
    found = one(openai(server))
    assert (found.status, found.fine) == (status, fine)
    assert found.steps[-1].level == ("answering" if status == "down" else "correct")
    if status == "limited":
        assert found.retry_after == pytest.approx(7, abs=1)
        assert found.steps[-1].ok is None
    if isinstance(behaviour, Status):
        assert str(behaviour.status) in found.steps[-1].detail


def test_a_correct_answer_that_comes_late_is_slow(server: LoopbackLLM) -> None:
    server.default = Reply("ready", first_token=0.05)
    found = one(openai(server), within=0.01)
    assert found.status == "slow"
    assert levels(found)[-1] == ("fast", False)


def test_a_provider_that_hangs_is_down_when_its_time_is_over(server: LoopbackLLM) -> None:
    def silent(request: Any) -> Any:
        return Status(404) if request.method == "GET" else Hang()

    server.default = silent
    found = one(openai(server), patience=0.2)
    assert (found.status, found.steps[-1].level) == ("down", "correct")


def test_several_are_asked_at_the_same_time_and_told_in_order(server: LoopbackLLM) -> None:
    with LoopbackLLM(default=Reply("ready", first_token=0.1)) as slow:
        found = probe([openai(slow, "b"), openai(server, "a")])
    assert [(probe.provider, probe.status) for probe in found] == [("b", "ok"), ("a", "ok")]


def test_nobody_there_and_an_unknown_name_are_down(server: LoopbackLLM) -> None:
    server.refuse()
    refused = one(openai(server))
    assert (refused.status, levels(refused)) == ("down", [("reachable", False)])
    assert "refused" in refused.steps[0].detail
    unknown = one(OpenAI("m", base_url="https://name.invalid/v1", api_key="k"))
    assert unknown.steps[0].detail == "the name name.invalid is not known"


def test_a_missing_secret_is_no_outage(server: LoopbackLLM) -> None:
    found = one(openai(server, api_key=Secret("env:NOT_SET_ANYWHERE")))
    assert found.status == "no key"
    assert "env:NOT_SET_ANYWHERE: the variable NOT_SET_ANYWHERE is not set" in found.steps[-1].detail


def test_embeddings_are_asked_for_a_vector(server: LoopbackLLM) -> None:
    found = one(openai(server, "text-embedding-3-small"))
    assert found.status == "ok"
    assert found.steps[2].detail.startswith("a vector of ")


def test_code_of_the_users_is_asked_too() -> None:
    found = one(ScriptedProvider("ready"))
    assert found.status == "ok"
    assert levels(found)[:2] == [("reachable", None), ("answering", None)]


def test_a_server_that_accepts_and_says_nothing_is_reachable_and_not_answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "HTTP_TIME", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = one(OpenAI("m", base_url=f"http://127.0.0.1:{port}/v1", api_key="k"))
    assert (found.status, levels(found)) == ("down", [("reachable", True), ("answering", False)])
    assert found.steps[1].detail == "no HTTP answer within 0.1 s"


def test_a_proxy_is_not_bypassed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    found = connect(OpenAI("m", api_key="k"), 1.0)
    assert found.ok is None
    assert "proxy" in found.detail


def test_a_server_error_is_no_answer(server: LoopbackLLM) -> None:
    server.default = Status(503)
    found = ask(openai(server), 2.0)
    assert found.ok is False or "HTTP 404" in found.detail


# --- TLS ---


class Tls:
    """A server on this machine that completes handshakes and answers every request with 404."""

    def __init__(self, context: ssl.SSLContext, *, shake: bool = True) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._context = context
        self._shake = shake
        self._held: list[socket.socket] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                plain, _ = self._listening.accept()
            except OSError:
                return
            if not self._shake:
                self._held.append(plain)
                continue
            try:
                with self._context.wrap_socket(plain, server_side=True) as tls:
                    if tls.recv(4096):
                        tls.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            except OSError:
                plain.close()

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for one in self._held:
            one.close()
        self._thread.join(5)


@pytest.fixture
def authority() -> Any:
    trustme = pytest.importorskip("trustme")
    return trustme.CA()


def tls_server(authority: Any, name: str, **options: Any) -> Tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return Tls(context, **options)


def secure(server: Tls) -> OpenAI:
    return OpenAI("m", base_url=f"https://localhost:{server.port}/v1", api_key="k")


def test_tls_is_set_up_and_its_certificate_looked_at(
    authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = tls_server(authority, "localhost")
    try:
        refused = connect(secure(server), 2.0)
        assert refused.ok is False
        assert refused.detail.startswith("its certificate is not accepted: ")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        found = connect(secure(server), 2.0)
        assert found.ok
        assert found.detail.startswith(f"TLSv1.3 to localhost:{server.port}, certificate until ")
        assert ask(secure(server), 2.0) == (True, "HTTP 404 without a key")
    finally:
        server.close()


def test_a_certificate_for_another_name_is_not_accepted(
    authority: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    server = tls_server(authority, "other.example")
    try:
        found = connect(secure(server), 2.0)
        assert "mismatch" in found.detail.lower()
    finally:
        server.close()


def test_a_providers_own_certificates_and_proxy_are_used(tmp_path: Path) -> None:
    certificates, asked = Certificates(tmp_path), list[bytes]()
    with (
        encrypted(certificates.inside(demands=True)) as server,
        connect_proxy(asked, password=True) as proxy,
    ):
        url = f"https://localhost:{server.port}/v1"
        ours: Any = {"base_url": url, "api_key": "k", "verify": certificates.ca}
        assert "give cert=" in ask(OpenAI("m", **ours), 2.0).detail
        ours["cert"] = certificates.client
        assert connect(OpenAI("m", **ours), 2.0).ok
        assert ask(OpenAI("m", **ours), 2.0).ok
        through = OpenAI("m", **ours, proxy=f"http://me:canary%20word@127.0.0.1:{proxy.port}")
        assert connect(through, 2.0).ok is None
        assert ask(through, 2.0).ok
    assert [BASIC in one for one in asked] == [True]


def test_a_provider_that_wants_no_proxy_is_looked_at(server: LoopbackLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert connect(openai(server, proxy=False), 1.0).ok
    assert ask(openai(server, proxy=False), 1.0).ok


def test_a_handshake_that_never_ends_is_bounded(authority: Any) -> None:
    server = tls_server(authority, "localhost", shake=False)
    try:
        began = time.monotonic()
        found = connect(secure(server), 0.2)
        assert found.ok is False
        assert "within 0.2 s" in found.detail
        assert time.monotonic() - began < 5
    finally:
        server.close()
