"""Any error answer, of any shape, read into one small record.

Vendors wrap errors in objects, strings, lists, problem+json, HTML and JSON inside strings, and ``code`` may be a
number, digits, a word or a sentence.  :func:`read` walks whatever it is given along the few keys that hold codes, texts
and hints, with bounded depth and size, and never looks at what a request or a model said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from resilient_llm.wire.faults import times
from resilient_llm.wire.faults.ratelimit import EMPTY, RateLimits, parse_rate_limit
from resilient_llm.wire.kit.fields import is_list, is_object

_DEEPEST = 8
_NODES = 300
_LONGEST = 1 << 20  # characters of a body that are parsed
_TEXT = 2_000  # characters of text the rules look at

# Keys are compared without case, underscores and hyphens.
_CODES = frozenset({
    "code", "type", "errortype", "status", "errorcode", "errcode", "reason", "limitsource", "providercode", "title",
    "quotaid", "quotametric", "exceptiontype", "errortypename",
})  # fmt: skip
_TEXTS = frozenset({
    "message", "msg", "detail", "error", "errormessage", "errormsg", "errordescription", "faultstring", "title",
    "raw", "statusmsg", "reason", "code", "quotaid", "quotametric", "info", "body", "upstreamerror",
})  # fmt: skip
_STATUSES = frozenset({"code", "status", "statuscode", "httpstatuscode", "httpstatus", "rawstatuscode"})
_BRANCHES = frozenset({
    "error", "errors", "detail", "details", "fault", "metadata", "innererror", "cause", "response", "output",
    "message", "violations", "raw", "body", "msg", "baseresp", "exception", "info", "upstreamerror", "errordetails",
})  # fmt: skip
_NOISE = frozenset({"error", "object", "exception"})  # `"type": "error"` says nothing
_HINTS: Mapping[str, float] = {
    "retrydelay": 1.0, "retryafter": 1.0, "retryafterseconds": 1.0, "retryaftersec": 1.0, "retryafters": 1.0,
    "retryafterms": 1e-3, "estimatedtime": 1.0,
}  # fmt: skip
_CODE_HEADERS = ("x-amzn-errortype", ":exception-type", ":error-code", "x-ms-error-code")
_ID_HEADERS = (
    "x-request-id", "request-id", "x-amzn-requestid", "apim-request-id", "mistral-correlation-id", "x-debug-trace-id",
    "x-generation-id", "nvcf-reqid", "cf-ai-req-id", "x-ms-client-request-id", "cf-ray",
)  # fmt: skip

_SQUEEZE = re.compile(r"[^a-z0-9]+")
_URL = re.compile(r"https?://\S+")
_HTML = r"(?i)\s*(?:<!doctype html|<html|<head|<body|<title|<center|<h1)"
_HEADINGS = r"(?is)<(title|h1|h2)\b[^>]{0,200}>(.{0,300}?)</\1>"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Facts:
    """What an error answer says.

    ``words`` are its machine-readable codes in canonical spelling (``" ratelimit tokens "``: lower-case letters and
    digits, no ``error``/``exception`` at the end), padded with spaces so that a rule can search whole words.  ``text``
    is all human text, lower-case, without URLs.  ``statuses`` are HTTP statuses named in the body, outermost first;
    ``hints`` are waits in seconds by key; ``limits`` come from the headers and from copies of headers in the body.
    ``structured`` says that the body is JSON and reports something.
    """

    words: str = " "
    text: str = ""
    message: str = ""
    code: str | None = None
    statuses: tuple[int, ...] = ()
    hints: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    limits: RateLimits = EMPTY
    flags: frozenset[str] = frozenset()
    structured: bool = False
    request_id: str | None = None


def lowered(headers: object) -> dict[str, str]:
    """Headers with lower-case names.  Numbers become text; anything else is left out, and no mapping is empty."""
    if not is_object(headers):
        return {}
    return {str(name).lower(): str(value) for name, value in headers.items() if type(value) in {str, int, float}}


def decode(body: object) -> object:
    """Bytes to text, and text to JSON where it is JSON, whatever the content type claims."""
    if isinstance(body, (bytes, bytearray)):
        body = body[: 4 * _LONGEST].decode("utf-8", "replace")
    if isinstance(body, str):
        parsed = parse_json(body)
        return body if parsed is UNDECODED else parsed
    return body


UNDECODED = object()
"""What :func:`parse_json` gives for text that is not JSON."""


def parse_json(text: str) -> object:
    """The JSON value, or :data:`UNDECODED`.  Bombs of brackets and digits are not JSON to us."""
    if len(text) > _LONGEST:
        return UNDECODED
    try:
        return json.loads(text.lstrip("\ufeff"))
    except (ValueError, RecursionError):
        return UNDECODED


def canonical(word: str) -> str:
    """``ThrottlingException:http://...``, ``rate_limit_error``, ``RESOURCE_EXHAUSTED`` -> one spelling of each."""
    word = word.rsplit("#", 1)[-1].split(":http", 1)[0]
    squeezed = _SQUEEZE.sub("", word.lower())
    for suffix in ("exception", "error"):
        if squeezed != suffix:
            squeezed = squeezed.removesuffix(suffix)
    return squeezed


def is_html(text: str) -> bool:
    return re.match(_HTML, text) is not None


