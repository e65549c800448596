"""One attempt without I/O: what to send, what came, and what it means.

A driver opens an exchange's source (over HTTP, or by calling the code of a provider the user wrote), passes on its
head, and feeds it pieces until it has :attr:`Exchange.enough`: a whole answer, or the first content of a stream.  A
stream is the same exchange, fed on step by step.  ``chat``, ``stream`` and ``embed``, built-in and user-written
providers all look the same from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import ClassVar, TypeAlias

from resilient_llm.capability import UNSEALED, Capabilities, without_seals
from resilient_llm.decide.attempt import Attempt
from resilient_llm.drive.body import Body, Inflater, inflater
from resilient_llm.drive.engines import Outgoing
from resilient_llm.drive.exchange_base import Exchange
from resilient_llm.drive.failure import AttemptFailed
from resilient_llm.drive.observer import attempt_id
from resilient_llm.drive.reading import Reading
from resilient_llm.drive.subject import Response, Subject, Target
from resilient_llm.errors import (
    ConfigurationError,
    Fault,
    FaultKind,
    FaultScope,
    InvalidRequest,
    ResilientError,
    UnsupportedFeature,
)
from resilient_llm.model import (
    ChatRequest,
    ChatResponse,
    Degradation,
    EmbedRequest,
    EmbedResponse,
    Extra,
    StreamEnd,
    StreamEvent,
    TextDelta,
)
from resilient_llm.providers.base import HttpProvider, Prepared
from resilient_llm.providers.custom import Custom
from resilient_llm.providers.secrecy import without_secret
from resilient_llm.wire.faults.ratelimit import EMPTY
from resilient_llm.wire.kit.accumulate import replay
from resilient_llm.wire.kit.divided import joined
from resilient_llm.wire.protocol import StreamDecoder


class HttpExchange(Exchange[HttpProvider]):
    """With a provider that is reached over HTTP."""

    by_code: ClassVar[bool] = False
    refused: Fault | None
    key: str | None
    answer: Response | None
    enough: bool
    degradations: tuple[Degradation, ...]
    _unsealed: ChatRequest | None = None
    """The request without the sealed reasoning that is not accepted there."""
    _part: ChatResponse | None = None
    """The beginning of an answer that the vendor divided."""
    _rest: Extra | None = None
    """What the rest of it is asked for with."""

    @property
    def _capabilities(self) -> Capabilities | None:
        return self.provider.capabilities

    @property
    def _forwards(self) -> bool:
        return self.subject.forwards and self.provider.forwards(self.subject.request)

    def told(self, fault: Fault) -> None:
        """An answer said that a feature is unsupported: learn it for this process."""
        self.provider.capabilities.remember_refusal(fault, self.subject.needs)

    def again(self, failure: AttemptFailed) -> None:
        """Leave sealed reasoning out that was refused, from now on in this conversation; or replace a refused key."""
        request, renewable = self.subject.request, self.credential.renewable
        if failure.fault.kind is FaultKind.AUTH and renewable is not None and self.key is not None and not self.lost:
            if not renewable.rejected(self.key) or self.refused is not None:
                raise failure
            self.refused, self.key = without_secret(failure.fault, self.key), None
            self.status, self.reading, self.enough = None, None, False
            return
        again = failure.fault.kind is FaultKind.SEALED_REASONING and self._unsealed is None and not self.lost
        if not again or not isinstance(request, ChatRequest):
            raise failure
        self._unsealed = without_seals(self._request())
        if self._unsealed is None:
            raise failure
        self.provider.capabilities.remember_seals(request)
        self.status, self.reading, self.enough = None, None, False

    def outgoing(self) -> Outgoing:
        """The HTTP request.  Raises ``InvalidRequest`` for one that cannot be written, ``AttemptFailed`` for one that
        this provider cannot take."""
        provider, prepared = self.provider, self._prepared()
        self.limit.heard = False  # of the answer to this request
        self.degradations = prepared.degradations
        headers = prepared.headers
        if provider.propagate_trace_context and self.observer is not None:
            headers = (*headers, *self.observer.headers().items())
        if provider.request_id_header is not None:
            headers = self._with_id(provider.request_id_header, headers)
        return Outgoing(
            provider.id,
            prepared.url,
            headers,
            prepared.body,
            self.attempt.fresh,
            self.subject.repeatable,
            prepared.method,
            provider.network,
        )

    def _with_id(self, header: str, headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, str], ...]:
        """With the id of this attempt, unless the user gave one of their own; an empty one of theirs means none."""
        for name, value in self.provider.headers:
            if name == header:
                return headers if value else tuple(pair for pair in headers if pair[0].lower() != header)
        return (*headers, (header, attempt_id(self.subject.call_id, self.attempt.number)))

    def _prepared(self) -> Prepared:
        provider, request = self.provider, self.subject.request
        try:
            if isinstance(request, EmbedRequest):
                return provider.prepare_embed(request, self.key)
            request, lost = self._fitted(self._request())
            rest = self._rest if self._kept is None else self._kept.rest
            prepared = (
                provider.prepare(request, self.key) if rest is None else provider.prepare_rest(rest, request, self.key)
            )
            lost = self.degradations + lost
            return replace(prepared, degradations=lost + prepared.degradations) if lost else prepared
        except UnsupportedFeature as unsupported:
            fault = Fault(FaultKind.UNSUPPORTED, scope=FaultScope.REQUEST, message=str(unsupported))
            raise AttemptFailed(fault) from unsupported
        except ResilientError:
            raise
        except Exception as error:  # nothing was sent, so no provider is to blame
            raise InvalidRequest(f"the request cannot be written for {provider.id}: {error!r}"[:300]) from error

    def _fitted(self, request: ChatRequest) -> tuple[ChatRequest, tuple[Degradation, ...]]:
        """The request as this provider takes it, and what it is asked without."""
        capabilities, needs = self.provider.capabilities, self.subject.needs
        if self._unsealed is None and capabilities.refused_seals(request):
            self._unsealed = without_seals(request)
        unsealed: tuple[Degradation, ...] = ()
        if self._unsealed is not None:
            request, unsealed = self._unsealed, (UNSEALED,)
        if not needs.features:
            return request, unsealed
        request, lost = capabilities.fit(request, needs)
        return request, unsealed + lost

    def head(self, status: int | None, headers: Mapping[str, str]) -> None:
        """The head of the answer arrived: the rate limits in it count whatever follows."""
        assert status is not None
        self.status = status
        self._headers = headers
        limit = self.subject.policies.stream.max_bytes
        encoding = headers.get("content-encoding")
        self._inflater: Inflater | None = None if encoding is None else inflater(encoding, limit)
        self._body: Body | None = None
        self._learn(headers)
        streamed = self.subject.streaming or self.subject.gathers
        if streamed and 200 <= status < 300 and "text/html" not in headers.get("content-type", ""):
            self.reading = self._kept
            if self.reading is not None:
                self.reading.reopen(self.subject.clock())
            else:
                self.reading = self._reading(self._decoder(), self.provider)
        else:
            self._body = Body(limit)

    @property
    def _kept(self) -> Reading | None:
        """The stream of which the rest is asked for, if it is: it broke, or the vendor divided it."""
        divided = self.reading is not None and self.reading.divided
        return self.reading if divided else self.subject.kept

    @property
    def _follows(self) -> bool:
        """Whether parts of a divided answer are asked for here; who speaks the vendor's wire does it."""
        request = self.subject.request
        source = request.source if isinstance(request, ChatRequest) else None
        return source is None or source.wire != self.provider.wire

    def _decoder(self) -> StreamDecoder:
        decoder = self.provider.stream_decoder()
        follow: Callable[[], None] | None = getattr(decoder, "follow", None)
        if follow is not None and self._follows:
            follow()
        return decoder

    def streams(self) -> bool:
        return super().streams() and self.reading is not None and self.reading.committed

    def goes_on(self) -> bool:
        divided = self._rest is not None if self.reading is None else self.reading.divided and not self.streams()
        if divided:
            self.enough = False
        return divided

    def _learn(self, headers: Mapping[str, str]) -> None:
        limits = self.provider.limits(headers, self.subject.wall())
        if limits is EMPTY:
            return
        tokens = limits.tokens if limits.tokens.remaining is not None else limits.input_tokens
        if limits.requests.remaining is not None or tokens.remaining is not None:
            self.subject.pool.learn(self.attempt, self.subject.clock(), limits.requests, tokens)
            if self.observer is not None:
                self.observer.limits(limits)

    def feed(self, piece: object | None, now: float) -> None:
        """Bytes of the answer arrived; ``None``: it ended."""
        if piece is not None:
            assert isinstance(piece, bytes)
            data = piece if self._inflater is None else self._inflater.feed(piece)
            if self._body is not None:
                self._body.feed(data)
                return
            assert self.reading is not None
            self.reading.feed(data, now)
        elif self._body is not None:
            found = self._understood(self._body.bytes())
            self.answer = self._put_together(found) if isinstance(found, ChatResponse) else found
            self.enough = True
            return
        else:
            assert self.reading is not None
            self.reading.eof(now)
            self.enough = True
        if self.subject.gathers:
            self._gathered(self.reading, now)
        elif self.reading.committed:
            self.enough = True
        if self.reading.fault is not None:
            self.check()

    def _put_together(self, part: ChatResponse) -> ChatResponse | None:
        """The whole answer; ``None`` if this is a part of it and another one follows."""
        rest = self.provider.rest_of(part)
        whole = part if self._part is None else joined(self._part, part)
        if rest is None or rest == self._rest or not self._follows:  # the same again: it does not get on with it
            self._rest = None
            return whole
        self._part, self._rest = whole, rest
        return None

    def _understood(self, body: bytes) -> Response:
        """The response these bytes are.  Raises ``AttemptFailed`` if they are none."""
        provider, subject, status = self.provider, self.subject, self.status or 0
        wall = subject.wall()
        result: Response | Fault
        if subject.streaming and not 200 <= status < 300:
            result = provider.fault(status, self._headers, body, wall)
        elif isinstance(subject.request, EmbedRequest):
            result = provider.read_embed(status, self._headers, body, wall)
        else:
            result = provider.read(status, self._headers, body, wall)
        if isinstance(result, Fault):
            raise AttemptFailed(result)
        if isinstance(result, EmbedResponse):
            assert isinstance(subject.request, EmbedRequest)
            return one_each(result, subject.request, status)
        if subject.streaming:
            message = "a whole answer came where a stream was asked for"
            raise AttemptFailed(Fault(FaultKind.INVALID_RESPONSE, status=status, message=message))
        if subject.forwards and self._forwards:
            result.body = body
        return result


