"""A provider's own proxy and certificates, on each engine, over real sockets."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.errors import CallFailed, ConfigurationError, FaultKind
from resilient_llm.events import GateClosed
from resilient_llm.providers import OpenAI
from resilient_llm.providers.network import Network, network_of
from tests.drive.guarded import BASIC, Certificates, connect_proxy, encrypted, socks_proxy
from tests.hostile.clients import caller, provider, within
from tests.hostile.hangs import silent
from tests.hostile.servers import RawServer, answer, read_request

WAYS = [
    ("sync", "httpx"),
    ("sync", "httpx2"),
    ("asyncio", "httpx"),
    ("asyncio", "httpx2"),
    ("trio", "httpx"),
    ("asyncio", "aiohttp"),
]
each_way = pytest.mark.parametrize(("kind", "engine"), WAYS)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def well_served(connection: Any, over: Any) -> None:
    while read_request(connection):
        connection.sendall(answer(b"well"))


# --- TLS ---


@each_way
def test_the_right_certificates_on_both_sides(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack
) -> None:
    shown: list[bytes] = []
    server = stack.enter_context(encrypted(certificates.inside(demands=True), shown))
    one = provider(f"https://localhost:{server.port}", verify=certificates.ca, cert=certificates.apart())
    client = stack.enter_context(caller(kind, [one], engine=engine))
    assert [client.ask(deadline=5) for _ in range(2)] == ["well"] * 2
    assert client.ask(stream=False, deadline=5) == "well"
    assert len(shown) == 1
    assert shown[0]


@each_way
def test_a_context_of_the_users_decides_all_of_it(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack
) -> None:
    server = stack.enter_context(encrypted(certificates.inside(demands=True)))
    mine = certificates.trusting()
    mine.load_cert_chain(certificates.client)
    mine.set_alpn_protocols(["h2"])  # of a client for HTTP/2 that shares it
    client = stack.enter_context(
        caller(kind, [provider(f"https://localhost:{server.port}", verify=mine)], engine=engine)
    )
    assert client.ask(deadline=5) == "well"


WRONG = {
    "not trusted": (None, {}, ("verify=", "issuer")),
    "expired": ({"expired": True}, {"verify": "ca"}, ("expired", "clock")),
    "of another name": ({"name": "other.example"}, {"verify": "ca"}, ("mismatch", "base_url=")),
    "none of ours": ({"demands": True}, {"verify": "ca"}, ("give cert=",)),
    "a stranger's": ({"demands": True}, {"verify": "ca", "cert": "stranger"}, ("unknown ca", "cert=")),
}


@pytest.mark.parametrize("wrong", WRONG)
@each_way
def test_a_certificate_that_is_not_accepted_is_a_misconfiguration(
    kind: str, engine: str, wrong: str, certificates: Certificates, stack: ExitStack
) -> None:
    options, names, told = WRONG[wrong]
    server = stack.enter_context(encrypted(certificates.inside(**(options or {}))))
    well = stack.enter_context(encrypted(certificates.inside()))
    given: dict[str, Any] = {option: getattr(certificates, name) for option, name in names.items()}
    bad = provider(f"https://localhost:{server.port}", "bad", **given)
    good = provider(f"https://localhost:{well.port}", "good", verify=certificates.ca)
    heard: list[Any] = []
    client = stack.enter_context(caller(kind, [bad, good], engine=engine, listeners=[heard.append]))
    assert [client.ask(deadline=5, idempotent=False) for _ in range(3)] == ["well"] * 3
    assert server.connections == 1  # it is not asked again and again
    (gate,) = [one for one in heard if isinstance(one, GateClosed)]
    assert (gate.provider, gate.reason) == ("bad", "misconfigured")
    assert all(word in gate.message for word in told), gate.message


def test_without_verification_anybody_is_trusted(certificates: Certificates, stack: ExitStack) -> None:
    server = stack.enter_context(encrypted(certificates.inside("other.example", expired=True)))
    client = stack.enter_context(ResilientClient([provider(f"https://localhost:{server.port}", verify=False)]))
    assert client.chat("hi", deadline=5).text == "well"


@each_way
def test_renewed_files_serve_the_next_connection(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack, tmp_path: Path
) -> None:
    shown: list[bytes] = []
    server = stack.enter_context(encrypted(certificates.inside(demands=True), shown, once=True))
    mine = tmp_path / "mine.pem"
    mine.write_bytes(Path(certificates.client).read_bytes())
    one = provider(f"https://localhost:{server.port}", verify=certificates.ca, cert=mine)
    client = stack.enter_context(caller(kind, [one], engine=engine))
    renewed = Path(certificates.issue("renewed.pem")).read_bytes()
    for text in (None, renewed, b"half written"):
        if text is not None:
            mine.write_bytes(text)
        assert client.ask(deadline=5) == "well"
    assert shown[0] != shown[1]
    assert shown[1] == shown[2]  # what cannot be read leaves the former one in use


# --- proxies ---


@each_way
def test_through_a_proxy_of_its_own(kind: str, engine: str, certificates: Certificates, stack: ExitStack) -> None:
    asked: list[bytes] = []
    server = stack.enter_context(encrypted(certificates.inside("llm.example", demands=True)))
    proxy = stack.enter_context(connect_proxy(asked))
    direct = stack.enter_context(encrypted(certificates.inside()))
    through = provider(
        f"https://llm.example:{server.port}",
        proxy=f"http://me:canary%20word@127.0.0.1:{proxy.port}",
        verify=certificates.ca,
        cert=certificates.client,
    )
    beside = provider(f"https://localhost:{direct.port}", "beside", verify=certificates.ca)
    client = stack.enter_context(caller(kind, [through, beside], engine=engine))
    assert [client.ask(deadline=5) for _ in range(3)] == ["well"] * 3
    assert client.ask(deadline=5, providers=["beside"]) == "well"
    assert [(one.split(b"\r\n")[0], BASIC in one) for one in asked] == [
        (b"CONNECT llm.example:%d HTTP/1.1" % server.port, True)
    ]


@pytest.mark.parametrize(("kind", "engine"), WAYS[:-1])
def test_through_a_socks_proxy(kind: str, engine: str, certificates: Certificates, stack: ExitStack) -> None:
    asked: list[bytes] = []
    server = stack.enter_context(encrypted(certificates.inside("llm.example")))
    proxy = stack.enter_context(socks_proxy(asked))
    url = f"socks5h://me:canary%20word@127.0.0.1:{proxy.port}"
    one = provider(f"https://llm.example:{server.port}", proxy=url, verify=certificates.ca)
    client = stack.enter_context(caller(kind, [one], engine=engine))
    assert [client.ask(deadline=5) for _ in range(2)] == ["well"] * 2
    assert len(asked) == 1


@each_way
def test_a_proxy_that_refuses_shows_no_password(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack
) -> None:
    asked: list[bytes] = []
    proxy = stack.enter_context(connect_proxy(asked))
    one = provider("https://llm.example", proxy=f"http://me:canary-wrong@127.0.0.1:{proxy.port}")
    client = stack.enter_context(caller(kind, [one], engine=engine, retry={"max_attempts": 1}))
    with pytest.raises(CallFailed) as failed:
        client.ask(deadline=5)
    assert failed.value.fault is not None
    assert (failed.value.fault.kind, failed.value.fault.code) == (FaultKind.CONNECTION, "not_sent")
    cause = failed.value.__cause__
    assert "407" in str(failed.value)
    assert "canary" not in f"{failed.value} {failed.value!r} {cause!r} {one!r} {one.network!r}"


@each_way
def test_a_proxy_that_is_not_there_is_named(kind: str, engine: str) -> None:
    one = provider("https://llm.example", proxy="http://me:canary-wrong@127.0.0.1:1")
    with (
        caller(kind, [one], engine=engine, retry={"max_attempts": 1}) as client,
        pytest.raises(CallFailed, match=r"127\.0\.0\.1:1\b") as failed,
    ):
        client.ask(deadline=5)
    assert "canary" not in f"{failed.value!r} {failed.value.__cause__!r}"


@each_way
def test_a_proxy_that_says_nothing_is_not_waited_for(kind: str, engine: str, stack: ExitStack) -> None:
    quiet = stack.enter_context(RawServer(silent))
    well = stack.enter_context(RawServer(well_served))
    one = provider("https://llm.example", proxy=quiet.url)
    both = [one, provider(well.url, "b")]
    settings: Any = {"timeouts": {"connect": 0.1}, "hedge": {"enabled": False}}
    client = stack.enter_context(caller(kind, both, engine=engine, **settings))
    assert client.ask(deadline=10, idempotent=False) == "well"


@each_way
def test_the_environments_proxy_is_used_unless_the_provider_says_otherwise(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []
    server = stack.enter_context(encrypted(certificates.inside()))
    proxy = stack.enter_context(connect_proxy(asked, password=False))
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{proxy.port}")
    url, trust = f"https://localhost:{server.port}", certificates.ca
    both = [provider(url, "through", verify=trust), provider(url, "direct", verify=trust, proxy=False)]
    client = stack.enter_context(caller(kind, both, engine=engine))
    for _ in range(2):
        assert client.ask(deadline=5, providers=["direct"]) == "well"
    assert not asked
    assert client.ask(deadline=5, providers=["through"]) == "well"
    assert len(asked) == 1
    monkeypatch.setenv("no_proxy", "localhost")
    with caller(kind, both, engine=engine) as other:
        assert other.ask(deadline=5, providers=["through"]) == "well"
    assert len(asked) == 1


# --- connections ---


@each_way
def test_a_host_that_never_answers_the_handshake_is_left_alone_after_three_calls(
    kind: str, engine: str, stack: ExitStack
) -> None:
    quiet = stack.enter_context(RawServer(silent))
    well = stack.enter_context(RawServer(well_served))
    both = [provider(quiet.url.replace("http:", "https:"), "quiet"), provider(well.url, "b")]
    settings: Any = {"timeouts": {"connect": 0.1}, "hedge": {"enabled": False}}
    client = stack.enter_context(caller(kind, both, engine=engine, **settings))
    for _ in range(3):
        assert client.ask(deadline=10) == "well"
    assert client.raw.health()["quiet"].breaker == "softly_open"


@each_way
def test_equal_options_share_connections_and_others_do_not(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack
) -> None:
    server = stack.enter_context(encrypted(certificates.inside(demands=True)))
    url, trust = f"https://localhost:{server.port}", certificates.ca
    options = [certificates.client, certificates.client, certificates.apart()]
    several = [provider(url, str(at), verify=trust, cert=cert) for at, cert in enumerate(options)]
    client = stack.enter_context(caller(kind, several, engine=engine))
    for name, connections in (("0", 1), ("1", 1), ("2", 2), ("0", 2), ("2", 2)):
        assert client.ask(deadline=5, providers=[name]) == "well"
        assert server.connections == connections


@pytest.mark.parametrize(("kind", "engine"), WAYS[:-1])
def test_replaced_providers_leave_no_connection(
    kind: str, engine: str, certificates: Certificates, stack: ExitStack
) -> None:
    ended: list[bool] = []
    context = certificates.inside()

    def serve(connection: Any, over: Any) -> None:
        with context.wrap_socket(connection, server_side=True) as inside:
            while read_request(inside):
                inside.sendall(answer(b"well"))
        ended.append(True)

    server = stack.enter_context(RawServer(serve))
    url = f"https://localhost:{server.port}"
    stays, goes = provider(url, "stays", verify=certificates.ca), provider(url, "goes", verify=False)
    client = stack.enter_context(caller(kind, [stays, goes], engine=engine))
    for name in ("stays", "goes"):
        assert client.ask(deadline=5, providers=[name]) == "well"
    client.raw.replace_providers([stays])
    assert within(5, lambda: len(ended) == 1)
    assert client.ask(deadline=5) == "well"
    assert server.connections == 2


# --- what is refused at once ---


def test_what_an_engine_cannot_do_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    socks = provider("https://h", proxy="socks5://me:canary-word@h")
    with pytest.raises(ConfigurationError, match="SOCKS") as refused:
        AsyncResilientClient([socks], engine="aiohttp")
    assert "'a'" in str(refused.value)
    assert "canary" not in str(refused.value)
    with httpx.Client() as mine, pytest.raises(ConfigurationError, match="http_client="):
        ResilientClient([provider("https://h", verify=False)], http_client=mine)
    client = ResilientClient([provider("https://h")])
    monkeypatch.setattr("resilient_llm.drive.engines.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match="pip install socksio"):
        client.replace_providers([socks])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"proxy": "https://me:canary@h"}, "proxy must begin with one of http://, socks5://, socks5h://"),
        ({"proxy": "me:canary@h:1"}, "proxy must begin"),
        ({"proxy": "http://h:port"}, "proxy must begin"),
        ({"proxy": "http://h:1/path"}, "proxy must have nothing behind"),
        ({"proxy": 3}, "proxy must be a URL, False or None, not a int"),
        ({"proxy": True}, "proxy must be a URL, False or None, not a bool"),
        ({"verify": "/nowhere/ca.pem"}, "verify='/nowhere/ca.pem': No such file"),
        ({"verify": ""}, "verify must be True, False"),
        ({"verify": None}, "verify must be True, False"),
        ({"verify": 1}, "verify must be True, False"),
        ({"cert": "/nowhere/cert.pem"}, "cert='/nowhere/cert.pem': there is no such file"),
        ({"cert": ()}, "cert must be a file"),
        ({"cert": ("a", "b", "canary", "d")}, "cert must be a file"),
        ({"cert": (3, "b")}, "cert must be a file"),
        ({"verify": ssl.create_default_context(), "cert": __file__}, "load the certificate into the context"),
        ({"verify": __file__}, "it holds no certificate in PEM"),
        ({"cert": __file__}, "there is no certificate with its key in PEM"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as wrong:
        OpenAI("m", id="mine", api_key="k", **options)
    assert told in str(wrong.value)
    assert str(wrong.value).startswith("OpenAI 'mine': ")
    assert "canary" not in f"{wrong.value!r} {wrong.value.__cause__!r}"


def test_files_that_do_not_belong_together(certificates: Certificates, tmp_path: Path) -> None:
    cert, _ = certificates.apart()
    with pytest.raises(ConfigurationError, match="does not belong"):
        network_of(None, True, (cert, certificates.stranger))
    with pytest.raises(ConfigurationError, match="no certificate or key"):
        network_of(None, True, (cert, certificates.ca))
    with pytest.raises(ConfigurationError, match="none of its files"):
        network_of(None, tmp_path, None)
    cert, locked = certificates.locked("canary word")
    with pytest.raises(ConfigurationError, match="password is needed"):
        network_of(None, True, (cert, locked))
    with pytest.raises(ConfigurationError, match="password does not open"):
        network_of(None, True, (cert, locked, "canary wrong"))
    network = network_of(None, True, (cert, locked, "canary word"))
    assert "canary" not in repr(network)
    assert network.secrets == ("canary word",)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl, which names the files")
def test_a_directory_of_authorities(certificates: Certificates, tmp_path: Path, stack: ExitStack) -> None:
    (tmp_path / "ca.pem").write_bytes(Path(certificates.ca).read_bytes())
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True)
    server = stack.enter_context(encrypted(certificates.inside()))
    client = stack.enter_context(ResilientClient([provider(f"https://localhost:{server.port}", verify=tmp_path)]))
    assert client.chat("hi", deadline=5).text == "well"


def test_a_key_is_not_sent_in_the_clear_to_a_public_proxy() -> None:
    near, proxy = "http://10.0.0.7/v1", "http://proxy.example.com:3128"
    with pytest.raises(ConfigurationError, match=r"proxy\.example\.com over plain http"):
        OpenAI("m", api_key="k", base_url=near, proxy=proxy)
    OpenAI("m", api_key="k", base_url=near, proxy=proxy, allow_http=True)
    OpenAI("m", api_key="k", base_url="https://10.0.0.7/v1", proxy=proxy)


def test_what_is_shown_of_a_proxy() -> None:
    one = OpenAI("m", api_key="k", proxy="http://me:canary-word@proxy:3128")
    assert repr(one) == "<OpenAI 'openai/m' at https://api.openai.com/v1 through http://proxy:3128>"
    assert "canary" not in f"{vars(one)!r}"
    assert "canary-word" in tuple(one.secrets)
    assert network_of(None, True, None) is network_of(None, True, None)
    assert Network() == network_of(None, True, None)
