"""OpenAI Chat Completions, and the many vendors who speak it with an accent.

``CODEC`` speaks as OpenAI does; ``OpenAIChat(Dialect(...))`` as somebody else.  Every codec understands all accents.
"""

from __future__ import annotations

from collections.abc import Mapping

from resilient_llm.errors import Fault
from resilient_llm.model import ChatRequest, ChatResponse, Message, Tool
from resilient_llm.wire import _openai_answer as answers
from resilient_llm.wire import _openai_request as requests
from resilient_llm.wire import sse
from resilient_llm.wire._openai_request import WIRE, Dialect
from resilient_llm.wire._openai_stream import ChatStreamDecoder, ChatStreamEncoder
from resilient_llm.wire.codec import HttpRequest

__all__ = ["CODEC", "Dialect", "OpenAIChat"]


class OpenAIChat:
    """The codec for one dialect."""

    __slots__ = ("_dialect",)

    def __init__(self, dialect: Dialect | None = None) -> None:
        self._dialect = dialect or Dialect()

    @property
    def name(self) -> str:
        return WIRE

    @property
    def dialect(self) -> Dialect:
        return self._dialect

    def decode_request(self, body: bytes, path: str = "") -> ChatRequest:
        """A caller's request.  Raises ``InvalidRequest``."""
        return requests.decode_request(body, self._dialect)

    def encode_request(self, request: ChatRequest) -> HttpRequest:
        """The request for a vendor.  Raises ``UnsupportedFeature``."""
        return requests.encode_request(request, self._dialect)

    def decode_response(self, body: bytes) -> ChatResponse:
        """A whole answer.  Raises ``InvalidAnswer``, also for a success status around an error."""
        return answers.decode_response(body, self._dialect)

    def encode_response(self, response: ChatResponse) -> bytes:
        """The answer as a client of this wire expects it."""
        return answers.encode_response(response, self._dialect)

    def stream_decoder(self) -> ChatStreamDecoder:
        return ChatStreamDecoder(self._dialect)

    def stream_encoder(
        self, request: ChatRequest | None = None, *, include_usage: bool | None = None
    ) -> ChatStreamEncoder:
        """``include_usage``: whether token counts are sent; ``None``: if ``request``, the caller's, asked for them."""
        if include_usage is None:
            include_usage = request is None or requests.wants_usage(request)
        return ChatStreamEncoder(self._dialect, include_usage)

    def encode_error(self, fault: Fault, message: str) -> bytes:
        """The body of an error answer."""
        return answers.encode_error(fault, message)

    def encode_stream_error(self, fault: Fault, message: str) -> bytes:
        """The frame that ends a stream with an error; the vendor's SDK raises it."""
        return sse.encode(answers.encode_error(fault, message))


CODEC = OpenAIChat()
"""OpenAI's own."""


def decode_message(fields: Mapping[str, object]) -> Message:
    """One message in OpenAI's shape, the lingua franca of applications.  Unknown fields are kept."""
    return requests.decode_message(dict(fields), CODEC.dialect)


def decode_tool(fields: Mapping[str, object]) -> Tool:
    """One function tool in OpenAI's shape."""
    return requests.decode_tool(dict(fields))
