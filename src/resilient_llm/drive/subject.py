"""What every attempt of one call has in common."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from resilient_llm.capability import Needs, Resumption
from resilient_llm.decide.pool import Pool
from resilient_llm.drive.reading import Reading
from resilient_llm.model import ChatRequest, ChatResponse, EmbedRequest, EmbedResponse
from resilient_llm.policy import Policies
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.custom import Custom

Target: TypeAlias = HttpProvider | Custom
Response: TypeAlias = ChatResponse | EmbedResponse
Question: TypeAlias = ChatRequest | EmbedRequest


@dataclass(slots=True)
class Subject:
    """What every attempt of one call has in common."""

    request: Question
    needs: Needs
    streaming: bool
    repeatable: bool
    policies: Policies
    pool: Pool[Target]
    clock: Callable[[], float]
    wall: Callable[[], float]
    call_id: str
    gathers: bool = False
    """The caller wants a whole answer, and the provider is asked for a stream."""
    forwards: bool = False
    """Answers of the caller's own wire are kept as they came, to be passed on so."""
    kept: Reading | None = None
    """Its stream broke, and the provider keeps the rest of it: what is read on."""
    resumption: Resumption | None = None
    """Its stream broke: how the attempts that follow are made."""
