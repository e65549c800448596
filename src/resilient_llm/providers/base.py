"""What every built-in provider is: a wire format, an endpoint, a credential, a model and some limits.

A provider does no I/O.  It turns a request into the parts of an HTTP request and an HTTP answer into a response or a
fault; the drivers carry the bytes.  It holds no state either, so one object may serve any number of clients, threads
and event loops.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, NoReturn, TypedDict
from urllib.parse import SplitResult, urlsplit

from typing_extensions import Unpack

from resilient_llm.capability import Capabilities, Support, reclassified
from resilient_llm.errors import ConfigurationError, Fault, FaultKind, InvalidAnswer, UnsupportedFeature
from resilient_llm.model import ChatRequest, ChatResponse, Degradation, EmbedRequest, EmbedResponse
from resilient_llm.providers.credentials import ApiKey, Credential, from_environment
from resilient_llm.wire import classify, classify_stream_error, codec, embed_codec
from resilient_llm.wire.faults.ratelimit import RateLimits, parse_rate_limit
from resilient_llm.wire.faults.scrub import scrub
from resilient_llm.wire.kit.caching import sent_key
from resilient_llm.wire.protocol import Codec, HttpRequest, StreamDecoder

USER_AGENT = "resilient-llm/0.1"


class ProviderOptions(TypedDict, total=False):
    """What every provider takes by keyword.

    ``id`` (default ``vendor/model``) names it in health, trails and telemetry and is unique within a client.
    ``api_key`` defaults to the vendor's usual environment variable.  ``base_url`` replaces the vendor's.  ``headers``
    are sent with each request and replace ours of the same name, the one with the key included.  ``weight`` is its
    share of a tier relative to the others (1).  ``max_concurrency`` limits attempts in flight, open streams included
    (``None``: no limit).  ``context_window`` in tokens lets requests that cannot fit skip it (``None``: unknown).
    ``tags`` can be required per call, for data residency and the like.  ``embedding_space`` declares that its
    vectors can be mixed with those of providers that declare the same.  ``account`` groups providers that share one
    quota (default: those with the same host and key).  ``propagate_trace_context`` sends ``traceparent`` along
    (``False``).  ``params`` are fields added to every request body unless the call sets them.  ``capabilities``
    corrects what is known about the model: feature -> whether it can do it, or a word of
    ``resilient_llm.capability.Support``.
    """

    id: str
    api_key: ApiKey | None
    base_url: str | None
    headers: Mapping[str, str]
    weight: float
    max_concurrency: int | None
    context_window: int | None
    tags: Iterable[str]
    embedding_space: str | None
    account: str | None
    propagate_trace_context: bool
    params: Mapping[str, object]
    capabilities: Mapping[str, bool | Support]


_OPTIONS = frozenset(ProviderOptions.__annotations__)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An HTTP POST, ready to be sent; ``headers`` include the credential and are never shown."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    degradations: tuple[Degradation, ...] = ()

    def __repr__(self) -> str:
        return f"<Prepared POST {self.url.partition('?')[0]}, {len(self.body)} bytes>"


class HttpProvider:
    """A provider reached over HTTP.  Subclasses say which wire, where, and how the key travels."""

    vendor: str = "openai_compatible_gateway"
    """Whose error and rate-limit dialect the answers speak."""
    wire: str = "openai_chat"
    embed_wire: ClassVar[str] = "openai_embed"
    url: ClassVar[str | None] = None
    """The vendor's base URL; ``None``: the user must give one."""
    url_variables: ClassVar[tuple[str, ...]] = ()
    """Environment variables that may hold another base URL."""
    key_variables: ClassVar[tuple[str, ...]] = ()
    key_required: ClassVar[bool] = True
    embeds: bool = True
    """Whether it offers embeddings."""
    cache_key_header: ClassVar[str | None] = None
    """The header by which its servers find the one that has the beginning of a prompt cached."""

    def __init__(self, model: str, **options: Unpack[ProviderOptions]) -> None:
        for name in options:
            if name not in _OPTIONS:
                known = ", ".join(sorted(_OPTIONS))
                raise ConfigurationError(f"{type(self).__name__} has no option {name!r}; it has {known}")
        if not isinstance(model, str) or not model.strip():
            raise ConfigurationError(f"{type(self).__name__} needs the name of a model, not {model!r}")
        self.model = model
        self.id: str = name_of(self, options.get("id") or f"{self.vendor}/{model}")
        self.base_url: str = self._base_url(options.get("base_url"))
        self.credential: Credential = from_environment(
            options.get("api_key"), self.key_variables, type(self).__name__, required=self.key_required
        )
        self.headers: tuple[tuple[str, str], ...] = _checked_headers(options.get("headers") or {})
        self.weight: float = positive("weight", options.get("weight", 1.0))
        self.max_concurrency: int | None = whole("max_concurrency", options.get("max_concurrency"))
        self.context_window: int | None = whole("context_window", options.get("context_window"))
        self.tags: frozenset[str] = tags_of(self, options.get("tags") or ())
        self.embedding_space: str | None = options.get("embedding_space")
        self.propagate_trace_context: bool = bool(options.get("propagate_trace_context", False))
        self.params: Mapping[str, object] = _fields("params", options.get("params") or {})
        parts = urlsplit(self.base_url)
        self.host: str | None = parts.hostname
        self.port: int | None = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        self.account: str | None = options.get("account") or self._default_account()
        self.capabilities: Capabilities = Capabilities(
            self.wire, self.vendor, model, self.base_url, options.get("capabilities") or {}
        )
        self._codec: Codec | None = None

    # --- what subclasses may change ---

    def make_codec(self) -> Codec:
        """The codec, made when it is first needed."""
        return codec(self.wire)

    def auth_headers(self, key: str) -> tuple[tuple[str, str], ...]:
        """How the key travels."""
        return (("authorization", f"Bearer {key}"),)

    def address(self, path: str) -> str:
        """The URL for a path of the wire."""
        return self.base_url + path

    def encode(self, request: ChatRequest) -> HttpRequest:
        """The request on this provider's wire."""
        return self.codec.encode_request(request)

    def encode_embed(self, request: EmbedRequest) -> HttpRequest:
        """The same for embeddings; raises ``UnsupportedFeature`` where the wire has none."""
        if not self.embeds:
            raise UnsupportedFeature("embeddings", self.id)
        return embed_codec(self.embed_wire).encode_request(request)

    def decode_embed(self, body: bytes) -> EmbedResponse:
        """The vectors in an answer.  Raises ``InvalidAnswer``."""
        return embed_codec(self.embed_wire).decode_response(body)

    def sign(self, prepared: Prepared) -> Prepared:
        """For signatures over the whole request: called last, with the final URL, headers and body."""
        return prepared

    # --- what drivers use ---

    @property
    def needs_loop(self) -> bool:
        """Whether only the async client can ask it: its key comes from a coroutine."""
        return self.credential.is_async

    @property
    def codec(self) -> Codec:
        """Both directions of this provider's wire."""
        if self._codec is None:
            self._codec = self.make_codec()
        return self._codec

    def prepare(self, request: ChatRequest, key: str | None) -> Prepared:
        """The HTTP request for a call.  Raises ``UnsupportedFeature`` if this wire cannot express it."""
        parts = self.encode(replace(request, model=self.model))
        if request.cache_key and self.cache_key_header:
            parts = replace(parts, headers=(*parts.headers, (self.cache_key_header, sent_key(request.cache_key))))
        return self._posted(parts, key)

    def read(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> ChatResponse | Fault:
        """What a whole answer means.  ``now`` is wall-clock time, for hints given as dates."""
        if not 200 <= status < 300:
            return self.fault(status, headers, body, now)
        try:
            response = self.codec.decode_response(body)
        except InvalidAnswer as invalid:
            return self._invalid(status, headers, invalid, now)
        if response.finish_reason == "error":
            told = classify(self.vendor, status, headers, body, now=now)
            return told or Fault(
                FaultKind.SERVER_ERROR, status=status, message=f"the model stopped with {response.raw_finish_reason!r}"
            )
        return response

    def fault(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Fault:
        """What an answer that is none means."""
        fault = classify(self.vendor, status, headers, body, now=now)
        if fault is None:
            return Fault(FaultKind.INVALID_RESPONSE, status=status, message=f"unexpected status {status}")
        if fault.kind is FaultKind.MISCONFIGURED:
            address = urlsplit(self.base_url)
            where = scrub(f"{address.scheme}://{address.netloc}{address.path}", 100)
            fault = replace(fault, message=f"{fault.message} (is base_url={where} right for {self.wire}?)")
        return reclassified(fault)

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        return self.codec.stream_decoder()

    def stream_fault(self, payload: object) -> Fault:
        """What an error inside a stream means."""
        return reclassified(classify_stream_error(self.vendor, payload))

    def limits(self, headers: Mapping[str, str], now: float) -> RateLimits:
        """The rate-limit headroom an answer reports."""
        return parse_rate_limit(self.vendor, headers, now=now)

    def prepare_embed(self, request: EmbedRequest, key: str | None) -> Prepared:
        """The HTTP request for embeddings.  Raises ``UnsupportedFeature`` where the wire has none."""
        return self._posted(self.encode_embed(replace(request, model=self.model)), key)

    def read_embed(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> EmbedResponse | Fault:
        """What an answer to an embeddings request means."""
        if not 200 <= status < 300:
            return self.fault(status, headers, body, now)
        try:
            return self.decode_embed(body)
        except InvalidAnswer as invalid:
            return self._invalid(status, headers, invalid, now)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} at {self.base_url}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} holds a credential and is not pickled; build it anew in the other process")

    # --- internals ---

    def _invalid(self, status: int, headers: Mapping[str, str], invalid: InvalidAnswer, now: float) -> Fault:
        """A success that is no answer: what it says itself if it is an error object, else that it is none."""
        told = classify(self.vendor, status, headers, invalid.payload, now=now) if invalid.payload is not None else None
        if told is not None and (told.code or told.message):
            return told
        return Fault(FaultKind.INVALID_RESPONSE, status=status, message=scrub(invalid.message))

    def _posted(self, parts: HttpRequest, key: str | None) -> Prepared:
        body = self._with_params(parts.body) if self.params else parts.body
        headers = _headers_of(parts.headers)
        if key is not None:
            headers += self.auth_headers(key)
        if self.headers:  # the user's replace ours
            headers = tuple({**dict(headers), **dict(self.headers)}.items())
        return self.sign(Prepared(self.address(parts.path), headers, body, parts.degradations))

    def _base_url(self, given: str | None) -> str:
        from os import environ  # noqa: PLC0415

        candidates = [given, *(environ.get(variable) for variable in self.url_variables), self.url]
        url = next((candidate for candidate in candidates if candidate), None)
        if url is None:
            raise ConfigurationError(f"{type(self).__name__} needs base_url=")
        parts = _split(url)
        if parts is None:
            raise ConfigurationError(f"base_url must start with http:// or https:// and name a host, not {url!r}")
        if parts.username is not None or parts.query or parts.fragment:
            raise ConfigurationError("base_url must hold no user name, query or fragment")
        return url.rstrip("/")

    def _default_account(self) -> str | None:
        return f"{self.host}:{self.port}/{self.credential.account}" if self.credential.account else None

    def _with_params(self, body: bytes) -> bytes:
        fields = json.loads(body)
        return json.dumps({**self.params, **fields}, separators=(",", ":"), ensure_ascii=False).encode()


_FIXED_HEADERS = (
    ("content-type", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    ("user-agent", USER_AGENT),
)


@lru_cache(maxsize=64)
def _headers_of(wire: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The headers of every request and those the wire demands, each once."""
    return tuple({**dict(_FIXED_HEADERS), **dict(wire)}.items())


_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_NOT_YOURS = frozenset({"host", "content-length", "transfer-encoding"})
"""Headers that follow from the URL and the body."""


def _checked_headers(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """The user's headers with their names in lower case.  Raises ``ConfigurationError``; it never shows a value, which
    may be a credential."""
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a mapping of names to values, not a {type(headers).__name__}")
    for name, value in headers.items():
        if not isinstance(name, str) or _TOKEN.fullmatch(name) is None:
            raise ConfigurationError(f"{name!r} is no name of a header")
        if name.lower() in _NOT_YOURS:
            raise ConfigurationError(f"header {name!r} follows from the URL and the body and cannot be set")
        if not isinstance(value, str) or not value.isascii() or not value.isprintable() or value != value.strip():
            raise ConfigurationError(
                f"the value of header {name!r} must be printable ASCII text without space around it"
            )
    return tuple({name.lower(): value for name, value in headers.items()}.items())


def _split(url: object) -> SplitResult | None:
    """The parts of a URL, ``None`` if it is none: a bracket left open, a port that is no number..."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        usable = parts is not None and parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


def _fields(name: str, value: Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a mapping, not {value!r}")
    return dict(value)


def name_of(provider: object, name: object) -> str:
    """A provider's id.  Raises ``ConfigurationError`` unless it is a non-empty string."""
    if not isinstance(name, str) or not name:
        raise ConfigurationError(f"the id of a {type(provider).__name__} must be a non-empty string, not {name!r}")
    return name


def tags_of(provider: object, tags: Iterable[str]) -> frozenset[str]:
    """A provider's tags.  Raises ``ConfigurationError`` for a lone string, which would be taken for its letters."""
    found = None if isinstance(tags, str) else frozenset(tags)
    if found is None or not all(isinstance(tag, str) for tag in found):
        raise ConfigurationError(f"the tags of a {type(provider).__name__} must be a list of strings, not {tags!r}")
    return found


def positive(name: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ConfigurationError(f"{name} must be a number above 0, not {value!r}")
    return float(value)


def whole(name: str, value: int | None) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ConfigurationError(f"{name} must be a whole number of at least 1 or None, not {value!r}")
    return value
