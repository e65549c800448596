"""Claude, at Anthropic and on Microsoft Foundry."""

from __future__ import annotations

import os
from typing import ClassVar, Literal, Unpack

from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.base import HttpProvider, ProviderOptions, provider_keywords
from resilient_llm.providers.credentials import ApiKey
from resilient_llm.wire import anthropic
from resilient_llm.wire.protocol import Codec

AnthropicVersion = Literal["2023-06-01", "2026-10-21"]
"""The API versions there are.  The first is understood by every platform that serves Claude."""


class Anthropic(HttpProvider):
    """Anthropic's Messages API.

    Key: ``ANTHROPIC_API_KEY``, sent as ``x-api-key``; or ``token`` (default ``ANTHROPIC_AUTH_TOKEN``), an OAuth or
    gateway token or a callable that returns one, sent as bearer.  Another base URL: ``ANTHROPIC_BASE_URL``, with or
    without ``/v1``.  ``version`` is the API version; beta features are asked for with
    ``headers={"anthropic-beta": ...}``.
    """

    vendor = "anthropic"
    wire = "anthropic_messages"
    url: ClassVar[str | None] = "https://api.anthropic.com"
    url_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_BASE_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_API_KEY",)
    counts_cached: ClassVar[bool] = False
    embeds = False
    token_variable: ClassVar[str | None] = "ANTHROPIC_AUTH_TOKEN"

    @provider_keywords
    def __init__(
        self,
        model: str,
        *,
        version: AnthropicVersion = "2023-06-01",
        token: ApiKey | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        if version not in ("2023-06-01", "2026-10-21"):
            raise ConfigurationError(f"version must be '2023-06-01' or '2026-10-21', not {version!r}")
        self._version: str = version
        self._bearer = choose_token(type(self), token, options, self.token_variable)
        super().__init__(model, **options)

    def make_codec(self) -> Codec:
        return anthropic.codec_for(self._version) if self._version != anthropic.VERSION else anthropic.CODEC

    def auth_headers(self, key: str) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {key}"),) if self._bearer else (("x-api-key", key),)

    def address(self, path: str) -> str:
        return self.base_url.removesuffix("/v1") + path


class AnthropicFoundry(Anthropic):
    """Claude on Microsoft Foundry.  ``model`` is the deployment's name, ``resource`` the resource's (default
    ``ANTHROPIC_FOUNDRY_RESOURCE``), unless ``base_url`` or ``ANTHROPIC_FOUNDRY_BASE_URL`` says where it is.

    Key: ``ANTHROPIC_FOUNDRY_API_KEY``; or ``token``, a callable that returns a Microsoft Entra ID token.
    """

    url: ClassVar[str | None] = None
    url_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_FOUNDRY_BASE_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("ANTHROPIC_FOUNDRY_API_KEY",)
    token_variable: ClassVar[str | None] = None
    names_model: ClassVar[bool] = False

    @provider_keywords
    def __init__(
        self,
        model: str,
        *,
        resource: str | None = None,
        version: AnthropicVersion = "2023-06-01",
        token: ApiKey | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        resource = resource or os.environ.get("ANTHROPIC_FOUNDRY_RESOURCE")
        if resource is not None and not options.get("base_url") and not os.environ.get(self.url_variables[0]):
            if not resource.replace("-", "").isalnum():
                raise ConfigurationError(f"resource must be the name of a Foundry resource, not {resource!r}")
            options["base_url"] = f"https://{resource}.services.ai.azure.com/anthropic"
        options["id"] = options.get("id") or f"anthropic_foundry/{model}"
        super().__init__(model, version=version, token=token, **options)


def choose_token(
    kind: type[HttpProvider], token: ApiKey | None, options: ProviderOptions, variable: str | None
) -> bool:
    """Whether the credential is a token to be sent as bearer; if so it becomes the ``api_key``.

    An API key, given or in the environment, goes before a token in the environment.  Raises ``ConfigurationError`` if
    both are given.
    """
    given = options.get("api_key")
    if token is not None and given is not None:
        raise ConfigurationError(f"{kind.__name__} takes api_key= or token=, not both")
    if token is None and given is None and not any(os.environ.get(name) for name in kind.key_variables):
        token = (os.environ.get(variable) if variable else None) or None
    if token is None:
        return False
    options["api_key"] = token
    return True
