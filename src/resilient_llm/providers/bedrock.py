"""Amazon Bedrock: every model behind Converse, and Titan's embeddings."""

from __future__ import annotations

import os
from dataclasses import replace
from importlib import import_module
from typing import ClassVar, Protocol, Unpack

from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.base import HttpProvider, Prepared, ProviderOptions, provider_keywords

_SIGNED = frozenset({"content-type"})
"""Headers the signature covers besides the host and Amazon's own; a proxy may change any other."""


class Bedrock(HttpProvider):
    """Bedrock's Converse.

    Key: a Bedrock API key, ``api_key`` or ``AWS_BEARER_TOKEN_BEDROCK``.  Without one, requests are signed (SigV4) with
    the credentials botocore finds (``profile``: a named one), which needs the ``bedrock`` extra.  ``region`` defaults
    to ``AWS_REGION``, then ``AWS_DEFAULT_REGION``.  ``model`` is a model id, an inference profile or an ARN.
    """

    vendor = "bedrock"
    wire = "bedrock_converse"
    embed_wire = "bedrock_converse"
    url_variables: ClassVar[tuple[str, ...]] = ("AWS_ENDPOINT_URL_BEDROCK_RUNTIME",)
    key_variables: ClassVar[tuple[str, ...]] = ("AWS_BEARER_TOKEN_BEDROCK",)
    key_required = False
    model_in_path: ClassVar[bool] = True

    @provider_keywords
    def __init__(
        self,
        model: str,
        *,
        region: str | None = None,
        profile: str | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        self.region: str = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or ""
        if not self.region.replace("-", "").isalnum():
            raise ConfigurationError(f"Bedrock needs region= (or AWS_REGION), not {self.region!r}")
        if not options.get("base_url") and not os.environ.get(self.url_variables[0]):
            options["base_url"] = f"https://bedrock-runtime.{self.region}.amazonaws.com"
        super().__init__(model, **options)
        self.embeds: bool = "titan-embed" in model
        self._signer: Signer | None = None
        if not self.credential.account:
            self._signer = Signer(self.region, profile)
            self.account: str | None = options.get("account") or f"{self.host}/sigv4/{profile or ''}"
        elif profile is not None:
            raise ConfigurationError("Bedrock takes an API key or profile=, not both")

    def sign(self, prepared: Prepared) -> Prepared:
        return prepared if self._signer is None else self._signer.sign(prepared)


class _Credentials(Protocol):
    """What this needs of botocore, which has no types."""

    def get_frozen_credentials(self) -> object: ...


class _Session(Protocol):
    def get_credentials(self) -> _Credentials | None: ...


class Signer:
    """Signs requests with Signature Version 4, which is botocore's business.

    The credentials are looked up when the first request is signed, and refreshed when botocore finds them old; both
    may make it ask the machine's metadata service.  Whoever cannot have that on an event loop uses an API key.
    """

    def __init__(self, region: str, profile: str | None) -> None:
        try:
            session = import_module("botocore.session")
        except ImportError:
            raise ConfigurationError(
                "Bedrock needs an API key: set AWS_BEARER_TOKEN_BEDROCK or pass api_key=; "
                "or install resilient-llm[bedrock] to sign requests with AWS credentials"
            ) from None
        self._region = region
        self._session: _Session = session.Session(profile=profile)
        self._credentials: _Credentials | None = None

    def sign(self, prepared: Prepared) -> Prepared:
        """The request with its signature.  Raises ``ConfigurationError`` if there are no credentials."""
        if self._credentials is None:
            self._credentials = self._session.get_credentials()
        if self._credentials is None:
            raise ConfigurationError("Bedrock found no AWS credentials and no API key (AWS_BEARER_TOKEN_BEDROCK)")
        covered = {name: value for name, value in prepared.headers if name in _SIGNED}
        request = import_module("botocore.awsrequest").AWSRequest(
            method="POST", url=prepared.url, data=prepared.body, headers=covered
        )
        frozen = self._credentials.get_frozen_credentials()
        import_module("botocore.auth").SigV4Auth(frozen, "bedrock", self._region).add_auth(request)
        signed = {name.lower(): value for name, value in request.headers.items()}
        return replace(prepared, headers=tuple({**signed, **dict(prepared.headers)}.items()))

    def __repr__(self) -> str:
        return f"<Signer for {self._region}>"
