"""OpenAI, Azure OpenAI, and the vendors and servers that speak OpenAI's Chat Completions.

Each vendor is a row: where it is, which environment variable holds its key, whose error dialect it speaks, how its
requests differ.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import ClassVar, Unpack
from urllib.parse import quote

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, EmbedRequest, Extra
from resilient_llm.providers.base import HttpProvider, ProviderOptions, provider_keywords
from resilient_llm.providers.credentials import ApiKey
from resilient_llm.wire.openai_chat import CODEC, Dialect, codec_for
from resilient_llm.wire.protocol import Codec, HttpRequest

_OLD_FIELD = "max_tokens"
_OPENAIS = Dialect(cache_key=True)
"""OpenAI's own dialect."""
OF_DEPLOYMENTS = frozenset(
    {
        *("/chat/completions", "/completions", "/embeddings", "/images/generations", "/images/edits"),
        *("/audio/transcriptions", "/audio/translations", "/audio/speech"),
    }
)
"""What Azure's dated API has below the name of a deployment.  All else is below none."""


class OpenAICompatible(HttpProvider):
    """Any server that speaks Chat Completions: give ``base_url`` (with ``/v1`` if it has one), and ``api_key`` if it
    wants one."""

    key_required = False
    dialect: ClassVar[Dialect | None] = Dialect(allowed_tools=False, max_tokens_field=_OLD_FIELD, developer_role=False)
    """``None``: OpenAI's own."""

    def make_codec(self) -> Codec:
        return CODEC if self.dialect is None else codec_for(self.dialect)

    def forwards(self, request: ChatRequest | EmbedRequest) -> bool:
        return self.dialect in (None, _OPENAIS) and super().forwards(request)

    def encode(self, request: ChatRequest) -> HttpRequest:
        """A body that came in on this wire was written for OpenAI: for others it is written anew, in their dialect."""
        if request.source is not None and self.dialect not in (None, _OPENAIS):
            request = replace(request, source=None)
        return super().encode(request)


class OpenAI(OpenAICompatible):
    """OpenAI's Chat Completions.  Key: ``OPENAI_API_KEY``; another base URL: ``OPENAI_BASE_URL``."""

    vendor = "openai"
    url: ClassVar[str | None] = "https://api.openai.com/v1"
    url_variables: ClassVar[tuple[str, ...]] = ("OPENAI_BASE_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    key_required = True
    idempotency_header: ClassVar[str | None] = "idempotency-key"
    request_id_header: ClassVar[str | None] = "x-client-request-id"
    dialect: ClassVar[Dialect | None] = _OPENAIS


class AzureOpenAI(OpenAICompatible):
    """A deployment at Azure.  ``model`` is the deployment's name, ``base_url`` the resource's endpoint
    (``https://NAME.openai.azure.com``; default ``AZURE_OPENAI_ENDPOINT``).

    Key: ``api_key`` or ``AZURE_OPENAI_API_KEY``, sent as ``api-key``; or ``token``, a callable that returns a
    Microsoft Entra ID token, sent as bearer.  Without ``api_version`` the v1 API is used, with it the dated one.
    """

    vendor = "azure_openai"
    url_variables: ClassVar[tuple[str, ...]] = ("AZURE_OPENAI_ENDPOINT",)
    key_variables: ClassVar[tuple[str, ...]] = ("AZURE_OPENAI_API_KEY", "AZURE_API_KEY")
    key_required = True
    model_in_path: ClassVar[bool] = True
    model_has_slashes: ClassVar[bool] = False
    names_model: ClassVar[bool] = False
    dialect: ClassVar[Dialect | None] = _OPENAIS

    @provider_keywords
    def __init__(
        self,
        model: str,
        *,
        api_version: str | None = None,
        token: ApiKey | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        if token is not None:
            if options.get("api_key") is not None:
                raise ConfigurationError("AzureOpenAI takes api_key= or token=, not both")
            options["api_key"] = token
        self._bearer = token is not None
        self._version = api_version
        super().__init__(model, **options)

    def auth_headers(self, key: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {key}"),) if self._bearer else (("api-key", key),)

    @property
    def dated(self) -> bool:
        """Whether it is asked over the dated API, where paths name deployments."""
        return self._version is not None

    def address(self, path: str) -> str:
        base = self.base_url.removesuffix("/v1").removesuffix("/openai")
        if self._version is None:
            return f"{base}/openai/v1{path}"
        below = f"/deployments/{quote(self.model, safe='')}" if path in OF_DEPLOYMENTS else ""
        return f"{base}/openai{below}{path}{'&' if '?' in path else '?'}api-version={quote(self._version)}"


class Mistral(OpenAICompatible):
    """Mistral's own platform.  Key: ``MISTRAL_API_KEY``."""

    vendor = "mistral"
    url: ClassVar[str | None] = "https://api.mistral.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("MISTRAL_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False,
        vendor="mistral",
        max_tokens_field=_OLD_FIELD,
        seed_field="random_seed",
        developer_role=False,
        stream_usage=False,
        media=frozenset({"document_url"}),
        cache_key=True,
        tool_id_length=9,
    )
    source_wire: ClassVar[str] = "mistral_chat"
    """What the bodies are marked with that were written for Mistral: OpenAI's wire, but nobody else takes them."""

    def understands(self, request: ChatRequest) -> bool:
        return request.source is not None and request.source.wire == self.source_wire

    def forwards(self, request: ChatRequest | EmbedRequest) -> bool:
        return isinstance(request, ChatRequest) and self.understands(request)

    def encode(self, request: ChatRequest) -> HttpRequest:
        if request.source is None or not self.understands(request):
            return super().encode(request)
        return self.codec.encode_request(replace(request, source=Extra(self.wire, request.source.fields)))


class Groq(OpenAICompatible):
    """Groq.  Key: ``GROQ_API_KEY``."""

    vendor = "groq"
    url: ClassVar[str | None] = "https://api.groq.com/openai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("GROQ_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(allowed_tools=False, vendor="groq", reasoning_field="reasoning")


class Together(OpenAICompatible):
    """Together AI.  Key: ``TOGETHER_API_KEY``."""

    vendor = "together"
    url: ClassVar[str | None] = "https://api.together.xyz/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("TOGETHER_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="together", max_tokens_field=_OLD_FIELD, developer_role=False, top_k=True
    )


class Fireworks(OpenAICompatible):
    """Fireworks AI.  Key: ``FIREWORKS_API_KEY``."""

    vendor = "fireworks"
    url: ClassVar[str | None] = "https://api.fireworks.ai/inference/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("FIREWORKS_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="fireworks", max_tokens_field=_OLD_FIELD, developer_role=False, top_k=True
    )
    cache_key_header: ClassVar[str | None] = "x-session-affinity"


