"""What an exception means: transports, SDKs and built-ins, told apart by class names.

Nothing is imported from the libraries concerned: a class is known by its name and its ancestors' names, so they are
covered in any version, installed or not.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from resilient_llm.errors import CallFailed, Fault, FaultKind, FaultScope, InvalidAnswer, ProviderError
from resilient_llm.wire.faults import times
from resilient_llm.wire.faults.answers import classify, classify_stream_error
from resilient_llm.wire.faults.body import lowered
from resilient_llm.wire.faults.certificates import of_certificate
from resilient_llm.wire.faults.rules import Verdict, scope_of
from resilient_llm.wire.faults.scrub import scrub
from resilient_llm.wire.kit.fields import is_object

_STEPS = 12
K = FaultKind
_LOCAL = FaultScope.LOCAL


def _names(kind: FaultKind, names: str, scope: FaultScope | None = None) -> dict[str, Verdict]:
    return dict.fromkeys(names.split(), Verdict(kind, scope or scope_of(kind)))


_TIMEOUTS = """
    ConnectTimeout ReadTimeout WriteTimeout TimeoutException Timeout TimeoutError ConnectTimeoutError ReadTimeoutError
    APITimeoutError ServerTimeoutError ConnectionTimeoutError TooSlowError"""
_CONNECTIONS = """
    ConnectError ReadError WriteError CloseError NetworkError RemoteProtocolError ProtocolError ProxyError
    ConnectionFailed BrokenResourceError ClosedResourceError EndOfStream IncompleteRead IncompleteReadError
    ConnectionError SSLError ChunkedEncodingError NewConnectionError NameResolutionError BadStatusLine
    ConnectionNotAvailable ServerDisconnectedError ClientConnectorError ClientConnectionError ClientPayloadError
    ClientOSError EndpointConnectionError ConnectionClosedError HTTPClientError EOFError gaierror herror"""
_OURS = """
    LocalProtocolError UnsupportedProtocol InvalidURL MissingSchema InvalidSchema InvalidHeader LocationParseError
    MemoryError"""
_UNREADABLE = """
    JSONDecodeError DecodingError DecodeError ContentDecodingError UnicodeDecodeError APIResponseValidationError
    ContentTypeError ResponseValidationError InvalidAnswer InvalidChunkLength UnknownApiResponseError
    ResponseParserError"""
_NO_CREDENTIALS = """
    NoCredentialsError PartialCredentialsError CredentialRetrievalError RefreshError DefaultCredentialsError
    TokenRetrievalError UnauthorizedSSOTokenError"""
_CANCELLED = "CancelledError Cancelled KeyboardInterrupt GeneratorExit SystemExit ClientClosed"

_KNOWN: Mapping[str, Verdict] = {
    **_names(K.TIMEOUT, _TIMEOUTS),
    # Waiting for a free connection of our own pool, or a deadline of our own, says nothing about the provider.
    **_names(K.TIMEOUT, "PoolTimeout EmptyPoolError FullPoolError DeadlineExceeded", _LOCAL),
    **_names(K.CONNECTION, _CONNECTIONS),
    **_names(K.CONNECTION, _OURS, _LOCAL),
    **_names(K.INVALID_RESPONSE, _UNREADABLE),
    **_names(K.AUTH, _NO_CREDENTIALS),
    **_names(K.CLIENT_CLOSED, _CANCELLED, _LOCAL),
    **_names(K.UNSUPPORTED, "UnsupportedFeature"),
    **_names(K.BAD_REQUEST, "InvalidRequest"),
}

# Classes that only say "it did not work": something in their cause usually knows better.
_COARSE: Mapping[str, Verdict] = {
    **_names(
        K.CONNECTION,
        "APIConnectionError MaxRetryError TransportError RequestError RequestException PoolError HTTPException"
        " ClientError BotoCoreError HTTPError",
    ),
    **_names(K.SERVER_ERROR, "TooManyRedirects"),
}
_LOCAL_ERRNOS = frozenset(
    {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL, errno.ENOENT, errno.EACCES}
)
_VENDORS: Mapping[str, str] = {
    "openai": "openai", "anthropic": "anthropic", "google": "gemini", "botocore": "bedrock", "mistralai": "mistral",
    "cohere": "cohere", "groq": "groq", "together": "together", "ollama": "ollama", "huggingface_hub": "hf_inference",
    "fireworks": "fireworks", "cerebras": "cerebras", "perplexity": "perplexity",
}  # fmt: skip


def classify_exception(exc: BaseException) -> Fault:
    """What an exception of a transport, an SDK or a provider means; one that carries nothing is a server error.

    A certificate that one side does not accept is a misconfiguration: asking again does not help.
    Looks at what it carries (a ``Fault``, a status, a response, a body) and at its class names, then in the same way at
    its causes, a bounded number of steps.  Cancellation is ``client_closed`` and concerns this machine only.  Reads
    attributes of a foreign object, so a property that raises counts as absent.  Never raises.
    """
    coarse: Verdict | None = None
    chain = list(_chain(exc))
    for link in chain:
        fault = _carried(link)
        if fault is not None:
            return fault
        known, vague = _lookup(link, _KNOWN), _lookup(link, _COARSE)
        if known is None and vague is None and isinstance(link, OSError):
            known = Verdict(K.CONNECTION, _LOCAL if link.errno in _LOCAL_ERRNOS else FaultScope.ENDPOINT)
        if known is not None:
            return (of_certificate(chain) if known.kind is K.CONNECTION else None) or _fault(known, exc)
        coarse = coarse or vague
    return _fault(coarse or Verdict(K.SERVER_ERROR), exc)


def _chain(exc: BaseException) -> Iterator[BaseException]:
    """The exception, then its causes nearest first, the members of groups, urllib3's ``reason``, and what is told as an
    argument alone: httpcore raises some ``from None``."""
    queue, seen = [exc], set[int]()
    while queue and len(seen) < _STEPS:
        link = queue.pop(0)
        if id(link) in seen:
            continue
        seen.add(id(link))
        yield link
        causes: list[object] = [_get(link, "reason"), link.__cause__]
        if not link.__suppress_context__:
            causes.append(link.__context__)
        if isinstance(link, BaseExceptionGroup):
            causes.extend(cast("BaseExceptionGroup[BaseException]", link).exceptions)
        causes.extend(link.args)
        queue.extend(cause for cause in causes if isinstance(cause, BaseException))


def _carried(exc: BaseException) -> Fault | None:
    """What the exception says of itself, apart from its name."""
    if isinstance(exc, ProviderError):
        hint: object = exc.retry_after  # whoever wrote the provider set it
        wait = times.bounded(hint) if isinstance(hint, int | float) and not isinstance(hint, bool) else None
        return Fault(exc.kind, wait, scope_of(exc.kind), exc.status, exc.code, scrub(str(exc)))
    if isinstance(exc, CallFailed) and exc.fault is not None:
        return exc.fault
    if isinstance(exc, InvalidAnswer) and is_object(exc.payload):
        fault = classify("", 200, {}, exc.payload)
        if fault is not None:
            return fault
    status = _status(exc)
    if status is not None and (status >= 400 or not _lookup(exc, _KNOWN)):
        return _from_response(exc, status)
    body = _get(exc, "body")
    if (is_object(body) or isinstance(body, str)) and body and _lookup(exc, _KNOWN) is None and _vendor(exc):
        return classify_stream_error(_vendor(exc), body)  # an SDK's error for an event inside a stream
    return None


def _from_response(exc: BaseException, status: int) -> Fault:
    """SDKs keep the parsed body in ``body`` or ``details``, botocore the whole answer in ``response``."""
    response = _get(exc, "response")
    headers, body = _get(response, "headers"), _get(exc, "body")
    if is_object(response):
        meta, error = response.get("ResponseMetadata"), response.get("Error")
        headers = meta.get("HTTPHeaders") if is_object(meta) else None
        body = {"type": error.get("Code"), "message": error.get("Message")} if is_object(error) else None
    if headers is None:
        headers = _get(exc, "headers")
    if body is None:
        body = _get(exc, "details")
    if body is None or callable(body):
        body = _get(response, "content") or scrub(str(exc), 2000)
    # An error object whose envelope was a success is an event inside a stream (the SDKs keep its 200).
    fault = classify(_vendor(exc), status, lowered(headers), body) or classify_stream_error(_vendor(exc), body)
    return fault if fault.message else replace(fault, message=scrub(str(exc)))


def _status(exc: BaseException) -> int | None:
    response = _get(exc, "response")
    meta = response.get("ResponseMetadata") if is_object(response) else None
    candidates = (
        _get(exc, "status_code"),
        _get(exc, "status"),
        _get(response, "status_code"),
        meta.get("HTTPStatusCode") if is_object(meta) else None,
        _get(exc, "code"),
    )
    return next((c for c in candidates if isinstance(c, int) and not isinstance(c, bool) and 100 <= c <= 599), None)


def _lookup(exc: BaseException, table: Mapping[str, Verdict]) -> Verdict | None:
    return next((table[cls.__name__] for cls in type(exc).__mro__ if cls.__name__ in table), None)


def _vendor(exc: BaseException) -> str:
    modules = (cls.__module__.split(".", 1)[0] for cls in type(exc).__mro__)
    return next((_VENDORS[module] for module in modules if module in _VENDORS), "")


def _fault(verdict: Verdict, exc: BaseException) -> Fault:
    texts = (_text(link) for link in _chain(exc))
    text = next(filter(None, texts), "")
    return Fault(
        verdict.kind,
        scope=verdict.scope or scope_of(verdict.kind),
        code=type(exc).__name__,
        message=scrub(text) or type(exc).__name__,
    )


def _text(exc: BaseException) -> str:
    try:
        return str(exc)
    except Exception:
        return ""


def _get(owner: object, name: str) -> object:
    """The attribute, or ``None``; httpx's ``response`` and ``request`` are properties that raise when there is none."""
    try:
        return getattr(owner, name, None)
    except Exception:
        return None
