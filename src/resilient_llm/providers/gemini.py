"""Gemini at Google AI Studio."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from resilient_llm.model import ChatResponse, Extra
from resilient_llm.providers.base import HttpProvider
from resilient_llm.wire.gemini.answer import rest_of


class Gemini(HttpProvider):
    """Google's Gemini API.  Key: ``GEMINI_API_KEY`` or ``GOOGLE_API_KEY``, sent as ``x-goog-api-key``.

    Another base URL: ``GOOGLE_GEMINI_BASE_URL``; one without a path gets ``/v1beta``, where new features arrive first.
    """

    vendor = "gemini"
    wire = "gemini"
    embed_wire = "gemini"
    url: ClassVar[str | None] = "https://generativelanguage.googleapis.com/v1beta"
    url_variables: ClassVar[tuple[str, ...]] = ("GOOGLE_GEMINI_BASE_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    model_in_path: ClassVar[bool] = True

    def auth_headers(self, key: str) -> tuple[tuple[str, str], ...]:
        return (("x-goog-api-key", key),)

    def rest_of(self, response: ChatResponse) -> Extra | None:
        return rest_of(response)

    def address(self, path: str) -> str:
        version = "" if urlsplit(self.base_url).path else "/v1beta"
        return f"{self.base_url}{version}{path}"
