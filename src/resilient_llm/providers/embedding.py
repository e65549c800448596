"""How much a request for embeddings may hold at each vendor, and the parts that texts are sent in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from resilient_llm.errors import InvalidRequest
from resilient_llm.model import EmbedRequest, EmbedResponse, Usage


class EmbedLimits(NamedTuple):
    """What one request may hold; ``None``: no limit is documented."""

    texts: int | None = None
    tokens: int | None = None
    """Of all texts together."""


LIMITS: Final[Mapping[str, EmbedLimits]] = {
    "openai": EmbedLimits(2048, 300_000),
    "azure_openai": EmbedLimits(2048, 300_000),
    "cohere": EmbedLimits(96),
    "gemini": EmbedLimits(100),
    "vertex_ai": EmbedLimits(250, 20_000),
    "mistral": EmbedLimits(None, 16_000),
    "bedrock": EmbedLimits(1),
}
"""By vendor, from their API references of 2026-10."""

_SPARE: Final = 0.9
"""Share of a limit in tokens that is used: they are estimated."""


def limits_of(vendor: str, model: str, texts: int | None) -> EmbedLimits:
    """The limits of a model at a vendor; ``texts``: the user's own limit, ``None``: the documented one."""
    found = LIMITS.get(vendor, EmbedLimits())
    if vendor == "vertex_ai" and model.startswith("gemini-embedding"):
        found = EmbedLimits(1)
    return found if texts is None else found._replace(texts=texts)


def smallest(limits: Iterable[EmbedLimits]) -> EmbedLimits:
    """Limits within which a request fits everybody."""
    known = list(limits)
    texts = [one.texts for one in known if one.texts is not None]
    tokens = [one.tokens for one in known if one.tokens is not None]
    return EmbedLimits(min(texts, default=None), min(tokens, default=None))


def text_tokens(text: str) -> int:
    """About how many tokens a text has, rather too many: a third of its bytes, which holds for all scripts."""
    return len(text.encode("utf-8", "replace")) // 3 + 1


def parts_of(request: EmbedRequest, limits: EmbedLimits) -> list[EmbedRequest]:
    """The requests in which these texts are sent, in order; one that is too large for itself stays alone."""
    most_texts = limits.texts or len(request.inputs)
    most_tokens = float("inf") if limits.tokens is None else limits.tokens * _SPARE
    parts: list[list[str]] = [[]]
    tokens = 0
    for text in request.inputs:
        more = text_tokens(text)
        if parts[-1] and (len(parts[-1]) >= most_texts or tokens + more > most_tokens):
            parts.append([])
            tokens = 0
        parts[-1].append(text)
        tokens += more
    if len(parts) == 1:
        return [request]
    key = request.idempotency_key
    if key is not None and len(key) > 240:
        raise InvalidRequest("idempotency_key must have at most 240 characters for texts that are sent in parts")
    return [
        EmbedRequest(
            tuple(texts), request.model, request.dimensions, request.extra, None if key is None else f"{key}-{number}"
        )
        for number, texts in enumerate(parts)
    ]


def joined(answers: Sequence[EmbedResponse]) -> EmbedResponse:
    """The answers to the parts as one: vectors in order, usage summed, all attempts.

    ``provider`` and ``model`` are those of the first part, whose vectors mix with the others'; ``raw`` is ``None``.
    """
    first = answers[0]
    if len(answers) == 1:
        return first
    used = [answer.usage for answer in answers if answer.usage is not None]
    total = Usage(
        sum(one.input_tokens for one in used),
        sum(one.output_tokens for one in used),
        total_tokens=sum(one.total_tokens for one in used),
    )
    return EmbedResponse(
        tuple(vector for answer in answers for vector in answer.vectors),
        first.model,
        total if used else None,
        None,
        first.provider,
        tuple(record for answer in answers for record in answer.attempts),
    )
