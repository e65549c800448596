"""Settings as users write them; checked by type checkers alone."""

from __future__ import annotations

from typing import assert_type

import resilient_llm
from resilient_llm import AsyncResilientClient, ResilientClient
from resilient_llm.operate.secrets import Secret, secret
from resilient_llm.operate.settings import Settings, SettingsError, load, read, reload, settings_of
from resilient_llm.policy import Retry
from resilient_llm.providers import OpenAI


class Own(ResilientClient):
    """A client of the user's."""


def loading() -> None:
    assert_type(resilient_llm.load("resilient.toml"), ResilientClient)
    assert_type(load(), ResilientClient)
    assert_type(load({"providers": ["openai/gpt-5.2"]}, deadline=5, retry={"max_attempts": 2}), ResilientClient)
    assert_type(load("resilient.toml", client=AsyncResilientClient, retry=Retry()), AsyncResilientClient)
    assert_type(load("resilient.toml", client=Own, environment="production", reload="change"), Own)
    client = load("resilient.toml", reload="sighup", listeners=[print])
    assert_type(reload(client), tuple[str, ...])
    assert_type(settings_of(client), Settings)


def reading() -> None:
    try:
        assert_type(read("resilient.toml"), Settings)
    except SettingsError as error:
        for problem in error.problems:
            assert_type(problem.message, str)


def secrets() -> None:
    assert_type(secret("env:OPENAI_API_KEY"), Secret)
    OpenAI("gpt-5.2", api_key=secret("vault:kv/llm#openai", ttl=60))
