"""What of a user's headers and parameters may be secret, containers that do not show it, and texts without it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import cast
from urllib.parse import quote, quote_plus

from resilient_llm.errors import Fault
from resilient_llm.providers.endpoint import LEAST_SECRET
from resilient_llm.wire.faults.scrub import MASK

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


_SHORTEST = 6  # characters of a secret that can be looked for
_UNQUOTED = re.compile(r"[A-Za-z0-9_.~-]+")  # what a URL holds as it is


def without_secret(fault: Fault, *secrets: str | None) -> Fault:
    """The fault without secrets that are known, which no pattern need recognise: self-hosted gateways echo keys of any
    shape.  ``None`` and secrets of fewer than 6 characters are ignored, since they would be found in ordinary words."""
    for secret in searchable(secrets):
        message, code = _replaced(fault.message, secret) or "", _replaced(fault.code, secret)
        request_id, body = _replaced(fault.request_id, secret), _replaced_in_json(fault.body, secret)
        if (message, code, request_id, body) != (fault.message, fault.code, fault.request_id, fault.body):
            fault = replace(fault, message=message, code=code, request_id=request_id, body=body)
    return fault


def masked(text: str, secrets: Iterable[str]) -> str:
    """A text without these secrets, which are :func:`searchable`."""
    for secret in secrets:
        text = _replaced(text, secret) or ""
    return text


def contains_secret(text: str, *secrets: str | None) -> bool:
    """Whether a text holds one of these secrets, as it is or quoted for a URL."""
    return masked(text, searchable(secrets)) != text


def searchable(secrets: tuple[str | None, ...]) -> list[str]:
    """Those that can be looked for, the longest first: one may be part of another."""
    known = [one for one in secrets if one and len(one) >= _SHORTEST]
    return sorted(set(known), key=len, reverse=True) if len(known) > 1 else known


def _replaced_in_json(text: str | None, secret: str) -> str | None:
    """The same for JSON; ``None`` if it is none afterwards, since the secret was a number, say."""
    replaced = _replaced(text, secret)
    if replaced is None or replaced == text:
        return text
    try:
        json.loads(replaced)
    except ValueError:
        return None
    return replaced


def _forms(secret: str) -> set[str]:
    """How it may be written: as it is, in a URL, or within JSON."""
    return {secret, quote(secret), quote(secret, safe=""), quote_plus(secret), json.dumps(secret)[1:-1]}


def _replaced(text: str | None, secret: str) -> str | None:
    if not text or (len(text) < len(secret) and "…" not in text):  # no form of it is shorter than itself
        return text
    plain = _UNQUOTED.fullmatch(secret) is not None
    for form in (secret,) if plain else _forms(secret):
        text = text.replace(form, MASK)
        if text.endswith("…"):  # it may have been cut off within the secret
            cut = (n for n in range(len(form) - 1, _SHORTEST - 1, -1) if text.endswith(f"{form[:n]}…"))
            text = text[: -length - 1] + f"{MASK}…" if (length := next(cut, 0)) else text
    return text
