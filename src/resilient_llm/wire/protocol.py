"""What every wire format offers: one object with both directions.

Providers encode requests and decode answers; mounts and the loopback server decode requests and encode answers.
A codec is stateless and shared; the two stream objects hold the state of one stream.  Rules all codecs keep:

* bytes in, neutral model out, and back; no I/O, no clock, no randomness;
* a field that the neutral model has no word for is kept in an :class:`~resilient_llm.model.Extra` of this wire and
  written back by the encoder of the same wire;
* what the target cannot express is either a :class:`~resilient_llm.model.Degradation` on the parts returned by
  ``encode_request`` (soft) or :class:`~resilient_llm.errors.UnsupportedFeature` (hard); nothing vanishes silently;
* undecodable input raises ``InvalidAnswer`` (answers) or ``InvalidRequest`` (requests), and nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from resilient_llm.errors import ConfigurationError, Fault, InvalidRequest
from resilient_llm.model import ChatRequest, ChatResponse, Degradation, EmbedRequest, EmbedResponse, StreamEvent
from resilient_llm.wire.kit import fields as f
from resilient_llm.wire.kit.notes import Notes, extras_for

TRAIL: Final = "resilient_llm"
"""The field of a provider's own error answer in which this library says what it tried."""
JSON_HEADERS: Final = (("content-type", "application/json"),)
"""What a wire demands that has no header of its own."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """The parts of an HTTP request that depend on the wire alone; URL base and credentials come from the provider.

    ``path`` starts with a slash and is relative to the provider's base URL; ``headers`` are those the wire itself
    demands.  The method is always POST.
    """

    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    degradations: tuple[Degradation, ...] = ()


class StreamDecoder(Protocol):
    """Bytes of one streamed answer -> events.  Any way of cutting the bytes gives the same events."""

    def feed(self, data: bytes) -> list[StreamEvent]:
        """Events completed by these bytes.  After ``StreamError`` or ``StreamBroken`` it returns nothing more."""
        ...

    def close(self) -> list[StreamEvent]:
        """The connection ended: the last events, closing with ``StreamEnd`` if the wire's terminal evidence was
        seen and ``StreamBroken`` if not.  Nothing if the stream already failed."""
        ...


class StreamEncoder(Protocol):
    """Events -> bytes of one streamed answer, such that the vendor's own SDK accepts them."""

    def feed(self, event: StreamEvent) -> bytes:
        """The frames this event completes; may be empty.  ``StreamEnd`` writes the terminator."""
        ...


class Codec(Protocol):
    """Both directions of one wire format."""

    @property
    def name(self) -> str: ...

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """A caller's request.  ``path`` matters where it carries the model or the stream switch.  Raises
        ``InvalidRequest``, also where no application speaks this wire to us (Bedrock and Ollama)."""
        ...

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
        ...

    def decode_response(self, body: bytes) -> ChatResponse:
        """A whole answer.  Raises ``InvalidAnswer`` if it is none, with the parsed payload if it was JSON."""
        ...

    def encode_response(self, response: ChatResponse) -> bytes:
        """The answer as a client of this wire expects it."""
        ...

    def stream_decoder(self) -> StreamDecoder: ...

    def stream_encoder(self, request: ChatRequest | None = None) -> StreamEncoder:
        """An encoder for one streamed answer.  ``request`` is the caller's, as far as it says how the stream shall
        look (``stream_options`` of OpenAI Chat); without it everything is written."""
        ...

    def encode_error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer in this wire's shape.  A fault with a ``body`` came on this wire: that is the
        body then, with the message in a field ``resilient_llm`` of its own."""
        ...

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        """The frame that reports an error inside a running stream of this wire."""
        ...


class EmbedCodec(Protocol):
    """Both directions of one wire's embeddings; the rules of :class:`Codec` hold."""

    @property
    def name(self) -> str: ...

    def decode_request(self, body: bytes, path: str = "") -> EmbedRequest:
        """A caller's request.  ``path`` matters where it carries the model.  Raises ``InvalidRequest``, also where no
        application speaks this wire to us (Bedrock, Ollama and Vertex)."""
        ...

    def encode_request(self, request: EmbedRequest) -> HttpRequest:
        """The request for a provider of this wire.  Raises ``UnsupportedFeature``."""
        ...

    def decode_response(self, body: bytes) -> EmbedResponse:
        """The vectors, in the order of the inputs.  Raises ``InvalidAnswer``."""
        ...

    def encode_response(self, response: EmbedResponse, request: EmbedRequest | None = None) -> bytes:
        """The answer as a client of this wire expects it.  ``request`` is the caller's, as far as it says how the
        vectors shall look (``encoding_format`` of OpenAI, one text or a batch at Gemini).  Raises
        ``ConfigurationError`` where requests cannot be read."""
        ...


# --- codecs made of functions: every wire's body is a JSON object ------------------------------------------