def read(vendor: str, headers: Mapping[str, str], body: object, clock: float | None) -> Facts:
    """The facts of an error answer.  ``headers`` have lower-case names, ``body`` is already decoded."""
    reader = _Reader()
    for name in _CODE_HEADERS:
        if name in headers:
            reader.code("errortype", headers[name])
    if "cf-mitigated" in headers:
        reader.flags.add("challenge")
    reader.value(body, 0)
    limits = parse_rate_limit(vendor, reader.headers | dict(headers), now=clock)
    text = " ".join(_URL.sub(" ", " ; ".join(reader.texts)).split())
    return Facts(
        words=f" {' '.join(reader.words)} ",
        text=(text if len(text) <= _TEXT else f"{text[: _TEXT - 500]} {text[-500:]}").lower(),
        message="; ".join(reader.texts)[:_TEXT],
        code=reader.best_code(),
        statuses=tuple(reader.statuses),
        hints=reader.hints,
        limits=limits,
        flags=frozenset(reader.flags),
        structured=not isinstance(body, str) and bool(reader.texts or reader.words),
        request_id=next((headers[name] for name in _ID_HEADERS if headers.get(name)), reader.request_id),
    )


class _Reader:
    """Collects while walking; stops quietly when the body is larger than any real error."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.texts: list[str] = []
        self.statuses: list[int] = []
        self.hints: dict[str, float] = {}
        self.headers: dict[str, str] = {}
        self.flags: set[str] = set()
        self.request_id: str | None = None
        self._codes: dict[str, str] = {}
        self._left = _NODES

    def best_code(self) -> str | None:
        """The vendor's own word: a code rather than a type, a word rather than a number."""
        order = ("code", "errorcode", "errortype", "type", "status")
        ranked = [self._codes[key] for key in order if key in self._codes]
        return next((code for code in ranked if not code.isdigit()), ranked[0] if ranked else None)

    def value(self, value: object, depth: int) -> None:
        self._left -= 1
        if self._left < 0 or depth > _DEEPEST:
            return
        if is_object(value):
            self._object(value, depth)
        elif is_list(value):
            for item in value[:50]:
                self.value(item, depth + 1)
        elif isinstance(value, str):
            self._text(value, depth)

    def _object(self, value: Mapping[str, object], depth: int) -> None:
        # "@type" is protobuf's envelope, not a code.
        named = [(str(key), _SQUEEZE.sub("", str(key).lower()), item) for key, item in value.items() if key != "@type"]
        for key, name, item in named:
            if name in _CODES or name in _STATUSES:
                self.code(name, item)
            if name in _HINTS:
                self._hint(name, item)
            if key.endswith("Exception"):  # botocore's event streams: {"throttlingException": {"message": ...}}
                self.code("errortype", key)
                self.value(item, depth + 1)
        self._openrouter({name: item for _, name, item in named})
        # Texts of this level before those of deeper ones: the outermost sentence is the one to show.  Fields of codes
        # may hold sentences (xAI), and quota ids read like one (``...PerDayPerProject``).
        for _, name, item in named:
            prose = isinstance(item, str) and (name not in _CODES or " " in item.strip() or "quota" in name)
            if prose and name in _TEXTS:
                self._text(str(item), depth + 1)
        for _, name, item in named:
            if name in _BRANCHES and not isinstance(item, str):
                self.value(item, depth + 1)

    def code(self, name: str, item: object) -> None:
        """A code, type or status: a number, digits, a word, or a sentence (which is text as well)."""
        if isinstance(item, bool) or not isinstance(item, (int, str)):
            return
        raw = str(item)[:200].strip() if not isinstance(item, int) or abs(item) < 10**9 else ""
        if name == "httpstatuscode" and raw == "422":
            return  # text-generation-inference: inside a stream everything is 422
        if name in _STATUSES and re.fullmatch(r"[45][0-9]{2}", raw):
            self.statuses.append(int(raw))
        elif name in _CODES and canonical(raw) not in _NOISE | {""}:
            self.words.append(canonical(raw))
        if raw and name in _CODES and raw.lower() not in _NOISE:
            self._codes.setdefault(name, raw)

    def _hint(self, name: str, item: object) -> None:
        wait: float | None = None
        if isinstance(item, (int, float)) and not isinstance(item, bool):
            wait = times.bounded(item * _HINTS[name]) if abs(item) < 1e15 else None
        elif isinstance(item, str):
            plain = times.seconds(item)
            wait = times.duration(item) if plain is None else times.bounded(plain * _HINTS[name])
        elif is_object(item):  # protobuf's Duration as an object
            wait = times.seconds(str(item.get("seconds", 0)))
        if wait is not None:
            self.hints.setdefault(name, wait)

    def _openrouter(self, fields: Mapping[str, object]) -> None:
        """OpenRouter's metadata: header copies, moderation, and whether the error is its upstream's."""
        copies = lowered(fields.get("headers"))
        self.headers.update(copies)
        self._hint("retryafter", copies.get("retry-after"))
        if fields.get("flaggedinput") or fields.get("patterns") or ("reasons" in fields and "modelslug" in fields):
            self.flags.add("moderated")
        if fields.get("providername") and "raw" in fields and fields.get("isbyok") is not True:
            self.flags.add("relayed")
        if isinstance(fields.get("failedgeneration"), str):
            self.flags.add("failed_generation")
        request_id = fields.get("requestid")
        if isinstance(request_id, str) and self.request_id is None:
            self.request_id = request_id

    def _text(self, text: str, depth: int) -> None:
        if is_html(text):
            self.flags.add("html")
            text = " ".join(found for _, found in re.findall(_HEADINGS, text[:20_000]))
        start = text.find("{") if len(text) < _LONGEST else -1
        if start >= 0:
            inner = _embedded(text[start:])
            if inner is not None:
                self.value(inner, depth + 1)
                text = text[:start]
        text = text.strip()
        if text and text not in self.texts:
            self.texts.append(text[: 2 * _TEXT])


def _embedded(text: str) -> object | None:
    """The JSON object a sentence carries: ``Error code: 400 - {"error": ...}``."""
    try:
        found: object = _DECODER.raw_decode(text)[0]
    except (ValueError, RecursionError):
        return None
    return found or None
