"""Text that may be shown: short, on one line, and without anything like a credential."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import islice

from resilient_llm.wire.kit.fields import is_list, is_object

MASK = "***"
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
    shown = without_credentials(
        " ".join("".join(c if c.isprintable() else " " for c in islice(text, _LONGEST)).split())
    )
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def without_credentials(text: str) -> str:
    """The same as it is otherwise: of any length, with its line breaks."""
    for pattern, replacement in _rules():
        text = pattern.sub(replacement, text)
    return _RUN.sub(_mask_random, text)


def scrub_json(value: object, longest: int = 8_000) -> str | None:
    """An object as JSON text without credentials in its strings, nor in fields named like one.  ``None``: it is no
    object, no JSON, or longer than ``longest`` characters."""
    if not is_object(value):
        return None
    try:
        text = json.dumps(value, separators=(",", ":"))
        if len(text) > longest:
            return None
        told = "\n".join(_strings("", value))
        # One pass is a fourth of the work, and finds nothing in nearly every answer.
        return text if without_credentials(told) == told else json.dumps(_scrubbed("", value), separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        return None


def _strings(name: str, value: object) -> Iterator[str]:
    """Every string of an object, each with the name of its field, and every name."""
    yield f"{name}={value}" if isinstance(value, str) else name
    if is_object(value):
        for key, inner in value.items():
            yield from _strings(key, inner)
    elif is_list(value):
        for inner in value:
            yield from _strings(name, inner)


def _scrubbed(name: str, value: object) -> object:
    if is_object(value):
        return {without_credentials(key): _scrubbed(key, inner) for key, inner in value.items()}
    if is_list(value):
        return [_scrubbed(name, inner) for inner in value]
    if not isinstance(value, str):
        return value
    begins = f"{without_credentials(name)}="
    return without_credentials(f"{begins}{value}")[len(begins) :]


def _mask_random(match: re.Match[str]) -> str:
    """Long words and resource paths stay: a key mixes digits in, and one with slashes (AWS) mixes cases as well."""
    run = match[0]
    mixed = any(c.isdigit() for c in run) and any(c.isalpha() for c in run)
    if "/" in run:
        mixed = mixed and run.count("/") < 4 and run.lower() != run != run.upper()
    return MASK if mixed else run
