"""New settings for a client that is at work."""

from __future__ import annotations

import gc
import logging
import os
import signal
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import resilient_llm
from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.background import background_of
from resilient_llm.operate.settings import SettingsError, reload, settings_of
from resilient_llm.operate.settings.loading import loaded_of
from resilient_llm.testing import LoopbackLLM, Reply, ScriptedProvider
from tests.drive.clients import eventually

PROVIDER = """
[providers.{name}]
kind = "openai"
model = "m"
api_key = "plain:k"
base_url = "{url}/v1"
weight = {weight}
"""


@pytest.fixture
def server() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply("hello")) as running:
        yield running


class File:
    """A settings file with some providers at a server."""

    def __init__(self, path: Path, server: LoopbackLLM) -> None:
        self.path = path
        self._server = server

    def write(self, *names: str, head: str = "", weight: float = 1.0, tail: str = "") -> None:
        providers = (PROVIDER.format(name=name, url=self._server.url, weight=weight) for name in names)
        self.path.write_text(head + "".join(providers) + tail)


@pytest.fixture
def file(tmp_path: Path, server: LoopbackLLM) -> File:
    made = File(tmp_path / "resilient.toml", server)
    made.write("a", "b")
    return made


def ids(client: Any) -> list[str]:
    return [one.id for one in client.pool.pool.targets()]


def test_what_did_not_change_is_the_same_object_and_keeps_what_is_known(file: File) -> None:
    with resilient_llm.load(file.path) as client:
        assert client.chat("hi").provider == "a"
        before = client.pool.pool.targets()
        assert reload(client) == ()
        file.write("c", "a")
        assert reload(client) == ("providers", "b removed")
        assert ids(client) == ["c", "a"]
        assert client.pool.pool.targets()[1] is before[0]
        assert client.health()["a"].samples == 1
        file.write("c", "a", weight=2)
        assert reload(client) == ("providers",)
        assert client.pool.pool.targets()[1] is not before[0]
        assert client.health()["a"].samples == 1, "the same id is the same provider"


