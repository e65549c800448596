"""OpenAI's Responses, there and on Azure."""

from __future__ import annotations

from typing import ClassVar, Unpack

from resilient_llm.providers.base import HttpProvider, ProviderOptions, provider_keywords
from resilient_llm.providers.credentials import ApiKey
from resilient_llm.providers.openai import AzureOpenAI
from resilient_llm.wire import codec
from resilient_llm.wire.protocol import Codec


class OpenAIResponses(HttpProvider):
    """OpenAI's Responses, for the models and features Chat Completions does not have.

    Key: ``OPENAI_API_KEY``; another base URL: ``OPENAI_BASE_URL``.  ``params={"store": False}`` keeps OpenAI from
    storing the answers.
    """

    vendor = "openai"
    wire = "openai_responses"
    url: ClassVar[str | None] = "https://api.openai.com/v1"
    url_variables: ClassVar[tuple[str, ...]] = ("OPENAI_BASE_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("OPENAI_API_KEY",)
    idempotency_header: ClassVar[str | None] = "idempotency-key"
    request_id_header: ClassVar[str | None] = "x-client-request-id"

    @provider_keywords
    def __init__(self, model: str, **options: Unpack[ProviderOptions]) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        options["id"] = options.get("id") or f"openai_responses/{model}"
        super().__init__(model, **options)


class AzureOpenAIResponses(AzureOpenAI):
    """Responses on Azure; everything else as :class:`~resilient_llm.providers.AzureOpenAI`."""

    wire = "openai_responses"

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
        options["id"] = options.get("id") or f"azure_openai_responses/{model}"
        super().__init__(model, api_version=api_version, token=token, **options)

    def make_codec(self) -> Codec:
        return codec(self.wire)
