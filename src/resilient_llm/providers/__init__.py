"""Whom a client can ask: one object per vendor, endpoint, credential and model.  List order is preference.

Each is imported when it is first asked for: nobody pays for vendors they do not use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.providers.anthropic import Anthropic, AnthropicFoundry
    from resilient_llm.providers.base import HttpProvider, ProviderOptions
    from resilient_llm.providers.bedrock import Bedrock
    from resilient_llm.providers.cohere import Cohere
    from resilient_llm.providers.credentials import ApiKey
    from resilient_llm.providers.custom import AsyncProvider, Function, Provider
    from resilient_llm.providers.gemini import Gemini
    from resilient_llm.providers.keys import Key
    from resilient_llm.providers.ollama import Ollama
    from resilient_llm.providers.openai import (
        TGI,
        VLLM,
        XAI,
        AzureOpenAI,
        CloudflareWorkersAI,
        DeepSeek,
        Fireworks,
        Groq,
        HolySheep,
        HuggingFace,
        LiteLLMProxy,
        LlamaCpp,
        Mistral,
        NvidiaNIM,
        OllamaChat,
        OpenAI,
        OpenAICompatible,
        OpenRouter,
        Perplexity,
        Together,
    )
    from resilient_llm.providers.responses import AzureOpenAIResponses, OpenAIResponses
    from resilient_llm.providers.vertex import Vertex

__all__ = [
    "TGI",
    "VLLM",
    "XAI",
    "Anthropic",
    "AnthropicFoundry",
    "ApiKey",
    "AsyncProvider",
    "AzureOpenAI",
    "AzureOpenAIResponses",
    "Bedrock",
    "CloudflareWorkersAI",
    "Cohere",
    "DeepSeek",
    "Fireworks",
    "Function",
    "Gemini",
    "Groq",
    "HolySheep",
    "HttpProvider",
    "HuggingFace",
    "Key",
    "LiteLLMProxy",
    "LlamaCpp",
    "Mistral",
    "NvidiaNIM",
    "Ollama",
    "OllamaChat",
    "OpenAI",
    "OpenAICompatible",
    "OpenAIResponses",
    "OpenRouter",
    "Perplexity",
    "Provider",
    "ProviderOptions",
    "Together",
    "Vertex",
]

_HOMES = {
    "anthropic": (
        "Anthropic",
        "AnthropicFoundry",
    ),
    "base": (
        "HttpProvider",
        "ProviderOptions",
    ),
    "bedrock": ("Bedrock",),
    "cohere": ("Cohere",),
    "credentials": ("ApiKey",),
    "custom": (
        "AsyncProvider",
        "Function",
        "Provider",
    ),
    "gemini": ("Gemini",),
    "keys": ("Key",),
    "ollama": ("Ollama",),
    "openai": (
        "TGI",
        "VLLM",
        "XAI",
        "AzureOpenAI",
        "CloudflareWorkersAI",
        "DeepSeek",
        "Fireworks",
        "Groq",
        "HolySheep",
        "HuggingFace",
        "LiteLLMProxy",
        "LlamaCpp",
        "Mistral",
        "NvidiaNIM",
        "OllamaChat",
        "OpenAI",
        "OpenAICompatible",
        "OpenRouter",
        "Perplexity",
        "Together",
    ),
    "responses": (
        "AzureOpenAIResponses",
        "OpenAIResponses",
    ),
    "vertex": ("Vertex",),
}
"""Module -> the names it is the home of."""


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
