"""What every built-in provider is: a wire format, an endpoint, a credential, a model and some limits.

A provider sends nothing.  It turns a request into the parts of an HTTP request and an HTTP answer into a response or a
fault; the drivers carry the bytes.  It holds no state either, so one object may serve any number of clients, threads
and event loops.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from operator import attrgetter
from os import PathLike
from typing import TYPE_CHECKING, ClassVar, Literal, NoReturn, TypeAlias, Unpack
from urllib.parse import urlencode, urlsplit

from resilient_llm import wire as wires
from resilient_llm.capability import Capabilities, Support, cache_seconds, reclassified
from resilient_llm.errors import ConfigurationError, Fault, FaultKind, InvalidAnswer, UnsupportedFeature
from resilient_llm.keywords import Explicit, Shown, explicit, unknown
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Degradation,
    EmbedRequest,
    EmbedResponse,
    Extra,
    StreamError,
    StreamEvent,
    StreamStart,
    Usage,
)
from resilient_llm.policy import KeyTerms, Rate
from resilient_llm.providers import endpoint, model_names
from resilient_llm.providers.credentials import ApiKey, Credential, from_environment
from resilient_llm.providers.embedding import EmbedLimits, limits_of
from resilient_llm.providers.keys import ApiKeys, Held, keys_of, terms_of
from resilient_llm.providers.model_names import same_model
from resilient_llm.providers.network import Network, network_of
from resilient_llm.providers.rates import RateOptions, rates_of
from resilient_llm.providers.secrecy import (
    Fields,
    Headers,
    Secrets,
    holds_credentials,
    secrets_in_fields,
    secrets_in_headers,
)
from resilient_llm.version import __version__
from resilient_llm.wire import codec, embed_codec
from resilient_llm.wire.faults.ratelimit import RateLimits, parse_rate_limit
from resilient_llm.wire.faults.scrub import scrub
from resilient_llm.wire.kit.caching import sent_key
from resilient_llm.wire.protocol import Codec, HttpRequest, StreamDecoder

if TYPE_CHECKING:
    from ssl import SSLContext

USER_AGENT = f"resilient-llm/{__version__}"


class ProviderOptions(RateOptions, total=False):
    """What every provider takes by keyword; :data:`LINES` says what each means.

    Values of headers and parameters may be secret, and so may parts of the URL's path: none of 8 characters or more is
    shown anywhere, whoever echoes it.
    """

    id: str
    api_key: ApiKey | None
    api_keys: ApiKeys | None
    show_key_ends: bool
    base_url: str | None
    headers: Mapping[str, str]
    weight: float
    max_concurrency: int | None
    context_window: int | None
    tags: Iterable[str]
    embedding_space: str | None
    embed_batch: int | None
    account: str | None
    propagate_trace_context: bool
    params: Mapping[str, object]
    capabilities: Mapping[str, bool | Support]
    allow_http: bool
    require_model: bool
    proxy: Literal[False] | str | None
    verify: bool | str | PathLike[str] | SSLContext
    cert: Sequence[str | PathLike[str]] | str | PathLike[str] | None


LINES: Mapping[str, str] = {
    "id": "names it in health, trails and telemetry; unique within a client",
    "api_key": "the key, or a function that returns the current one; None: the vendor's environment variable",
    "api_keys": "several keys, each with a quota of its own: functions and Key objects too; None: the one api_key",
    "show_key_ends": "True: messages show the last four characters of one of several keys, and not its place alone",
    "base_url": "replaces the vendor's, as far as the version: https://host/v1; None: the vendor's",
    "headers": "sent with each request; replace ours of the same name, the one with the key included",
    "params": "fields added to the body of every request, unless the call sets them",
    "weight": "its share of a tier, relative to the others",
    "requests_per_second": "the most requests in a second; None: as its answers tell, which is obeyed in any case",
    "requests_per_minute": "the most requests in a minute",
    "requests_per_day": "the most requests in a day",
    "tokens_per_second": "the most tokens in a second, of prompts and answers together",
    "tokens_per_minute": "the most tokens in a minute",
    "tokens_per_day": "the most tokens in a day",
    "max_concurrency": "the most attempts under way, open streams included; None: no limit",
    "context_window": "in tokens; requests that cannot fit skip it; None: unknown",
    "tags": "what tags= of a call can ask for: data residency and the like",
    "embedding_space": "its vectors mix with those of providers that declare the same; None: with nobody's",
    "embed_batch": "texts in one request for embeddings at most; None: the vendor's documented limit",
    "account": "providers that share one quota; None: those with the same host and key",
    "capabilities": "corrects what is known of the model: feature -> True, False, or a word of Support",
    "require_model": "True: refuse answers that name another model; False: note them, as model_mismatch of the answer",
    "allow_http": "True: the key may travel over plain http:// to public hosts too, not only nearby",
    "propagate_trace_context": "True: traceparent is sent along",
    "proxy": "http://user:password@host:port, or socks5://; False: none; None: the one that the environment names",
    "verify": "whom TLS trusts: True, False (anybody), a file or directory of authorities, an ssl.SSLContext",
    "cert": "our certificate: a file with its key, or (file, file of its key), or (file, file of its key, password)",
}
"""What each keyword of a provider means, in one line; ``help(OpenAI)`` shows them."""

_OPTIONS = frozenset(LINES)

provider_keywords: Explicit = explicit(
    ProviderOptions,
    LINES,
    {
        "id": Shown("vendor/model"),
        "headers": Shown("none"),
        "params": Shown("none"),
        "capabilities": Shown("as known"),
        "weight": 1.0,
        "tags": (),
        "show_key_ends": False,
        "require_model": False,
        "allow_http": False,
        "propagate_trace_context": False,
        "verify": True,
    },
)
"""For constructors that take ``**options: Unpack[ProviderOptions]``."""


Query: TypeAlias = tuple[tuple[str, str], ...]
"""Parameters of a URL."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """An HTTP request, ready to be sent; ``headers`` include the credential and are never shown."""

    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    degradations: tuple[Degradation, ...] = ()
    method: str = "POST"

    def __repr__(self) -> str:
        return f"<Prepared {self.method} {endpoint.shown(self.url)}, {len(self.body)} bytes>"


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
    model_in_path: ClassVar[bool] = False
    """Whether the model's name becomes part of the URL."""
    model_has_slashes: ClassVar[bool] = True
    """Whether there are models with a slash in their name."""
    names_model: ClassVar[bool] = True
    """Whether ``model`` is the name of a model, and not of a deployment."""
    idempotency_header: ClassVar[str | None] = None
    """The header for ``idempotency_key=``, where the vendor documents one."""
    counts_cached: ClassVar[bool] = True
    """Whether prompt tokens read from its cache count against its rate limits."""
    request_id_header: ClassVar[str | None] = None
    """The header for our own id of each attempt, in lower case, where the vendor documents one."""
    takes_query: ClassVar[bool] = True
    """Whether parameters of the URL that came with a request on its own wire may be sent on to it."""
    cache_key_header: ClassVar[str | None] = None
    """The header by which its servers find the one that has the beginning of a prompt cached."""

    @provider_keywords
    def __init__(self, model: str, **options: Unpack[ProviderOptions]) -> None:
        """Raises ``ConfigurationError`` for options that make no sense; nothing is sent."""
        for name in options:
            if name not in _OPTIONS:
                raise ConfigurationError(f"{type(self).__name__}: {unknown(name, _OPTIONS, 'provider option')}")
        self.model: str = model_names.checked(
            model, type(self).__name__, in_path=self.model_in_path, slashes=self.model_has_slashes
        )
        self.id: str = name_of(self, options.get("id") or f"{self.vendor}/{model}")
        self.base_url: str = self._base_url(options.get("base_url"))
        self.held: tuple[Held, ...] = self._held(options)
        self.credential: Credential = self.held[0].credential
        """Of several keys the first."""
        self._show_key_ends = bool(options.get("show_key_ends", False))
        self.headers: tuple[tuple[str, str], ...] = _checked_headers(options.get("headers") or {})
        self.network: Network = _network(self, options)
        _check_clear_text(self, options.get("allow_http", False))
        self.weight: float = positive("weight", options.get("weight", 1.0))
        self.max_concurrency: int | None = whole("max_concurrency", options.get("max_concurrency"))
        self.context_window: int | None = whole("context_window", options.get("context_window"))
        self.rates: tuple[Rate, ...] = rates_of(options.get)
        self.tags: frozenset[str] = tags_of(self, options.get("tags") or ())
        self.embedding_space: str | None = options.get("embedding_space")
        self.embed_limits: EmbedLimits = limits_of(self.vendor, model, whole("embed_batch", options.get("embed_batch")))
        self.propagate_trace_context: bool = bool(options.get("propagate_trace_context", False))
        self.params: Mapping[str, object] = _fields("params", options.get("params") or {})
        self.require_model: bool = _require_model(self, options.get("require_model", False))
        parts = urlsplit(self.base_url)
        self.host: str | None = parts.hostname
        self.port: int | None = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
        self.account: str | None = options.get("account") or self._default_account()
        self.capabilities: Capabilities = Capabilities(
            self.wire, self.vendor, model, self.base_url, options.get("capabilities") or {}
        )
        self._codec: Codec | None = None
        self.secrets: tuple[str, ...] = _secrets(self)
        """What the user gave besides the key that may be secret: in headers, parameters, the URL's path, the proxy.
        Nothing an answer or an exception says is shown with one of these in it."""

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
    def keys(self) -> tuple[KeyTerms, ...]:
        """What is known of each of its keys."""
        several = len(self.held) > 1
        accounts = [self._account(one.credential) for one in self.held] if several else [self.account]
        return terms_of(self.held, self.rates, accounts, ends=self._show_key_ends)

    @property
    def cache_seconds(self) -> float | None:
        """For how long its vendor caches the beginning of a prompt at least, after it was last used; ``None``: it does
        not say."""
        return cache_seconds(self.vendor, self.model)

    @property
    def needs_loop(self) -> bool:
        """Whether only the async client can ask it: its key comes from a coroutine."""
        return any(one.credential.is_async for one in self.held)

    @property
    def renewable(self) -> bool:
        """Whether its keys may be missing for a while, and be renewed when they are refused."""
        return all(one.credential.renewable is not None for one in self.held)

    def key_missing(self) -> str | None:
        """Why there is no key now; ``None``: there is one, or it is found out when it is asked for."""
        missing: list[str] = []
        for one in self.held:
            why = None if one.credential.renewable is None else one.credential.renewable.missing()
            if why is None:
                return None
            missing.append(why)
        return missing[0]

    @property
    def key_id(self) -> str | None:
        """Tells the key in use from others without telling it; ``None`` before a callable was asked for one."""
        return self.credential.key_id

    def other_model(self, answered: str) -> bool:
        """Whether an answer names a model that is not the one asked for, under any of its known names."""
        return self.names_model and not same_model(self.model, answered)

    def unexpected_model(self, answered: str, status: int | None) -> Fault | None:
        """What it means that this model answered; ``None`` if it may."""
        if not self.require_model or not self.other_model(answered):
            return None
        told = scrub(f"answered by the model {answered!r} instead of {self.model!r}")
        return Fault(FaultKind.INVALID_RESPONSE, status=status, code="model_mismatch", message=told)

    @property
    def codec(self) -> Codec:
        """Both directions of this provider's wire."""
        if self._codec is None:
            self._codec = self.make_codec()
        return self._codec

    def understands(self, request: ChatRequest) -> bool:
        """Whether a request came in on this provider's wire, so that what came with it can be sent along."""
        return request.source is not None and request.source.wire == self.wire

    def forwards(self, request: ChatRequest | EmbedRequest) -> bool:
        """Whether a request goes there in its caller's own words, so that the answer needs no translation either."""
        return isinstance(request, ChatRequest) and self.understands(request)

    def prepare(self, request: ChatRequest, key: str | None) -> Prepared:
        """The HTTP request for a call.  Raises ``UnsupportedFeature`` if this wire cannot express it."""
        parts = self.encode(request if request.model == self.model else _asking(request, self.model))
        if request.headers and self.understands(request):
            parts = replace(parts, headers=(*parts.headers, *request.headers))
        if request.cache_key and self.cache_key_header:
            parts = replace(parts, headers=(*parts.headers, (self.cache_key_header, sent_key(request.cache_key))))
        query = request.query if self.takes_query and self.understands(request) else ()
        if request.query and not query:
            parts = _without_query(parts, request.query)
        return self._posted(parts, key, request.idempotency_key, query)

    def rest_of(self, response: ChatResponse) -> Extra | None:
        """What is to be said beside the same request to get the rest of an answer that the vendor divided; ``None``: it
        is whole."""
        return None

    def prepare_rest(self, rest: str | Extra, request: ChatRequest, key: str | None) -> Prepared:
        """The HTTP request for the rest of an answer: the vendor keeps it at this path, or wants this to be said beside
        the request."""
        if isinstance(rest, Extra):
            return self.prepare(_with_extra(request, rest), key)
        headers = _headers_of(()) + (self.auth_headers(key) if key is not None else ())
        headers = tuple({**dict(headers), **dict(self.headers)}.items())
        return self.sign(Prepared(self.address(rest), headers, b"", method="GET"))

    def read(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> ChatResponse | Fault:
        """What a whole answer means.  ``now`` is wall-clock time, for hints given as dates."""
        if not 200 <= status < 300:
            return self.fault(status, headers, body, now)
        try:
            response = self.codec.decode_response(body)
        except InvalidAnswer as invalid:
            return _no_answer(self.vendor, (status, headers, body), invalid, now)
        if response.finish_reason == "error":
            told = f"the model stopped with {response.raw_finish_reason!r}"
            fault = Fault(FaultKind.SERVER_ERROR, status=status, message=told)
            return wires.classify(self.vendor, status, headers, body, now=now) or fault
        return self.unexpected_model(response.model, status) or response

    def fault(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> Fault:
        """What an answer that is none means."""
        fault = wires.classify(self.vendor, status, headers, body, now=now)
        if fault is None:
            return Fault(FaultKind.INVALID_RESPONSE, status=status, message=f"unexpected status {status}")
        if fault.kind is FaultKind.MISCONFIGURED:
            address = urlsplit(self.base_url)
            where = scrub(f"{address.scheme}://{address.netloc}{address.path}", 100)
            fault = replace(fault, message=f"{fault.message} (is base_url={where} right for {self.wire}?)")
        return reclassified(fault)

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for one streamed answer."""
        decoder = self.codec.stream_decoder()
        return _OneModel(decoder, self) if self.require_model else decoder

    def stream_fault(self, payload: object) -> Fault:
        """What an error inside a stream means."""
        if isinstance(payload, _OtherModel):
            return payload.fault
        return reclassified(wires.classify_stream_error(self.vendor, payload))

    def limits(self, headers: Mapping[str, str], now: float) -> RateLimits:
        """The rate-limit headroom an answer reports."""
        return parse_rate_limit(self.vendor, headers, now=now)

    def counted(self, usage: Usage) -> int:
        """The tokens of an answer that count against its rate limits; 0: unknown."""
        cached = 0 if self.counts_cached else usage.cache_read_tokens
        return max(0, usage.input_tokens + usage.output_tokens - cached)

    def prepare_embed(self, request: EmbedRequest, key: str | None) -> Prepared:
        """The HTTP request for embeddings.  Raises ``UnsupportedFeature`` where the wire has none."""
        return self._posted(self.encode_embed(replace(request, model=self.model)), key, request.idempotency_key)

    def read_embed(self, status: int, headers: Mapping[str, str], body: bytes, now: float) -> EmbedResponse | Fault:
        """What an answer to an embeddings request means."""
        if not 200 <= status < 300:
            return self.fault(status, headers, body, now)
        try:
            response = self.decode_embed(body)
        except InvalidAnswer as invalid:
            return _no_answer(self.vendor, (status, headers, body), invalid, now)
        return self.unexpected_model(response.model, status) or response

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id!r} at {endpoint.shown(self.base_url)}{self.network.through}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} holds a credential and is not pickled; build it anew in the other process")

    # --- internals ---

    def _posted(self, parts: HttpRequest, key: str | None, idempotency_key: str | None, query: Query = ()) -> Prepared:
        body = _with_params(parts.body, self.params) if self.params else parts.body
        headers = _headers_of(parts.headers)
        if idempotency_key is not None and self.idempotency_header is not None:
            headers += ((self.idempotency_header, idempotency_key),)
        if key is not None:
            headers += self.auth_headers(key)
        if self.headers:  # the user's replace ours
            headers = tuple({**dict(headers), **dict(self.headers)}.items())
        url = self.address(parts.path)
        if query:
            url += ("&" if "?" in url else "?") + urlencode(query)
        return self.sign(Prepared(url, headers, body, parts.degradations))

    def _base_url(self, given: str | None) -> str:
        from os import environ  # noqa: PLC0415

        candidates = [given, *(environ.get(variable) for variable in self.url_variables), self.url]
        url = next((candidate for candidate in candidates if candidate), None)
        if url is None:
            raise ConfigurationError(f"{type(self).__name__} needs base_url=")
        return endpoint.checked(url)

    def _default_account(self) -> str | None:
        return self._account(self.credential)

    def _account(self, credential: Credential) -> str | None:
        return f"{self.host}:{self.port}/{credential.account}" if credential.account else None

    def _held(self, options: ProviderOptions) -> tuple[Held, ...]:
        """The keys given, or the one from the environment."""
        name, given = type(self).__name__, options.get("api_keys")
        if given is not None:
            return keys_of(name, given, frozenset(one for one in options if options.get(one) is not None))
        key = options.get("api_key")
        return (Held(from_environment(key, self.key_variables, name, required=self.key_required)),)


_FIXED_HEADERS = (
    ("content-type", "application/json"),
    ("accept-encoding", "gzip, deflate"),
    ("user-agent", USER_AGENT),
)


@lru_cache(maxsize=64)
def _headers_of(wire: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
    """The headers of every request and those the wire demands, each once."""
    return tuple({**dict(_FIXED_HEADERS), **dict(wire)}.items())


_SAID_ELSEWHERE = frozenset({"beta"})
"""Parameters that say what stands in a header or in the body as well: Anthropic's SDK adds one."""
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
    return Headers({name.lower(): value for name, value in headers.items()}.items())


def _check_clear_text(provider: HttpProvider, allow_http: object) -> None:
    """Refuse to send a credential where everybody on the way can read it."""
    if not isinstance(allow_http, bool):
        raise ConfigurationError(f"allow_http must be True or False, not {allow_http!r:.80}")
    parts, proxy = urlsplit(provider.base_url), provider.network.proxy
    has_credential = any(one.credential.account for one in provider.held) or holds_credentials(provider.headers)
    if parts.scheme != "http" or not has_credential or allow_http:
        return
    for host in (parts.hostname, *((urlsplit(proxy).hostname,) if proxy else ())):
        if not endpoint.clear_text_is_safe(host):
            raise ConfigurationError(
                f"{type(provider).__name__} would send its key to {host} over plain http, where others can read "
                "it; use https://, or allow_http=True if the way there is safe"
            )


def _secrets(provider: HttpProvider) -> Secrets:
    sent = (*secrets_in_headers(provider.headers), *secrets_in_fields(provider.params))
    return Secrets((*sent, *endpoint.secrets_in(provider.base_url), *provider.network.secrets))


def _network(provider: HttpProvider, options: ProviderOptions) -> Network:
    try:
        return network_of(options.get("proxy"), options.get("verify", True), options.get("cert"))
    except ConfigurationError as error:
        raise ConfigurationError(f"{type(provider).__name__} {provider.id!r}: {error}") from error.__cause__


def _require_model(provider: HttpProvider, value: object) -> bool:
    if not isinstance(value, bool):
        raise ConfigurationError(f"require_model must be True or False, not {value!r:.80}")
    if value and not provider.names_model:
        raise ConfigurationError(
            f"{type(provider).__name__} cannot have require_model=True: its model is the name of a deployment, which "
            "does not say which model answers"
        )
    return value


def _no_answer(vendor: str, answer: tuple[int, Mapping[str, str], bytes], invalid: InvalidAnswer, now: float) -> Fault:
    """What a success means that is no answer: what it says itself if it is an error object, else that it is none."""
    (status, headers, body), payload = answer, invalid.payload
    told = None if payload is None else wires.classify(vendor, status, headers, payload, now=now)
    if told is not None and (told.code or told.message):
        return told
    head = body[:200].lstrip()
    looks = scrub(head.decode(errors="replace"), 60) if head[:1] == b"<" else ""
    what = f"a page and no answer: {looks}" if looks else invalid.message if head else "the body is empty"
    return Fault(FaultKind.INVALID_RESPONSE, status=status, message=scrub(what))


def _without_query(parts: HttpRequest, query: Query) -> HttpRequest:
    """A request that says which parameters of its caller's URL it leaves out."""
    lost = [Degradation(name, "left out") for name, _ in query if name not in _SAID_ELSEWHERE]
    return replace(parts, degradations=(*parts.degradations, *lost))


def _with_params(body: bytes, params: Mapping[str, object]) -> bytes:
    """A body with fields of the user's own, where it does not say them itself."""
    return json.dumps({**params, **json.loads(body)}, separators=(",", ":"), ensure_ascii=False).encode()


_after_model = attrgetter(*[one.name for one in fields(ChatRequest)][2:])


def _asking(request: ChatRequest, model: str) -> ChatRequest:
    """The request, of this model.  On the way of every call: ``replace`` takes three times as long."""
    return ChatRequest(request.messages, model, *_after_model(request))


def _with_extra(request: ChatRequest, extra: Extra) -> ChatRequest:
    """A request that says this too."""
    source = request.source
    if source is not None and source.wire == extra.wire:
        return replace(request, source=Extra(extra.wire, {**source.fields, **extra.fields}))
    return replace(request, extra=(*request.extra, extra))


class _OtherModel(dict[str, object]):
    """The payload of a stream's error that is none of the vendor's."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(message=fault.message)
        self.fault = fault


class _OneModel:
    """Decodes a stream, and ends it where it begins to be another model's answer."""

    __slots__ = ("_decoder", "_provider", "_refused")

    def __init__(self, decoder: StreamDecoder, provider: HttpProvider) -> None:
        self._decoder = decoder
        self._provider = provider
        self._refused = False

    def __getattr__(self, name: str) -> object:
        """What only some decoders know: how the stream ended, and where its rest is."""
        return getattr(self._decoder, name)

    def feed(self, data: bytes) -> list[StreamEvent]:
        return [] if self._refused else self._checked(self._decoder.feed(data))

    def close(self) -> list[StreamEvent]:
        return [] if self._refused else self._checked(self._decoder.close())

    def _checked(self, events: list[StreamEvent]) -> list[StreamEvent]:
        for index, event in enumerate(events):
            fault = self._provider.unexpected_model(event.model, None) if isinstance(event, StreamStart) else None
            if fault is not None:
                self._refused = True
                return [*events[:index], StreamError(_OtherModel(fault))]
        return events


def _fields(name: str, value: Mapping[str, object]) -> Mapping[str, object]:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} must be a mapping, not a {type(value).__name__}")
    return Fields(value)


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
