"""What of a user's headers and parameters may be secret, and containers that do not show it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

from resilient_llm.providers.endpoint import LEAST_SECRET

_HARMLESS = frozenset(
    {
        "accept",
        "accept-charset",
        "accept-encoding",
        "accept-language",
        "anthropic-beta",
        "anthropic-version",
        "cache-control",
        "connection",
        "content-encoding",
        "content-language",
        "content-type",
        "http-referer",
        "openai-beta",
        "referer",
        "user-agent",
        "x-title",
    }
)
"""Headers whose values are no secrets, and words in which would be missed in messages."""
_CREDENTIALS = r"authorization|cookie|api-?key|token|secret|passw|subscription-key|signature"
_PIECES = r"[\s;,=]+"


class Headers(tuple[tuple[str, str], ...]):
    """A user's headers, whose repr names them and no more."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<headers {', '.join(name for name, _ in self)}>"


class Fields(dict[str, object]):
    """A user's parameters, whose repr names them and no more."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<fields {', '.join(self)}>"


class Secrets(tuple[str, ...]):
    """What must not be shown, whose repr counts it and no more."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} secrets>"


def holds_credentials(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a credential is among headers given by the user, going by their names."""
    return any(re.search(_CREDENTIALS, name.lower()) is not None for name, _ in headers)


def secrets_in_headers(headers: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Every value that may be a secret, and its pieces: of ``Bearer TOKEN`` a server may echo the token alone."""
    found: dict[str, None] = {}
    for name, value in headers:
        if name.lower() not in _HARMLESS:
            for piece in (value, *re.split(_PIECES, value)):
                if len(piece) >= LEAST_SECRET:
                    found[piece] = None
    return tuple(found)


def secrets_in_fields(value: object) -> tuple[str, ...]:
    """Every text in these parameters that may be a secret."""
    if isinstance(value, str):
        return (value,) if len(value) >= LEAST_SECRET else ()
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = cast("Mapping[object, object]", value).values()
    elif isinstance(value, list | tuple):
        inner = cast("Iterable[object]", value)
    return tuple(secret for one in inner for secret in secrets_in_fields(one))
