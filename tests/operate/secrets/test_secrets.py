"""Secrets: named and not held, fetched off the path of calls, never shown."""

from __future__ import annotations

import logging
import os
import pickle
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from resilient_llm.errors import AllAttemptsFailed, ConfigurationError, FaultKind
from resilient_llm.operate.secrets import FORMS, Reference, Secret, secret
from resilient_llm.operate.secrets import stores as places
from resilient_llm.operate.secrets.held import Held
from resilient_llm.providers import OpenAI
from resilient_llm.providers.credentials import Credential, KeyUnavailable, Renewable
from resilient_llm.testing import ManualClock, Reply, Status
from tests.drive.clients import World, eventually, openai, threads

KEY = "sk-very-secret-0123456789"
OTHER = "sk-the-next-one-987654321"


class Store:
    """A stand-in for a secret store: answers, fails, or holds its answer back until it is opened."""

    def __init__(self, *answers: str | Exception, patience: float = 10.0) -> None:
        self.answers = list(answers)
        self.asked = 0
        self.open = threading.Event()
        self.open.set()
        self._patience = patience

    def __call__(self, reference: Reference) -> str:
        self.asked += 1
        self.open.wait(self._patience)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def quiet() -> None:
    """Until nothing is being fetched."""
    eventually(lambda: "resilient_llm-secret" not in threads())


# --- references ---


@pytest.mark.parametrize("text", ["sk-abcdefgh", "0451", "", "Bearer abc", "https://x.example/key", "evn:OPENAI"])
def test_a_plain_key_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"env:NAME.*file:/run/secrets") as refused:
        secret(text)
    assert len(text) < 4 or text not in str(refused.value)


@pytest.mark.parametrize(
    "text", ["env:", "env:A B", "vault:path", "keyring:service", "gcp:name", "azure:vault", "file:"]
)
def test_a_reference_that_is_written_wrongly_says_how_it_is_written(text: str) -> None:
    with pytest.raises(ConfigurationError, match="is written") as refused:
        secret(text)
    assert FORMS[text.partition(":")[0]] in str(refused.value)


def test_every_store_has_a_form() -> None:
    assert places.STORES.keys() == FORMS.keys()
    for store, form in FORMS.items():
        assert Reference.parse(form.partition(" or ")[0]).store == store


# --- stores ---


def test_a_variable_is_read_when_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    held = secret("env:SOME_KEY")
    assert held.missing() == "its key env:SOME_KEY: the variable SOME_KEY is not set"
    monkeypatch.setenv("SOME_KEY", f" {KEY}\n")
    assert held() == KEY
    assert held.missing() is None


def test_a_file_is_read_again_when_its_time_is_over(tmp_path: Path) -> None:
    path = tmp_path / "key"
    held = Secret(f"file:{path}", ttl=60, clock=(clock := ManualClock()))
    with pytest.raises(KeyUnavailable, match="No such file"):
        held()
    path.write_text(KEY + "\n")
    assert held() == KEY
    path.write_text(OTHER)
    assert held() == KEY
    clock.advance(60)
    assert held() == OTHER
    path.unlink()
    clock.advance(60)
    assert held() == OTHER, "the last value stays in use"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes on this machine")