class DeepSeek(OpenAICompatible):
    """DeepSeek.  Key: ``DEEPSEEK_API_KEY``."""

    vendor = "deepseek"
    url: ClassVar[str | None] = "https://api.deepseek.com"
    key_variables: ClassVar[tuple[str, ...]] = ("DEEPSEEK_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False,
        vendor="deepseek",
        max_tokens_field=_OLD_FIELD,
        developer_role=False,
        wants_reasoning=True,
    )


class XAI(OpenAICompatible):
    """xAI.  Key: ``XAI_API_KEY``."""

    vendor = "xai"
    url: ClassVar[str | None] = "https://api.x.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("XAI_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(allowed_tools=False, vendor="xai", developer_role=False)
    cache_key_header: ClassVar[str | None] = "x-grok-conv-id"


class Perplexity(OpenAICompatible):
    """Perplexity's Sonar.  Key: ``PERPLEXITY_API_KEY`` or ``PPLX_API_KEY``."""

    vendor = "perplexity"
    url: ClassVar[str | None] = "https://api.perplexity.ai"
    key_variables: ClassVar[tuple[str, ...]] = ("PERPLEXITY_API_KEY", "PPLX_API_KEY")
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="perplexity", max_tokens_field=_OLD_FIELD, developer_role=False, stream_usage=False
    )


class OpenRouter(OpenAICompatible):
    """OpenRouter.  Key: ``OPENROUTER_API_KEY``."""

    vendor = "openrouter"
    url: ClassVar[str | None] = "https://openrouter.ai/api/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("OPENROUTER_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False,
        vendor="openrouter",
        max_tokens_field=_OLD_FIELD,
        reasoning_field="reasoning",
        reasoning_object=True,
        top_k=True,
        cache_marks=True,
        media=frozenset({"video_url", "file_url"}),
    )
    cache_key_header: ClassVar[str | None] = "x-session-id"


class HuggingFace(OpenAICompatible):
    """Hugging Face's router.  Key: ``HF_TOKEN``."""

    vendor = "hf_inference"
    url: ClassVar[str | None] = "https://router.huggingface.co/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("HF_TOKEN", "HUGGINGFACE_API_KEY")
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="hf_inference", max_tokens_field=_OLD_FIELD, developer_role=False
    )