class CodeExchange(Exchange[Custom]):
    """With a provider the user wrote: its pieces are text, events, or one whole response."""

    by_code: ClassVar[bool] = True
    reading: Reading | None
    answer: Response | None
    enough: bool

    def started(self) -> object:
        """Call the user's code.  What it returns may have to be awaited."""
        request = self.subject.request
        if isinstance(request, EmbedRequest):
            return self.provider.start_embed(request, self.attempt.timeout)
        request = self._request()
        return self.provider.start(request, self.attempt.timeout, stream=self.subject.streaming)

    def head(self, status: int | None, headers: Mapping[str, str]) -> None:
        """The user's code returned something."""
        self.reading = self._reading(None, None)

    def feed(self, piece: object | None, now: float) -> None:
        """It returned or yielded something; ``None``: there is no more, which without an exception is a whole
        answer."""
        reading = self.reading
        assert reading is not None
        if isinstance(piece, EmbedResponse) or isinstance(self.subject.request, EmbedRequest):
            self.answer, self.enough = self._vectors(piece), True
        elif isinstance(piece, ChatResponse):
            if self.subject.streaming:
                reading.given(replay(piece), now)
            else:
                self.answer, self.enough = piece, True
        elif isinstance(piece, str):
            if piece:
                reading.given((TextDelta(piece),), now)
        elif isinstance(piece, StreamEvent):
            reading.given((piece,), now)
        elif piece is not None:
            raise TypeError(f"a provider's stream must yield text or stream events, not {type(piece).__name__}")
        elif not reading.ended and reading.fault is None:
            reading.given((StreamEnd(),), now)
        self.check()
        if piece is None or (self.subject.streaming and reading.committed):
            self.enough = True

    def _vectors(self, piece: object) -> EmbedResponse:
        """The answer to a request for embeddings.  Raises ``ConfigurationError`` for anything else."""
        request = self.subject.request
        if isinstance(piece, EmbedResponse) and isinstance(request, EmbedRequest):
            return one_each(piece, request, None)
        wanted = "an EmbedResponse" if isinstance(request, EmbedRequest) else "text or a ChatResponse"
        raise ConfigurationError(f"provider {self.provider.id!r} must return {wanted}, not {type(piece).__name__}")


def one_each(response: EmbedResponse, request: EmbedRequest, status: int | None) -> EmbedResponse:
    """The response, which has a vector for each text.  Raises ``AttemptFailed`` if it has not: nobody could tell which
    belongs to which."""
    if len(response.vectors) == len(request.inputs):
        return response
    message = f"{len(response.vectors)} vectors came for {len(request.inputs)} texts"
    raise AttemptFailed(Fault(FaultKind.INVALID_RESPONSE, status=status, message=message))


class FromCode:
    """What answers of the user's code have in common: nothing that HTTP has."""

    status: int | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def sever(self) -> None:
        """Nothing can be cut off."""


def begin(attempt: Attempt[Target], subject: Subject) -> HttpExchange | CodeExchange:
    """The exchange of an attempt, by the kind of its provider."""
    target = attempt.target
    if isinstance(target, HttpProvider):
        exchange = HttpExchange(attempt, target, subject)
        exchange.credential = target.held[attempt.key.number].credential
        return exchange
    return CodeExchange(attempt, target, subject)


AnyExchange: TypeAlias = HttpExchange | CodeExchange
