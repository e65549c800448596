"""The most that a request can cost: bounds that hold whatever the vendor's tokenizer does.

No tokenizer makes more tokens of a text than it has bytes (each token is at least one), so bytes bound the prompt.  For
ordinary English that is about four times too many; the price of a bound that holds.  An answer is bounded by
``max_tokens``, which counts reasoning too.
"""

from __future__ import annotations

from typing import Final

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import ChatRequest, EmbedRequest, Media, Part, Text, ToolCall, ToolResult

_PER_MESSAGE: Final = 16
"""Tokens that a vendor puts around a message."""
_TOOLS: Final = 1000
"""Tokens of a vendor's own instructions where there are tools or an output format."""


def most_tokens(request: ChatRequest | EmbedRequest) -> tuple[int, int]:
    """The most tokens a request can have, prompt and answer.

    Raises ``InvalidRequest`` where there is no bound: no ``max_tokens``, or media, which vendors count in ways of their
    own.
    """
    if isinstance(request, EmbedRequest):
        return sum(len(text.encode()) + _PER_MESSAGE for text in request.inputs), 0
    if request.max_tokens is None:
        raise InvalidRequest("max_cost= needs max_tokens=: an answer without a limit has no highest cost")
    prompt = sum(_PER_MESSAGE + sum(map(_bytes, message.parts)) for message in request.messages)
    for more in (request.tools, request.output, request.extra, request.source):
        if more:
            prompt += _TOOLS + len(repr(more).encode())
    return prompt, request.max_tokens * (request.n or 1)


def _bytes(part: Part) -> int:
    if isinstance(part, Text):
        return len(part.text.encode())
    if isinstance(part, Media):
        raise InvalidRequest(
            f"max_cost= cannot bound a call with media ({part.kind}): vendors count it in their own ways"
        )
    if isinstance(part, ToolCall):
        return len(part.name.encode()) + len(part.arguments.encode()) + _PER_MESSAGE
    if isinstance(part, ToolResult):
        return _PER_MESSAGE + sum(
            _bytes(one) if isinstance(one, Text | Media) else len(repr(one)) for one in part.parts
        )
    return len(repr(part).encode())
