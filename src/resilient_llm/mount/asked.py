"""A request of an SDK as a call of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.model import ChatRequest, Degradation, Extra
from resilient_llm.mount.history import without_foreign_thoughts
from resilient_llm.mount.parameters import of_call
from resilient_llm.mount.paths import MISTRAL, Sdk
from resilient_llm.options import ChatOptions
from resilient_llm.providers import Mistral
from resilient_llm.wire import Codec, codec
from resilient_llm.wire.openai_chat import codec_for

_PROFILE = "anthropic-user-profile-id"
"""Says for whom a request is made: ``user_profile_id`` of Anthropic's SDK."""
_OWN_HEADERS: Mapping[str, tuple[str, ...]] = {
    "anthropic_messages": ("anthropic-beta", _PROFILE),
    "openai_chat": ("openai-beta",),
    "openai_responses": ("openai-beta",),
}
"""Headers of the caller that belong to a wire, and go to providers of that wire and to nobody else."""
_STORE = "store"
"""Asks OpenAI to keep the answer, which is the same without; agents send it with every request.  It goes on in the
caller's own body, and keeps nobody else from answering."""
_MISTRAL: Codec = codec_for(Mistral.dialect)


@dataclass(frozen=True, slots=True)
class Asked:
    """One model call as the SDK means it; ``codec`` is what the SDK speaks."""

    codec: Codec
    request: ChatRequest
    options: ChatOptions
    deadline: float
    """Seconds the client allows, whatever the SDK's timeout; infinite for no limit."""
    withheld: tuple[str, ...] = ()
    """Parameters of its URL that are told to nobody."""

    def lost(self, wire: str | None) -> tuple[Degradation, ...]:
        """What a provider of this wire was not told, besides what the answer says itself."""
        source = self.request.source
        withheld = tuple([Degradation(name, "left out") for name in self.withheld])
        if wire == self.codec.name or source is None:
            return withheld
        stored = [_STORE] if source.fields.get(_STORE) else []
        named = ["user_profile_id"] if any(name == _PROFILE for name, _ in self.request.headers) else []
        return withheld + tuple([Degradation(name, "left out") for name in stored + named])

    @property
    def mistral(self) -> bool:
        """Whether it comes from Mistral's SDK, whose streams differ from OpenAI's."""
        return self.codec is _MISTRAL


def spoken_by(sdk: Sdk, wire: str) -> Codec:
    """What an SDK speaks on a wire."""
    return _MISTRAL if sdk is MISTRAL else codec(wire)


def asked(
    client: ResilientClient | AsyncResilientClient, spoken: Codec, http_request: Any, path: str, body: bytes
) -> Asked:
    """The call that an HTTP request of an SDK stands for.  Raises ``InvalidRequest`` for one that is none.

    The model's name chooses a route; a name that is none goes to the default route.
    """
    given: Mapping[str, str] = http_request.headers
    request = without_foreign_thoughts(spoken.decode_request(body, path))
    for extra in request.extra:
        if _STORE in extra.fields:
            request = replace(request, extra=tuple(map(_without_store, request.extra)))
        if extra.fields.get("background") is True:
            request = replace(request, allow_empty=True)  # the answer is written later; this one says under which id
    own = tuple((name, given[name]) for name in _OWN_HEADERS.get(spoken.name, ()) if name in given)
    key = given["idempotency-key"] if "idempotency-key" in given else None  # noqa: SIM401 - get() is slow
    query, withheld = of_call(http_request.url)
    if own or key or query or spoken is _MISTRAL:
        source = request.source
        if spoken is _MISTRAL and source is not None:
            source = Extra(Mistral.source_wire, source.fields)  # nobody else takes it as it is
        request = replace(request, headers=own, query=query, idempotency_key=key, source=source)
    allowance, deadline = allowance_of(client, http_request)
    options: ChatOptions = {"deadline": deadline}
    if (client.defaults.get("on_break") or client.pool.policies.stream.on_break) == "restart":
        options["on_break"] = "verify"  # no SDK can be told to forget what it has shown
    if request.model in client.pool.pool.route_names:
        options["route"] = request.model
    return Asked(spoken, request, options, allowance, withheld)


def allowance_of(client: ResilientClient | AsyncResilientClient, http_request: Any) -> tuple[float, float | None]:
    """The seconds the client allows (infinite for no limit), and the call's deadline, which is no later than the SDK's
    timeout (``None`` for no limit)."""
    allowed = client.defaults.get("deadline", client.pool.allowance)
    allowance = math.inf if allowed is None else allowed
    deadline = min(allowance, _timeout(http_request.extensions))
    return allowance, deadline if deadline < math.inf else None


def _without_store(extra: Extra) -> Extra:
    return Extra(extra.wire, {name: value for name, value in extra.fields.items() if name != _STORE})


def _timeout(extensions: Mapping[str, object]) -> float:
    """The SDK's timeout: how long it waits for the next bytes.  Infinite if it has none."""
    timeouts = extensions.get("timeout")
    read = cast("Mapping[str, object]", timeouts).get("read") if isinstance(timeouts, Mapping) else None
    return float(read) if isinstance(read, int | float) and read > 0 else math.inf