class NvidiaNIM(OpenAICompatible):
    """NVIDIA NIM, hosted or your own (``base_url``).  Key: ``NVIDIA_API_KEY``; needed for the hosted one."""

    vendor = "nvidia_nim"
    url: ClassVar[str | None] = "https://integrate.api.nvidia.com/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("NVIDIA_API_KEY", "NVIDIA_NIM_API_KEY")
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="nvidia_nim", max_tokens_field=_OLD_FIELD, developer_role=False
    )


class CloudflareWorkersAI(OpenAICompatible):
    """Cloudflare Workers AI.  Key: ``CLOUDFLARE_API_TOKEN``.  ``account_id`` (default ``CLOUDFLARE_ACCOUNT_ID``) is
    part of the URL, unless ``base_url`` says where it is."""

    vendor = "cloudflare_workers_ai"
    account_url: ClassVar[str] = "https://api.cloudflare.com/client/v4/accounts/{account_id}/ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_KEY")
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="cloudflare_workers_ai", max_tokens_field=_OLD_FIELD, developer_role=False
    )
    cache_key_header: ClassVar[str | None] = "x-session-affinity"

    @provider_keywords
    def __init__(self, model: str, *, account_id: str | None = None, **options: Unpack[ProviderOptions]) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        account_id = account_id or os.environ.get("CLOUDFLARE_ACCOUNT_ID")
        if not options.get("base_url"):
            if not account_id or not (account_id.isascii() and account_id.isalnum()):
                wanted = "account_id= (or CLOUDFLARE_ACCOUNT_ID), or base_url="
                raise ConfigurationError(f"CloudflareWorkersAI needs {wanted}; the id given is {account_id!r}")
            options["base_url"] = self.account_url.format(account_id=account_id)
        super().__init__(model, **options)


class HolySheep(OpenAICompatible):
    """HolySheep.  Key: ``HOLYSHEEP_API_KEY``."""

    vendor = "holysheep"
    url: ClassVar[str | None] = "https://api.holysheep.ai/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("HOLYSHEEP_API_KEY",)
    key_required = True
    dialect: ClassVar[Dialect | None] = Dialect(allowed_tools=False, vendor="holysheep", max_tokens_field=_OLD_FIELD)


class OllamaChat(OpenAICompatible):
    """Ollama through its OpenAI-compatible API, on this machine unless ``base_url`` or ``OLLAMA_BASE_URL`` says
    otherwise."""

    vendor = "ollama"
    url: ClassVar[str | None] = "http://localhost:11434/v1"
    url_variables: ClassVar[tuple[str, ...]] = ("OLLAMA_BASE_URL",)
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="ollama", max_tokens_field=_OLD_FIELD, developer_role=False
    )


class VLLM(OpenAICompatible):
    """A vLLM server, on this machine unless ``base_url`` says otherwise.  Key: ``VLLM_API_KEY``, if it wants one."""

    vendor = "vllm"
    url: ClassVar[str | None] = "http://localhost:8000/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("VLLM_API_KEY",)
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False,
        vendor="vllm",
        max_tokens_field=_OLD_FIELD,
        developer_role=False,
        top_k=True,
        media=frozenset({"audio_url", "video_url"}),
    )


class LlamaCpp(OpenAICompatible):
    """llama.cpp's server, on this machine unless ``base_url`` says otherwise.  Key: ``LLAMA_API_KEY``, if it wants
    one."""

    vendor = "llama_cpp"
    url: ClassVar[str | None] = "http://localhost:8080/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("LLAMA_API_KEY",)
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="llama_cpp", max_tokens_field=_OLD_FIELD, developer_role=False, top_k=True
    )


class TGI(OpenAICompatible):
    """Hugging Face's text-generation-inference, on this machine unless ``base_url`` says otherwise."""

    vendor = "hf_tgi"
    url: ClassVar[str | None] = "http://localhost:8080/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("HF_TOKEN",)
    dialect: ClassVar[Dialect | None] = Dialect(
        allowed_tools=False, vendor="hf_tgi", max_tokens_field=_OLD_FIELD, developer_role=False
    )


class LiteLLMProxy(OpenAICompatible):
    """A LiteLLM proxy, on this machine unless ``base_url`` says otherwise.  Key: ``LITELLM_API_KEY``, if it wants
    one."""

    vendor = "openai_compatible_gateway"
    url: ClassVar[str | None] = "http://localhost:4000/v1"
    key_variables: ClassVar[tuple[str, ...]] = ("LITELLM_API_KEY",)
    dialect: ClassVar[Dialect | None] = Dialect(allowed_tools=False, vendor="litellm", max_tokens_field=_OLD_FIELD)
