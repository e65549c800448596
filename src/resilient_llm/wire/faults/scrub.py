"""Text that may be shown: short, on one line, and without anything like a credential."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from itertools import islice
from urllib.parse import quote, quote_plus

from resilient_llm.errors import Fault

MASK = "***"
_SHORTEST = 6  # characters of a secret that can be looked for
_UNQUOTED = re.compile(r"[A-Za-z0-9_.~-]+")  # what a URL holds as it is
_LONGEST = 20_000  # characters looked at; what is shown comes from their front

_SECRET_CHARS = r"[A-Za-z0-9_\-.~+/=*%]"
_PREFIXES = (
    r"sk-|sk_|rk_|pk-|pk_|rk-|xai-|gsk_|hf_|nvapi-|pplx-|fw_|r8_|tgp_v1_|glpat-|gh[pousr]_|github_pat_|xox[a-z]-"
    r"|AIza|AQ\.|ya29\.|ABSK|eyJ|bedrock-api-key-|sess-"
)


@cache  # compiled with the first text to be shown, not with the import
def _rules() -> tuple[tuple[re.Pattern[str], str], ...]:
    named = (
        r"""(?P<name>\b(?:[\w-]{0,40}(?:api[_-]?key|apikey|secret|passw(?:or)?d|credential|authorization|signature|auth[_-]?token"""
        r"""|access[_-]?token|session[_-]?token|security[_-]?token)[\w-]{0,40}|key|token|sig|X-Amz-[\w-]{1,40})["']?\s*[=:]\s*["']?)"""
        rf"""(?!\s)(?:(?:Bearer|Basic)\s+)?{_SECRET_CHARS}{{4,}}"""
    )
    return (
        (re.compile(named, re.IGNORECASE), rf"\g<name>{MASK}"),
        (re.compile(rf"(?<![A-Za-z0-9])(?P<name>(?i:bearer|basic)\s+){_SECRET_CHARS}{{6,}}"), rf"\g<name>{MASK}"),
        (re.compile(rf"(?<![A-Za-z0-9])(?:{_PREFIXES}){_SECRET_CHARS}{{3,}}"), MASK),
        # Glued to other letters ("risk-free" is no key), only with digits in it.
        (re.compile(rf"(?:{_PREFIXES})(?=[A-Za-z_\-]{{0,60}}[0-9]){_SECRET_CHARS}{{16,}}"), MASK),
        (re.compile(r"A(?:KIA|SIA|ROA|IDA)[A-Z0-9*]{8,}"), MASK),
        (re.compile(r"(?P<name>[a-z][a-z0-9+.-]{1,15}://)[^\s/@]{1,300}@", re.IGNORECASE), rf"\g<name>{MASK}@"),
    )


_RUN = re.compile(r"[A-Za-z0-9+/]{32,}={0,2}")


def scrub(text: str, limit: int = 200) -> str:
    """The text on one line, at most ``limit`` characters, with everything that looks like a credential masked.

    Masks named values (``key=...``, ``Authorization: ...``), known prefixes (``sk-``, ``AIza``, ``Bearer``...), user
    info in URLs, and any run of 32 or more letters and digits that has both: rather one request id too many than a key.
    """
    if not text or limit <= 0:
        return ""
    shown = " ".join("".join(c if c.isprintable() else " " for c in islice(text, _LONGEST)).split())
    for pattern, replacement in _rules():
        shown = pattern.sub(replacement, shown)
    shown = _RUN.sub(_mask_random, shown)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def without_secret(fault: Fault, *secrets: str | None) -> Fault:
    """The fault without secrets that are known, which no pattern need recognise: self-hosted gateways echo keys of any
    shape.  ``None`` and secrets of fewer than 6 characters are ignored, since they would be found in ordinary words."""
    for secret in _known(secrets):
        message, code = _replaced(fault.message, secret) or "", _replaced(fault.code, secret)
        request_id = _replaced(fault.request_id, secret)
        if (message, code, request_id) != (fault.message, fault.code, fault.request_id):
            fault = replace(fault, message=message, code=code, request_id=request_id)
    return fault


def masked(text: str, *secrets: str | None) -> str:
    """A text without secrets that are known."""
    for secret in _known(secrets):
        text = _replaced(text, secret) or ""
    return text


def contains_secret(text: str, *secrets: str | None) -> bool:
    """Whether a text holds one of these secrets, as it is or quoted for a URL."""
    return masked(text, *secrets) != text


def _known(secrets: tuple[str | None, ...]) -> list[str]:
    """Those that can be looked for, the longest first: one may be part of another."""
    return sorted({one for one in secrets if one and len(one) >= _SHORTEST}, key=len, reverse=True)


def _replaced(text: str | None, secret: str) -> str | None:
    if not text or (len(text) < len(secret) and "…" not in text):  # no form of it is shorter than itself
        return text
    plain = _UNQUOTED.fullmatch(secret) is not None
    for form in (secret,) if plain else {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}:
        text = text.replace(form, MASK)
        if text.endswith("…"):  # it may have been cut off within the secret
            cut = (n for n in range(len(form) - 1, _SHORTEST - 1, -1) if text.endswith(f"{form[:n]}…"))
            text = text[: -length - 1] + f"{MASK}…" if (length := next(cut, 0)) else text
    return text


def _mask_random(match: re.Match[str]) -> str:
    """Long words and resource paths stay: a key mixes digits in, and one with slashes (AWS) mixes cases as well."""
    run = match[0]
    mixed = any(c.isdigit() for c in run) and any(c.isalpha() for c in run)
    if "/" in run:
        mixed = mixed and run.count("/") < 4 and run.lower() != run != run.upper()
    return MASK if mixed else run
