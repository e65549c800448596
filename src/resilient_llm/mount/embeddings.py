"""A request of an SDK for embeddings as a call of ours.

Vectors of different models do not mix, so such a request becomes a call only where that cannot happen: the model's name
is a route's, or a provider of that very model is there, whose vectors those of the same ``embedding_space`` replace.
Any other is passed on to one provider, as all requests that are no model calls are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.errors import InvalidRequest
from resilient_llm.model import EmbedRequest
from resilient_llm.mount.asked import allowance_of
from resilient_llm.mount.parameters import of_call
from resilient_llm.options import CallOptions
from resilient_llm.providers.base import HttpProvider
from resilient_llm.wire import EmbedCodec, embed_codec

_PATHS: Mapping[str, str] = {
    "/embeddings": "openai_embed",
    "/v2/embed": "cohere_v2",
    ":embedContent": "gemini",
    ":batchEmbedContents": "gemini",
}
"""How the path of a request for embeddings ends, and its wire."""
_FLOATS = ["float"]


@dataclass(frozen=True, slots=True)
class AskedToEmbed:
    """One request for embeddings as the SDK means it."""

    codec: EmbedCodec
    request: EmbedRequest
    options: CallOptions


def asks_to_embed(method: str, path: str) -> bool:
    """Whether a request is for embeddings."""
    return method == "POST" and path.endswith(tuple(_PATHS))


def asked_to_embed(
    client: ResilientClient | AsyncResilientClient, http_request: Any, body: bytes
) -> AskedToEmbed | None:
    """The call that an HTTP request for embeddings stands for; ``None``: it is to be passed on as it is."""
    path: str = http_request.url.path
    if of_call(http_request.url)[0]:  # only its own vendor knows what they mean
        return None
    codec = embed_codec(next(wire for end, wire in _PATHS.items() if path.endswith(end)))
    try:
        request = codec.decode_request(body, path)
    except InvalidRequest:  # token ids, images: only their own vendor knows what they mean
        return None
    if any(extra.fields.get("embedding_types", _FLOATS) != _FLOATS for extra in request.extra):
        return None
    chosen = _chosen(client, request.model)
    if chosen is None:
        return None
    _, chosen["deadline"] = allowance_of(client, http_request)
    return AskedToEmbed(codec, request, chosen)


def _chosen(client: ResilientClient | AsyncResilientClient, model: str) -> CallOptions | None:
    """Who may answer; ``None`` if nobody has this model."""
    pool = client.pool.pool
    if model in pool.route_names:
        return {"route": model}
    there = [one for one in pool.targets(pool.route_names[0]) if isinstance(one, HttpProvider) and one.embeds]
    spaces = {one.embedding_space for one in there if one.model == model} - {None}
    found = [one.id for one in there if one.model == model or one.embedding_space in spaces]
    return {"providers": found} if any(one.model == model for one in there) else None
