"""Base URLs: what may be given, to whom a key may be sent in the clear, and how a URL is shown.

A URL may hold secrets: gateways put tokens into paths.  What is shown of one has none in it.
"""

from __future__ import annotations

import re
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

from resilient_llm.errors import ConfigurationError

MASK = "***"
LEAST_SECRET = 8
"""Characters from which on a value of the user's may be a secret."""

_ENDPOINTS = (
    *("/chat/completions", "/completions", "/responses", "/embeddings", "/messages", "/messages/count_tokens"),
    *("/v1/chat", "/v2/chat", "/v1/embed", "/v2/embed", "/api/chat", "/api/generate", "/api/embed", "/api/embeddings"),
)
"""Paths that a wire adds to the base URL itself, the longest of those with the same end first."""
_METHODS = ("converse", "converse-stream", "invoke", "invoke-with-response-stream")
_HARMLESS = frozenset(
    {
        "accounts",
        "anthropic",
        "compatible",
        "compatible-mode",
        "completions",
        "converse",
        "deployments",
        "embeddings",
        "endpoints",
        "inference",
        "locations",
        "messages",
        "projects",
        "publishers",
        "responses",
        "services",
        "workspaces",
    }
)
"""Words of vendors' paths that are long enough to be taken for a secret."""
_HOST = r"[A-Za-z0-9](?:[A-Za-z0-9.-]{0,100}\.[A-Za-z]{2,10}|ocalhost)(?::\d{1,5})?"
_PRIVATE_SUFFIXES = (".local", ".internal", ".localhost")


class BaseUrl(str):
    """A base URL whose repr hides what may be secret in its path."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(shown(str(self)))


def checked(url: object) -> BaseUrl:
    """A base URL without a slash at its end.  Raises ``ConfigurationError``, which shows no secret in it."""
    parts = _split(url)
    if parts is None or not isinstance(url, str):
        like_a_host = isinstance(url, str) and re.fullmatch(_HOST, url)
        told = f", not {url!r}" if like_a_host else f"; the one given is {_kind(url)}"
        raise ConfigurationError(f"base_url must start with http:// or https:// and name a host{told}")
    path = parts.path.rstrip("/")
    found = _endpoint_of(path)
    if found:
        right = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path.removesuffix(found)}"
        raise ConfigurationError(
            f"base_url ends in the path of an endpoint, {found}, which is added by itself; give "
            f"base_url={shown(right)!r}"
        )
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError("base_url must hold no user name, query or fragment")
    return BaseUrl(url.rstrip("/"))


def shown(url: str) -> str:
    """A URL as it may be shown: without user name and query, and without what may be a secret in its path."""
    parts = _split(url)
    if parts is None:
        return MASK
    path = "/".join(MASK if _may_be_secret(segment) else segment for segment in parts.path.split("/"))
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{path}"


def secrets_in(url: str) -> tuple[str, ...]:
    """The parts of a URL's path that may be secrets."""
    parts = _split(url)
    return () if parts is None else tuple(one for one in parts.path.split("/") if _may_be_secret(one))


def clear_text_is_safe(host: str | None) -> bool:
    """Whether a key may be sent to this host over plain ``http://``: loopback, private and link-local addresses, names
    of one label, and names that exist in private networks only."""
    name = (host or "").rstrip(".").lower()
    try:
        return not ip_address(name.partition("%")[0]).is_global
    except ValueError:
        return "." not in name or name.endswith(_PRIVATE_SUFFIXES)


def _endpoint_of(path: str) -> str:
    """The endpoint a path ends in; empty if in none."""
    found = next((one for one in _ENDPOINTS if path.endswith(one)), "")
    if found:
        return found
    above, _, last = path.rpartition("/")
    if ":" in last and above.endswith("/models"):  # Gemini's
        return f"/models/{last}"
    above, _, model = above.rpartition("/")
    return f"/model/{model}/{last}" if last in _METHODS and above.endswith("/model") else ""  # Bedrock's


def _may_be_secret(segment: str) -> bool:
    return len(segment) >= LEAST_SECRET and segment.lower() not in _HARMLESS


def _split(url: object) -> SplitResult | None:
    """The parts of a URL, ``None`` if it is none: a bracket left open, a port that is no number..."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        usable = parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _kind(url: object) -> str:
    if not isinstance(url, str):
        return f"a {type(url).__name__}"
    return "a URL of another scheme" if "://" in url and not url.startswith("http") else "no such URL"
