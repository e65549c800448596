"""Gemini and Claude on Google Cloud's Vertex AI."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import ClassVar, Final, Unpack
from urllib.parse import quote

from resilient_llm.errors import ConfigurationError
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, Extra
from resilient_llm.providers.base import HttpProvider, ProviderOptions, provider_keywords
from resilient_llm.providers.credentials import ApiKey
from resilient_llm.wire.gemini.answer import rest_of
from resilient_llm.wire.protocol import HttpRequest

_CLAUDE_VERSION: Final = "vertex-2023-10-16"
"""What stands in the body instead of the ``anthropic-version`` header and the model."""

_MULTI_REGIONS = frozenset({"us", "eu"})


class Vertex(HttpProvider):
    """A model on Vertex AI: Gemini (``gemini-...``) or Claude (``claude-...``), each on its own wire; and embeddings
    (``gemini-embedding-001``, ``text-embedding-005``).

    ``token`` is an OAuth access token or, because those live an hour, a callable that returns the current one.
    ``project`` defaults to ``GOOGLE_CLOUD_PROJECT``, ``location`` (a region, ``us``, ``eu`` or ``global``) to
    ``GOOGLE_CLOUD_LOCATION``, then ``global``.  ``base_url`` replaces the host that follows from the location; one
    without a path gets ``/v1``.
    """

    vendor = "vertex_ai"
    takes_query: ClassVar[bool] = False  # a request with a parameter that Google does not know is refused
    embed_wire = "vertex_predict"
    model_in_path: ClassVar[bool] = True

    @provider_keywords
    def __init__(
        self,
        model: str,
        *,
        token: ApiKey | None = None,
        project: str | None = None,
        location: str | None = None,
        **options: Unpack[ProviderOptions],
    ) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        if (token is None) == (options.get("api_key") is None):
            raise ConfigurationError("Vertex needs token=: an OAuth access token, or a callable that returns one")
        options["api_key"] = token if token is not None else options.get("api_key")
        self.project: str = _named("project", project or os.environ.get("GOOGLE_CLOUD_PROJECT"))
        self.location: str = _named("location", location or os.environ.get("GOOGLE_CLOUD_LOCATION") or "global")
        self._claude = "claude" in model if isinstance(model, str) else False
        self.wire = "anthropic_messages" if self._claude else "gemini"
        base_url = options.get("base_url") or f"https://{host_of(self.location)}/v1"
        options["base_url"] = base_url if base_url.partition("://")[2].rstrip("/").count("/") else f"{base_url}/v1"
        super().__init__(model, **options)
        self.embeds: bool = "embedding" in model

    def encode_embed(self, request: EmbedRequest) -> HttpRequest:
        parts = super().encode_embed(request)
        return replace(parts, path=f"/publishers/google{parts.path}") if parts.path.startswith("/models/") else parts

    def rest_of(self, response: ChatResponse) -> Extra | None:
        return rest_of(response)

    def encode(self, request: ChatRequest) -> HttpRequest:
        parts = self.codec.encode_request(request)
        if not self._claude:
            # A tuned model is an endpoint of the project; all others are published by Google.
            publisher = "/publishers/google" if parts.path.startswith("/models/") else ""
            return replace(parts, path=publisher + parts.path)
        body = json.loads(parts.body)
        body.pop("model", None)
        body = {"anthropic_version": _CLAUDE_VERSION, **body}
        method = "streamRawPredict" if request.stream else "rawPredict"
        path = f"/publishers/anthropic/models/{quote(request.model, safe='@')}:{method}"
        content = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
        return HttpRequest(path, content, (), parts.degradations)

    def address(self, path: str) -> str:
        return f"{self.base_url}/projects/{self.project}/locations/{self.location}{path}"


def host_of(location: str) -> str:
    """Where a location is served: the world, two multi-regions and the regions each have their own kind of host."""
    if location == "global":
        return "aiplatform.googleapis.com"
    if location in _MULTI_REGIONS:
        return f"aiplatform.{location}.rep.googleapis.com"
    return f"{location}-aiplatform.googleapis.com"


def _named(what: str, value: str | None) -> str:
    if not value or not value.replace("-", "").replace(":", "").replace(".", "").isalnum():
        raise ConfigurationError(f"Vertex needs {what}= (or GOOGLE_CLOUD_{what.upper()}), not {value!r}")
    return value