def test_a_file_that_somebody_has_yet_to_write_to_makes_nobody_wait(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    held = secret(f"file:{path}")
    assert held.missing() == f"its key file:{path}: its store has not answered yet"
    path.write_text(KEY)
    eventually(lambda: held.missing() is None)
    assert held() == KEY


def test_a_real_keyring_is_asked() -> None:
    keyring = pytest.importorskip("keyring")

    class InMemory(keyring.backend.KeyringBackend):
        """A backend of the real library."""

        priority = 1  # type: ignore[assignment]
        held = {("llm", "openai"): KEY}  # noqa: RUF012

        def get_password(self, service: str, username: str) -> str | None:
            return self.held.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None: ...

        def delete_password(self, service: str, username: str) -> None: ...

    before = keyring.get_keyring()
    keyring.set_keyring(InMemory())
    try:
        assert secret("keyring:llm/openai")() == KEY
        with pytest.raises(KeyUnavailable, match="the keyring has no other of llm"):
            secret("keyring:llm/other")()
    finally:
        keyring.set_keyring(before)


def test_vault_is_asked_over_http_as_its_own_client_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """The genuine hvac library against a stand-in for a Vault server."""
    pytest.importorskip("hvac")
    with stand_in_for_vault({"/v1/kv/data/llm/keys": {"openai": KEY}}) as url:
        monkeypatch.setenv("VAULT_ADDR", url)
        monkeypatch.setenv("VAULT_TOKEN", "root")
        assert secret("vault:kv/llm/keys#openai")() == KEY
        with pytest.raises(KeyUnavailable, match="has no text gemini; it has openai"):
            secret("vault:kv/llm/keys#gemini")()
        with pytest.raises(KeyUnavailable, match="failed with InvalidPath"):
            secret("vault:kv/llm/nowhere#openai")()


def stand_in_for_vault(held: dict[str, dict[str, str]]) -> Any:
    """A server that answers the one question of Vault's API that is used, given the right token."""
    import json
    from contextlib import contextmanager
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = held.get(self.path.partition("?")[0])
            known = self.headers["x-vault-token"] == "root" and found is not None
            body = json.dumps({"data": {"data": found, "metadata": {}}} if known else {"errors": []}).encode()
            self.send_response(200 if known else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    @contextmanager
    def serving() -> Iterator[str]:
        with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_port}"
            finally:
                server.shutdown()
                thread.join()

    return serving()


def test_the_clouds_are_asked_as_their_libraries_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for botocore, google-cloud-secret-manager and azure-keyvault-secrets."""
    asked: list[Any] = []

    def answer(what: Any) -> Any:
        def note(*args: Any, **options: Any) -> Any:
            asked.append((args, options))
            return what

        return note

    aws = SimpleNamespace(get_secret_value=answer({"SecretString": f'{{"openai": "{KEY}"}}'}))
    gcp = SimpleNamespace(access_secret_version=answer(SimpleNamespace(payload=SimpleNamespace(data=KEY.encode()))))
    azure = SimpleNamespace(get_secret=answer(SimpleNamespace(value=KEY)))
    modules = {
        "botocore.session": SimpleNamespace(get_session=lambda: SimpleNamespace(create_client=lambda *_, **__: aws)),
        "botocore.config": SimpleNamespace(Config=lambda **_: None),
        "google.cloud.secretmanager": SimpleNamespace(SecretManagerServiceClient=lambda: gcp),
        "azure.identity": SimpleNamespace(DefaultAzureCredential=lambda: "credential"),
        "azure.keyvault.secrets": SimpleNamespace(SecretClient=answer(azure)),
    }
    monkeypatch.setattr(places, "import_module", modules.__getitem__)
    assert secret("aws:llm/keys#openai")() == KEY
    assert asked.pop() == ((), {"SecretId": "llm/keys"})
    assert secret("gcp:projects/p/secrets/openai")() == KEY
    assert asked.pop()[1]["name"] == "projects/p/secrets/openai/versions/latest"
    assert secret("azure:safe/openai")() == KEY
    assert asked.pop()[0] == ("openai", None)
    assert asked.pop()[1]["vault_url"] == "https://safe.vault.azure.net"


def test_an_extra_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(places, "import_module", absent)
    with pytest.raises(KeyUnavailable, match=r"pip install 'resilient-llm\[vault\]'"):
        secret("vault:kv/llm#openai")()


# --- holding ---


def test_nothing_is_fetched_before_it_is_needed() -> None:
    store = Store(KEY)
    held = Secret("vault:kv/llm#openai", fetch=store)
    assert store.asked == 0
    assert held() == KEY
    assert isinstance(held, Renewable)


def test_before_its_first_answer_a_slow_store_makes_nobody_wait_who_need_not() -> None:
    store = Store(KEY)
    store.open.clear()
    held = Secret("vault:kv/llm#openai", fetch=store)
    for _ in range(3):
        assert held.at_hand() is None
        assert held.missing() == "its key vault:kv/llm#openai: its store has not answered yet"
    store.open.set()
    quiet()
    assert held.at_hand() == KEY
    assert store.asked == 1, "one thread asks, whoever wants it"


def test_after_its_first_answer_a_dead_store_costs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    clock = ManualClock()
    store = Store(KEY, ConnectionError(KEY))
    held = Secret("vault:kv/llm#openai", ttl=30, fetch=store, clock=clock)
    assert held() == KEY
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            clock.advance(30)
            assert held() == KEY
            quiet()
    assert caplog.messages == [
        "the secret vault:kv/llm#openai could not be fetched: its store failed with ConnectionError"
    ]


def test_a_store_that_fails_is_asked_again_ever_more_slowly() -> None:
    clock = ManualClock()
    store = Store(ConnectionError())
    held = Secret("vault:kv/llm#openai", fetch=store, clock=clock)
    asked = []
    for _ in range(16):
        held.missing()
        quiet()
        asked.append(store.asked)
        clock.advance(1)
    assert asked == [1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4, 5]
    with pytest.raises(KeyUnavailable, match="its store failed with ConnectionError"):
        held()


def test_a_secret_may_be_missing_for_ever(tmp_path: Path) -> None:
    held = secret(f"file:{tmp_path / 'nowhere'}")
    assert all(held.missing() for _ in range(1100))


def test_a_refused_value_is_fetched_again_at_once_and_rests_if_there_is_no_other() -> None:
    clock = ManualClock()
    store = Store(KEY, KEY, OTHER)
    held = Secret("vault:kv/llm#openai", fetch=store, clock=clock)
    assert held() == KEY
    assert held.rejected(KEY)
    quiet()
    assert not held.rejected(KEY), "it was looked for in vain"
    assert held.missing() == "its key vault:kv/llm#openai: the provider refused it, and its store has no other"
    with pytest.raises(KeyUnavailable):
        held()
    clock.advance(5)
    held.missing()
    quiet()
    assert held() == OTHER
    assert held.rejected(KEY), "an older value: there is another already"
    assert store.asked == 3


def test_a_refused_value_is_tried_again_after_a_while() -> None:
    clock = ManualClock()
    held = Secret("vault:kv/llm#openai", fetch=Store(KEY), clock=clock)
    held()
    held.rejected(KEY)
    quiet()
    clock.advance(60)
    assert held() == KEY
    assert held.rejected(KEY)
    quiet()
    clock.advance(60)
    assert held.at_hand() is None, "twice as long"


@pytest.mark.parametrize("answer", ["", " \n", "two\nlines", "schlüssel", 5, None])
def test_what_cannot_be_a_key_is_none_and_not_shown(answer: Any) -> None:
    with pytest.raises(KeyUnavailable) as failure:
        Secret("vault:kv/llm#openai", fetch=Store(answer))()
    assert "schl" not in str(failure.value)
    assert "lines" not in str(failure.value)


def test_no_repr_no_pickle_and_no_plain_reference_shows_it() -> None:
    held = secret(f"plain:{KEY}")
    assert held() == KEY
    assert KEY not in f"{held!r} {held.reference!r} {held.reference}"
    with pytest.raises(TypeError):
        pickle.dumps(held)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_worker_asks_itself_where_its_parent_was_asking() -> None:
    store = Store(KEY)
    store.open.clear()
    held = Secret("vault:kv/llm#openai", fetch=store)
    assert held.missing() is not None
    child = os.fork()
    if not child:
        store.open.set()
        os._exit(0 if held() == KEY else 1)
    assert os.waitpid(child, 0)[1] == 0
    store.open.set()
    quiet()


# --- calls ---


def test_a_provider_without_its_key_is_passed_over_and_says_why(world: World) -> None:
    store = Store(KEY)
    store.open.clear()
    first, second = world.server(), world.server()
    held = Secret("vault:kv/llm#openai", fetch=store)
    client = world.client([openai(first, api_key=held), openai(second, "second")])
    began = time.perf_counter()
    assert client.chat().provider == "second"
    assert time.perf_counter() - began < 5
    assert client.raw.explain()[0].reason == "its key vault:kv/llm#openai: its store has not answered yet"
    store.open.set()
    quiet()
    assert client.chat().provider == "first"
    assert first.requests[0].headers["authorization"] == f"Bearer {KEY}"
    assert len(client.chat().attempts) == 1


def test_a_lone_provider_waits_for_its_key(world: World) -> None:
    store = Store(KEY)
    store.open.clear()
    client = world.client([openai(world.server(), api_key=Secret("vault:kv/llm#openai", fetch=store))])
    opener = threading.Timer(0.05, store.open.set)
    opener.start()
    assert client.chat().provider == "first"
    opener.join()


def test_a_lone_provider_whose_store_is_down_says_so(world: World) -> None:
    held = Secret("vault:kv/llm#openai", fetch=Store(ConnectionError(KEY)))
    client = world.client([openai(world.server(), api_key=held)], retry={"max_down_wait": 0.0})
    with pytest.raises(
        AllAttemptsFailed, match="vault:kv/llm#openai: its store failed with ConnectionError"
    ) as failure:
        client.chat()
    assert KEY not in f"{failure.value!r} {failure.value.fault!r}"


@pytest.mark.parametrize("streamed", [False, True])
def test_a_key_that_was_rotated_is_replaced_within_the_call(world: World, streamed: bool) -> None:
    def gate(request: Any) -> Any:
        return Reply("hello") if request.headers["authorization"] == f"Bearer {OTHER}" else Status(401)

    server = world.server(default=gate)
    held = Secret("vault:kv/llm#openai", fetch=Store(KEY, OTHER))
    client = world.client([openai(server, api_key=held)])
    text = client.stream().text() if streamed else client.chat().text
    assert text == "hello"
    assert [one.headers["authorization"] for one in server.requests] == [f"Bearer {KEY}", f"Bearer {OTHER}"]
    assert client.health()["first"].error_rate in (None, 0.0)


def test_a_store_that_is_down_when_a_key_is_refused_keeps_no_call_from_the_next_provider(world: World) -> None:
    store = Store(KEY, OTHER, patience=20.0)
    locked, other = world.server(default=Status(401)), world.server(default=Reply("well"))
    held = Secret("vault:kv/a#b", fetch=store)
    assert held() == KEY
    store.open.clear()
    client = world.client([openai(locked, "locked", api_key=held), openai(other, "other")])
    try:
        assert client.chat("hi", deadline=8).text == "well"
        assert held.reason() == "the provider refused it, and its store has not told another one yet"
        asked = locked.request_count
        assert client.chat("hi", deadline=8).text == "well"
        assert locked.request_count == asked
    finally:
        store.open.set()
    quiet()


def test_a_pool_of_keys_is_passed_over_while_all_of_them_are_missing(world: World) -> None:
    store = Store(KEY)
    store.open.clear()
    first, second = world.server(), world.server()
    keys = [Secret("vault:kv/llm#one", fetch=store), Secret("vault:kv/llm#two", fetch=store)]
    provider = OpenAI("m", id="first", base_url=f"{first.url}/v1", api_keys=keys)
    client = world.client([provider, openai(second, "second")])
    assert client.chat().provider == "second"
    assert client.raw.explain()[0].reason == "its key vault:kv/llm#one: its store has not answered yet"
    store.open.set()
    quiet()
    assert client.chat().provider == "first"


def test_what_one_provider_refuses_another_one_may_take(world: World) -> None:
    held = Held(Reference.parse("vault:kv/llm#gateway"), 60.0, Store(KEY), time.monotonic)
    first, second = (Secret(held.reference, held=held) for _ in range(2))
    refusing, taking = world.server(default=Status(401)), world.server()
    client = world.client([openai(refusing, api_key=first), openai(taking, "second", api_key=second)])
    assert client.chat().provider == "second"
    quiet()
    assert client.chat().provider == "second"
    assert len(client.chat().attempts) == 1, "the first is passed over"
    assert len(refusing.requests) == 1
    pool = client.raw.pool.pool
    assert [target.account.partition("/")[2] for target in pool.targets()] == [first.account] * 2


def test_a_key_for_which_there_is_no_other_is_a_rejected_key(world: World) -> None:
    server = world.server(default=Status(401, message=f"bad key {KEY}"))
    held = Secret("vault:kv/llm#openai", fetch=Store(KEY))
    client = world.client([openai(server, api_key=held)])
    with pytest.raises(AllAttemptsFailed) as failure:
        client.chat()
    assert (failure.value.kind, failure.value.status_code) == (FaultKind.AUTH, 401)
    assert KEY not in str(failure.value)
    assert len(server.requests) == 1
    quiet()
    with pytest.raises(AllAttemptsFailed, match="the provider refused it"):
        client.chat()
    assert len(server.requests) == 1, "nobody is hammered with a key that is known to be refused"


def test_errors_name_the_secret_that_is_late() -> None:
    assert Credential(Secret("vault:kv/llm#openai")).name == "the secret vault:kv/llm#openai"
    assert Credential(Secret(f"plain:{KEY}")).name == "the secret plain:***"


def test_a_secret_is_the_same_account_in_every_process_that_names_it_alike() -> None:
    one, same, other = Secret("vault:kv/llm#openai"), Secret("vault:kv/llm#openai"), Secret("env:OTHER")
    assert one.account == same.account != other.account
    assert KEY not in Secret(f"plain:{KEY}").account
    assert Secret("env:A", fetch=Store(KEY)).account != Secret("env:A", fetch=Store(KEY)).account


def test_a_function_is_a_secret_too(world: World) -> None:
    store = Store(KEY, OTHER)

    def ours() -> str:
        return store(Reference("plain", ""))

    with pytest.raises(ConfigurationError, match="a reference like env:NAME, or a function that is not async, not int"):
        secret(7)  # type: ignore[arg-type]

    async def later() -> str:
        return KEY

    with pytest.raises(ConfigurationError, match=r"function that is not async, not .*later"):
        secret(later)  # type: ignore[arg-type]
    held = secret(ours, ttl=1e6)
    assert held.account.startswith("callable-"), "nothing that another process would know it by"
    server = world.server(default=Reply("well"))
    client = world.client([openai(server, api_key=held)])
    for _ in range(3):
        assert client.chat("hi").text == "well"
    assert store.asked == 1
    ours.account = "team-a"  # type: ignore[attr-defined]
    assert secret(ours).account == "team-a"
    store.answers = [ValueError(KEY)]
    with pytest.raises(KeyUnavailable, match=r"function:.*ours: its store failed with ValueError") as failed:
        secret(ours)()
    assert KEY not in str(failed.value)
