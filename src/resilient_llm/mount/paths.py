"""What a request of an SDK is: whose SDK sent it, which wire it speaks, and whether it is a model call."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Sdk:
    """One vendor's SDK: the wires it speaks, and the vendors whose other endpoints (files, batches...) are its own."""

    name: str
    wires: tuple[str, ...]
    vendors: tuple[str, ...]


OPENAI = Sdk("openai", ("openai_chat", "openai_responses"), ("openai", "azure_openai"))
ANTHROPIC = Sdk("anthropic", ("anthropic_messages",), ("anthropic",))
GEMINI = Sdk("google-genai", ("gemini",), ("gemini", "google"))
MISTRAL = Sdk("mistralai", ("openai_chat",), ("mistral",))
COHERE = Sdk("cohere", ("cohere_v2",), ("cohere",))

_CALLS = (
    ("/chat/completions", "openai_chat"),
    ("/responses", "openai_responses"),
    ("/v1/messages", "anthropic_messages"),  # "/messages" alone would be OpenAI's threads as well
    (":generateContent", "gemini"),
    (":streamGenerateContent", "gemini"),
    ("/v2/chat", "cohere_v2"),
)
"""How the path of a model call ends, and its wire."""
_VERSION_AT = re.compile(r"/v\d+(?:alpha|beta)?\d*(?=/)")
_VERSION = re.compile(r"^.*?/v\d+(?:alpha|beta)?\d*(?=/)")


def wire_of(method: str, path: str) -> str | None:
    """The wire of a model call; ``None`` for any other request."""
    if method != "POST":
        return None
    return next((wire for end, wire in _CALLS if path.endswith(end)), None)


def sdk_of(headers: Mapping[str, str], path: str) -> Sdk:
    """Whose SDK a request comes from, by what only that one sends; OpenAI's if nothing tells."""
    agent = headers.get("user-agent", "").lower()
    if "anthropic-version" in headers:
        return ANTHROPIC
    if "x-goog-api-key" in headers or "google-genai" in agent or "generativelanguage" in headers.get("host", ""):
        return GEMINI
    if "mistral" in agent:
        return MISTRAL
    if "x-fern-language" in headers or "cohere" in agent or path.startswith("/v2/"):
        return COHERE
    return OPENAI


def below_version(path: str) -> str:
    """A path without what an SDK's own base URL put before it: ``/v1/files`` is ``/files``."""
    found = _VERSION.match(path)
    rest = path[found.end() :] if found else path
    return rest.removeprefix("/openai") if rest.startswith("/openai/") else rest


def before_version(address: str, segment: str) -> str:
    """A URL with another segment of its path before the version of the API; unchanged if it has none."""
    found = _VERSION_AT.search(address)
    return f"{address[: found.start()]}{segment}{address[found.start() :]}" if found else address
