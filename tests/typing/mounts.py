"""What type checkers see of ``mount``: the SDK's own class and its own arguments."""

from __future__ import annotations

from typing import assert_type

import httpx

from resilient_llm import AsyncResilientClient, ResilientClient, mount
from resilient_llm.mount import Transport


class Sdk:
    """Looks like the client of an SDK."""

    def __init__(self, *, api_key: str | None = None, timeout: float = 600.0) -> None: ...


def mounted(client: ResilientClient, other: AsyncResilientClient) -> None:
    """A class goes in, its object comes out."""
    assert_type(mount(Sdk, client), Sdk)
    assert_type(mount(Sdk, other, timeout=3.0), Sdk)
    mount(Sdk, client, tiemout=3.0)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def by_hand(client: ResilientClient) -> None:
    """A transport for HTTP clients of one's own."""
    transport = mount.transport(client)
    assert_type(transport, Transport)
    httpx.Client(transport=transport)
    httpx.AsyncClient(transport=transport)
