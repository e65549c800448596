"""Ollama's own API; :class:`~resilient_llm.providers.OllamaChat` is the one compatible with OpenAI's."""

from __future__ import annotations

from typing import ClassVar
from urllib.parse import urlsplit

from resilient_llm.providers.base import HttpProvider


class Ollama(HttpProvider):
    """Ollama, on this machine unless ``base_url`` or ``OLLAMA_HOST`` (also without scheme or port) says otherwise.

    Key: ``OLLAMA_API_KEY``, which only Ollama's cloud wants.  ``params={"keep_alive": "10m"}`` and
    ``extra={"ollama": {"options": {"num_ctx": 8192}}}`` reach what the neutral request has no word for.
    """

    vendor = "ollama"
    wire = "ollama"
    embed_wire = "ollama"
    url: ClassVar[str | None] = "http://localhost:11434"
    url_variables: ClassVar[tuple[str, ...]] = ("OLLAMA_HOST",)
    key_variables: ClassVar[tuple[str, ...]] = ("OLLAMA_API_KEY",)
    key_required = False

    def _base_url(self, given: str | None) -> str:
        from os import environ  # noqa: PLC0415

        return super()._base_url(given or as_url(environ.get(self.url_variables[0], "")) or self.url)


def as_url(host: str) -> str:
    """``OLLAMA_HOST`` as a URL.  The server reads the same variable, where 0.0.0.0 means every interface; a client
    means this machine by it."""
    if not host.strip():
        return ""
    url = host.strip() if "://" in host else f"http://{host.strip()}"
    url = url.replace("//0.0.0.0", "//127.0.0.1", 1)
    bare = urlsplit(url)
    return url if bare.port or bare.scheme == "https" or bare.path.strip("/") else f"{url.rstrip('/')}:11434"
