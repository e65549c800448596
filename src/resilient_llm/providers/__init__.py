"""Whom a client can ask: one object per vendor, endpoint, credential and model.  List order is preference."""

from __future__ import annotations

from resilient_llm.providers.base import HttpProvider, ProviderOptions
from resilient_llm.providers.credentials import ApiKey
from resilient_llm.providers.custom import AsyncProvider, Function, Provider
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

__all__ = [
    "TGI",
    "VLLM",
    "XAI",
    "ApiKey",
    "AsyncProvider",
    "AzureOpenAI",
    "CloudflareWorkersAI",
    "DeepSeek",
    "Fireworks",
    "Function",
    "Groq",
    "HolySheep",
    "HttpProvider",
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
    "Provider",
    "ProviderOptions",
    "Together",
]
