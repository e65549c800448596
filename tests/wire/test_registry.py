"""Codecs by name."""

from __future__ import annotations

import subprocess
import sys

import pytest

from resilient_llm import wire
from resilient_llm.errors import ConfigurationError, InvalidRequest
from resilient_llm.wire import codec

NAMES = ("anthropic_messages", "bedrock_converse", "cohere_v2", "gemini", "ollama", "openai_chat", "openai_responses")


@pytest.mark.parametrize("name", NAMES)
def test_every_wire_has_a_codec_of_its_name(name: str) -> None:
    assert codec(name).name == name
    assert codec(name) is codec(name)


def test_an_unknown_name_is_told_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="'openai'.*" + ".*".join(NAMES)):
        codec("openai")


def test_codecs_are_imported_when_they_are_asked_for() -> None:
    program = (
        "import sys, resilient_llm.wire as wire\n"
        "loaded = {name for name in sys.modules if name.startswith('resilient_llm.wire.')}\n"
        "assert 'resilient_llm.wire.gemini' not in loaded, loaded\n"
        "wire.codec('ollama')\n"
        "import resilient_llm.wire.protocol\n"
        "assert wire.codec('ollama').name == 'ollama'\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize("name", ["bedrock_converse", "ollama"])
def test_a_request_of_a_wire_that_no_mounted_sdk_speaks_is_refused_in_words(name: str) -> None:
    with pytest.raises(InvalidRequest, match="written here and not read"):
        codec(name).decode_request(b'{"model": "m", "messages": []}')


def test_what_is_not_there_is_missed_in_the_usual_words() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = wire.nothing
