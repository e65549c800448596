"""What help() shows of the public calls, and what is said about names that are none of their keywords."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import pytest

from resilient_llm import AsyncResilientClient, ResilientClient, providers
from resilient_llm.client import SETTINGS, ClientSettings
from resilient_llm.errors import ConfigurationError, InvalidRequest
from resilient_llm.options import LINES, CallOptions, ChatOptions
from resilient_llm.providers import Function, HttpProvider, OpenAI, ProviderOptions
from resilient_llm.providers.base import LINES as PROVIDER_LINES

CLIENTS = pytest.mark.parametrize("kind", [ResilientClient, AsyncResilientClient])


def keywords(function: Any) -> dict[str, inspect.Parameter]:
    found = inspect.signature(function).parameters
    assert not [one for one in found.values() if one.kind is inspect.Parameter.VAR_KEYWORD]
    return {name: one for name, one in found.items() if one.kind is inspect.Parameter.KEYWORD_ONLY}


@CLIENTS
def test_help_shows_each_keyword_with_one_line(kind: Any) -> None:
    whole = {"validate", "fallback"}
    for name, declared in {
        "chat": set(ChatOptions.__annotations__),
        "stream": set(ChatOptions.__annotations__) - whole,
        "explain": set(ChatOptions.__annotations__) - whole,
        "embed": set(CallOptions.__annotations__) | {"dimensions"},
        "with_options": set(CallOptions.__annotations__),
    }.items():
        function = getattr(kind, name)
        assert keywords(function).keys() == declared, name
        shown = pydoc.plain(pydoc.render_doc(function))
        for keyword in declared - {"dimensions"}:
            assert f"    {keyword}: {LINES[keyword]}" in shown, (name, keyword)
        assert "'float | None'" not in shown, "annotations are shown as they were written"


@CLIENTS
def test_help_shows_each_setting_of_a_client(kind: Any) -> None:
    own = {"http_client", "pool", "engine"}
    assert keywords(kind).keys() - own == ClientSettings.__annotations__.keys() == SETTINGS.keys()
    shown = pydoc.plain(pydoc.render_doc(kind))
    assert all(f"{name}: {line}" in shown for name, line in SETTINGS.items())


PROVIDERS = [item for name in providers.__all__ if isinstance(item := getattr(providers, name), type)]


@pytest.mark.parametrize(
    "kind", [kind for kind in PROVIDERS if issubclass(kind, HttpProvider)], ids=lambda kind: kind.__name__
)
def test_help_shows_each_option_of_a_provider(kind: type[HttpProvider]) -> None:
    assert keywords(kind).keys() >= ProviderOptions.__annotations__.keys() == PROVIDER_LINES.keys()
    shown = pydoc.plain(pydoc.render_doc(kind.__init__))
    assert all(f"    {name}: {line}" in shown for name, line in PROVIDER_LINES.items())


FOREIGN = {
    "timeout": "deadline=",
    "max_retries": "retry=Retry(",
    "response_format": "output=",
    "max_completion_tokens": "max_tokens=",
    "max_output_tokens": "max_tokens=",
    "model": "providers=",
    "stream": "stream()",
    "temprature": "temperature=",
    "prompt": "the first argument",
    "metadata": "extra={wire: fields}",
    "max_token": "max_tokens=",
    "Deadline": "deadline=",
}


@pytest.mark.parametrize(("name", "meant"), FOREIGN.items())
def test_a_foreign_or_misspelled_option_is_answered_with_the_one_that_is_meant(name: str, meant: str) -> None:
    client: Any = ResilientClient([Function(lambda request: "hi", id="f")])
    for call in (client.chat, client.stream, client.explain):
        with pytest.raises(InvalidRequest) as caught:
            call("hi", **{name: 3})
        assert f"did you mean {meant}" in str(caught.value)
        assert repr(name) in str(caught.value)


def test_a_foreign_setting_is_answered_with_the_one_that_is_meant() -> None:
    make: Any = ResilientClient
    for name, meant in {"timeout": "deadline=", "max_retries": "retry=Retry(", "braker": "breaker="}.items():
        with pytest.raises(ConfigurationError, match=f"did you mean {meant}".replace("(", r"\(")):
            make([Function(lambda request: "hi", id="f")], **{name: 3})


def test_a_foreign_option_of_a_provider_is_answered_with_the_one_that_is_meant() -> None:
    make: Any = OpenAI
    foreign = {"timeout": "deadline= of the client", "rpm": "requests_per_minute=", "wieght": "weight="}
    for name, meant in foreign.items():
        with pytest.raises(ConfigurationError, match=f"did you mean {meant}"):
            make("m", api_key="k", **{name: 3})


def test_a_name_like_no_other_is_answered_with_all_there_are() -> None:
    client: Any = ResilientClient([Function(lambda request: "hi", id="f")])
    with pytest.raises(InvalidRequest, match="there are allow_empty, conversation, deadline"):
        client.chat("hi", zzzzzz=1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("when_down", "never"),
        ("when_down", None),
        ("idempotency_key", ""),
        ("idempotency_key", "a\nb"),
        ("idempotency_key", 3),
        ("idempotency_key", "x" * 256),
        ("idempotent", "no"),
        ("allow_empty", 1),
    ],
)
def test_a_value_that_no_option_takes_is_refused(name: str, value: Any) -> None:
    client: Any = ResilientClient([Function(lambda request: "hi", id="f")])
    with pytest.raises(InvalidRequest, match=name):
        client.chat("hi", **{name: value})