def only_written(_fields: f.Fields, _path: str) -> NoReturn:
    """The reader of requests that no application sends to us: those of wires that cannot be mounted."""
    raise InvalidRequest("requests of this wire are written here and not read: no SDK that can be mounted sends them")


def only_read(_response: EmbedResponse, _request: EmbedRequest | None) -> NoReturn:
    """The writer of answers that nobody asks us for."""
    raise ConfigurationError(
        "answers of this wire are read here and not written: no SDK that can be mounted reads them"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonCodec:
    """See :class:`Codec`, also for what each method does.

    The functions that read raise :class:`~resilient_llm.wire.kit.fields.Malformed` for a field of the wrong type.
    ``read_request`` is given the path too, ``write_stream_error`` writes the frame around what ``write_error`` wrote,
    and ``make_encoder`` is given the caller's request, if there is one.
    """

    name: str
    read_request: Callable[[f.Fields, str], ChatRequest] = only_written
    write_request: Callable[[ChatRequest], HttpRequest]
    read_answer: Callable[[f.Fields], ChatResponse]
    write_answer: Callable[[ChatResponse], f.Fields]
    write_error: Callable[[Fault, str], f.Fields]
    write_stream_error: Callable[[f.Fields], bytes]
    make_decoder: Callable[[], StreamDecoder]
    make_encoder: Callable[[ChatRequest | None], StreamEncoder]

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        return f.reading_request(self.name, body, lambda fields: self.read_request(fields, path))

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        return self.write_request(request)

    def decode_response(self, body: bytes) -> ChatResponse:
        return f.reading_answer(self.name, body, self.read_answer)

    def encode_response(self, response: ChatResponse) -> bytes:
        return f.dump(self.write_answer(response))

    def stream_decoder(self) -> StreamDecoder:
        return self.make_decoder()

    def stream_encoder(self, request: ChatRequest | None = None) -> StreamEncoder:
        return self.make_encoder(request)

    def encode_error(self, fault: Fault, message: str) -> bytes:
        return f.dump(self._error(fault, message))

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        return self.write_stream_error(self._error(fault, message))

    def _error(self, fault: Fault, message: str) -> f.Fields:
        if fault.body is None:
            return self.write_error(fault, message)
        return {**f.as_object(json.loads(fault.body)), TRAIL: message}


class AnswerModule(Protocol):
    """A wire's module of whole answers."""

    def decode_response(self, raw: f.Fields, /) -> ChatResponse: ...
    def encode_response(self, response: ChatResponse, /) -> f.Fields: ...
    def encode_error(self, fault: Fault, message: str, /) -> f.Fields: ...


class StreamModule(Protocol):
    """A wire's module of streams."""

    def Decoder(self) -> StreamDecoder: ...  # noqa: N802 - the class
    def Encoder(self) -> StreamEncoder: ...  # noqa: N802 - the class
    def error_frame(self, error: f.Fields, /) -> bytes: ...


def codec_of(
    name: str,
    write_request: Callable[[ChatRequest], HttpRequest],
    answer: AnswerModule,
    stream: StreamModule,
    read_request: Callable[[f.Fields, str], ChatRequest] = only_written,
) -> JsonCodec:
    """The codec of a wire that has but one."""
    return JsonCodec(
        name=name,
        read_request=read_request,
        write_request=write_request,
        read_answer=answer.decode_response,
        write_answer=answer.encode_response,
        write_error=answer.encode_error,
        write_stream_error=stream.error_frame,
        make_decoder=stream.Decoder,
        make_encoder=lambda _asked: stream.Encoder(),
    )


@dataclass(frozen=True, slots=True)
class JsonEmbedCodec:
    """See :class:`EmbedCodec`.  The functions are as those of :class:`JsonCodec`, but ``write_request`` is given the
    fields that only this wire knows and gives path and body; ``write_answer`` is given the caller's request, if any."""

    name: str
    write_request: Callable[[EmbedRequest, f.Fields], tuple[str, f.Fields]]
    read_answer: Callable[[f.Fields], EmbedResponse]
    read_request: Callable[[f.Fields, str], EmbedRequest] = only_written
    write_answer: Callable[[EmbedResponse, EmbedRequest | None], f.Fields] = only_read

    def decode_request(self, body: bytes, path: str = "") -> EmbedRequest:
        return f.reading_request(self.name, body, lambda fields: self.read_request(fields, path))

    def encode_request(self, request: EmbedRequest) -> HttpRequest:
        notes = Notes(self.name)
        path, body = self.write_request(request, extras_for(self.name, request.extra, notes))
        return HttpRequest(path, f.dump_request(body), JSON_HEADERS, notes.all())

    def decode_response(self, body: bytes) -> EmbedResponse:
        return f.reading_answer(self.name, body, self.read_answer)

    def encode_response(self, response: EmbedResponse, request: EmbedRequest | None = None) -> bytes:
        return f.dump(self.write_answer(response, request))