def test_a_secret_in_a_header_is_read_again(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write("a", tail='headers = {x-gateway = "env:GATEWAY_TOKEN"}\n')
    monkeypatch.setenv("GATEWAY_TOKEN", "first-secret")
    with resilient_llm.load(file.path) as client:
        assert reload(client) == ()
        monkeypatch.setenv("GATEWAY_TOKEN", "second-secret")
        assert reload(client) == ("providers",)
        assert "second-secret" not in repr(loaded_of(client).settings.known)


def test_a_proxy_that_is_named_is_read_again(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write("a", tail='proxy = "env:THE_PROXY"\n')
    monkeypatch.setenv("THE_PROXY", "http://first:3128")
    with resilient_llm.load(file.path) as client:
        assert reload(client) == ()
        monkeypatch.setenv("THE_PROXY", "http://me:second-secret@second:3128")
        assert reload(client) == ("providers",)
        assert "second:3128" in repr(client.pool.pool.targets())
        assert "second-secret" not in repr(loaded_of(client).settings.known)


def test_calls_under_way_end_undisturbed(file: File, server: LoopbackLLM) -> None:
    server.default = Reply("one two three four", interval=0.02)
    with resilient_llm.load(file.path) as client, client.stream("hi") as stream:
        stream.start()
        file.write("c")
        reload(client)
        assert "".join(stream.text_deltas()) == "one two three four"
        assert stream.response.provider == "a"
        assert client.chat("hi").provider == "c"


def test_policies_deadline_and_what_to_do_without_a_feature_change_at_once(file: File) -> None:
    with resilient_llm.load(file.path) as client:
        file.write("a", "b", head='deadline = 3\non_unsupported = "degrade"\n', tail="[retry]\nmax_attempts = 1\n")
        assert reload(client) == ("deadline", "on_unsupported", "retry")
        assert (client.pool.allowance, client.pool.on_unsupported) == (3.0, "degrade")
        assert client.pool.policies.retry.max_attempts == client.pool.pool.policies.retry.max_attempts == 1
        file.write("a", "b", head='name = "other"\n')
        changed = reload(client)
        assert changed == ("deadline", "name (with the next start)", "on_unsupported", "retry")
        assert client.pool.allowance == 600.0


def test_settings_that_are_wrong_leave_the_old_ones_in_force(file: File, caplog: pytest.LogCaptureFixture) -> None:
    with resilient_llm.load(file.path) as client:
        before = settings_of(client)
        file.write("a", tail="[retry]\nmax_attempts = 0\n")
        with pytest.raises(SettingsError, match=r"resilient.toml:9: retry.max_attempts"):
            reload(client)
        file.path.write_text(file.path.read_text()[:70])
        with caplog.at_level(logging.ERROR):
            loaded_of(client).reload_and_log()
        assert "those before them stay in force" in caplog.text
        file.path.unlink()
        with pytest.raises(SettingsError, match="there is no such file"):
            reload(client)
        assert ids(client) == ["a", "b"]
        assert settings_of(client) is before
        assert client.chat("hi").provider == "a"


def test_a_file_that_is_being_written_is_left_alone_until_it_is_quiet(file: File) -> None:
    with resilient_llm.load(file.path) as client:
        loaded = loaded_of(client)
        loaded.look()
        file.write("c", "a")
        loaded.look()
        assert ids(client) == ["a", "b"], "it changed since the last look"
        file.write("c", "a", "d")
        loaded.look()
        assert ids(client) == ["a", "b"]
        loaded.look()
        assert ids(client) == ["c", "a", "d"]
        file.path.write_text("providers = [")
        loaded.look()
        loaded.look()
        loaded.look()
        assert ids(client) == ["c", "a", "d"]


def test_the_file_of_the_environment_is_looked_at_too(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APP_ENV", "test")
    with resilient_llm.load(file.path) as client:
        loaded = loaded_of(client)
        file.path.with_name("resilient.test.toml").write_text("[providers.a]\nweight = 7\n")
        loaded.look()
        loaded.look()
        assert client.pool.pool.targets()[0].weight == 7.0


def test_changes_are_looked_for_in_the_background(file: File, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("resilient_llm.operate.settings.loading.LOOK", 0.01)
    with resilient_llm.load(file.path, reload="change") as client:
        file.write("c", "a")
        eventually(lambda: ids(client) == ["c", "a"])
        background_of(client.pool).close()


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="no SIGHUP on this system")
def test_sighup_reads_the_file_again_and_calls_the_handler_that_was_there(file: File) -> None:
    told: list[int] = []
    before = signal.signal(signal.SIGHUP, lambda number, frame: told.append(number))
    try:
        with resilient_llm.load(file.path, reload="sighup") as client:
            file.write("c", "a")
            os.kill(os.getpid(), signal.SIGHUP)
            eventually(lambda: ids(client) == ["c", "a"])
            assert told == [signal.SIGHUP]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_sighup_is_for_the_main_thread() -> None:
    refused: list[Exception] = []

    def try_it() -> None:
        try:
            resilient_llm.load({"providers": ["ollama/m"]}, reload="sighup")
        except ConfigurationError as error:
            refused.append(error)

    thread = threading.Thread(target=try_it)
    thread.start()
    thread.join()
    assert "main thread" in str(refused[0])
    with pytest.raises(ConfigurationError, match="'change', 'sighup' or None"):
        resilient_llm.load({"providers": ["ollama/m"]}, reload="always")  # type: ignore[call-overload]


def test_a_client_that_was_made_in_code_cannot_be_reloaded() -> None:
    made = resilient_llm.ResilientClient([ScriptedProvider("x")])
    with made as client, pytest.raises(ConfigurationError, match="was not made by load"):
        reload(client)


def test_a_client_that_is_dropped_is_collected(file: File) -> None:
    client = resilient_llm.load(file.path, reload="change")
    background = background_of(client.pool)
    gone = weakref.ref(client.pool)
    client.close()
    del client
    gc.collect()
    assert gone() is None
    background.close()
