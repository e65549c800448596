"""The providers of a mounted client."""

from __future__ import annotations

from resilient_llm.client import AsyncResilientClient, ResilientClient
from resilient_llm.providers.base import HttpProvider


def provider_named(client: ResilientClient | AsyncResilientClient, name: str | None) -> HttpProvider | None:
    """The provider with this id; ``None`` for code of the user's, and for nobody."""
    targets = client.pool.pool.targets()
    return next((one for one in targets if one.id == name and isinstance(one, HttpProvider)), None)


def wire_of_provider(client: ResilientClient | AsyncResilientClient, name: str | None) -> str | None:
    """Its wire; ``None`` for one that speaks none."""
    provider = provider_named(client, name)
    return None if provider is None else provider.wire
