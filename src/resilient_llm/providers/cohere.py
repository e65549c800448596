"""Cohere's own API."""

from __future__ import annotations

from typing import ClassVar

from resilient_llm.providers.base import HttpProvider


class Cohere(HttpProvider):
    """Cohere, version 2 of its API.  Key: ``CO_API_KEY`` or ``COHERE_API_KEY``; another base URL: ``CO_API_URL``.

    Embeddings are asked for as ``input_type="search_document"``; queries say
    ``EmbedRequest(..., extra=(Extra("cohere_v2", {"input_type": "search_query"}),))`` or have their own provider with
    ``params={"input_type": "search_query"}``.
    """

    vendor = "cohere"
    wire = "cohere_v2"
    embed_wire = "cohere_v2"
    url: ClassVar[str | None] = "https://api.cohere.com"
    url_variables: ClassVar[tuple[str, ...]] = ("CO_API_URL",)
    key_variables: ClassVar[tuple[str, ...]] = ("CO_API_KEY", "COHERE_API_KEY")

    def address(self, path: str) -> str:
        return self.base_url.removesuffix("/v2").removesuffix("/v1") + path
