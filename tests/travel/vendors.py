"""A provider of each wire, at a server of ours."""

from __future__ import annotations

from collections.abc import Callable

from resilient_llm.providers import (
    Anthropic,
    Bedrock,
    Cohere,
    Gemini,
    HttpProvider,
    Ollama,
    OpenAI,
    OpenAIResponses,
)
from tests.travel.probes import MODELS

MAKE: dict[str, Callable[[str, str], HttpProvider]] = {
    "openai_chat": lambda url, model: OpenAI(model, id="openai_chat", base_url=url + "/v1", api_key="key-a"),
    "openai_responses": lambda url, model: OpenAIResponses(
        model, id="openai_responses", base_url=url + "/v1", api_key="key-b"
    ),
    "anthropic_messages": lambda url, model: Anthropic(model, id="anthropic_messages", base_url=url, api_key="key-c"),
    "gemini": lambda url, model: Gemini(model, id="gemini", base_url=url, api_key="key-d"),
    "bedrock_converse": lambda url, model: Bedrock(
        model, id="bedrock_converse", base_url=url, api_key="key-e", region="eu-west-1"
    ),
    "cohere_v2": lambda url, model: Cohere(model, id="cohere_v2", base_url=url, api_key="key-f"),
    "ollama": lambda url, model: Ollama(model, id="ollama", base_url=url, api_key="key-g"),
}
"""Wire -> a provider of it, named after it, each with a key of its own."""


def provider(wire: str, url: str, model: str | None = None) -> HttpProvider:
    """The provider of this wire at ``url``."""
    return MAKE[wire](url, model or MODELS[wire])
