"""Keeps calls to LLM providers answered while providers fail: failover, breakers and 429-aware retry inside your
process.

::

    from resilient_llm import ResilientClient
    from resilient_llm.providers import Mistral, OpenAI

    client = ResilientClient([OpenAI("gpt-5.2"), Mistral("mistral-large-latest")])
    print(client.chat("Why is the sky blue?", deadline=20).text)
"""

from __future__ import annotations

from resilient_llm.client import (
    AsyncChatStream,
    AsyncResilientClient,
    Candidate,
    ChatStream,
    ProviderHealth,
    ResilientClient,
)
from resilient_llm.drive.core import ProviderPool
from resilient_llm.errors import (
    AllAttemptsFailed,
    AttemptRecord,
    CallFailed,
    ClientClosed,
    ConfigurationError,
    DeadlineExceeded,
    Fault,
    FaultKind,
    InvalidRequest,
    NoProviderAvailable,
    ProviderError,
    RequestRejected,
    ResilientError,
    StreamInterrupted,
)
from resilient_llm.model import ChatResponse, Message, Text, Tool

__version__ = "0.1.0"

__all__ = [
    "AllAttemptsFailed",
    "AsyncChatStream",
    "AsyncResilientClient",
    "AttemptRecord",
    "CallFailed",
    "Candidate",
    "ChatResponse",
    "ChatStream",
    "ClientClosed",
    "ConfigurationError",
    "DeadlineExceeded",
    "Fault",
    "FaultKind",
    "InvalidRequest",
    "Message",
    "NoProviderAvailable",
    "ProviderError",
    "ProviderHealth",
    "ProviderPool",
    "RequestRejected",
    "ResilientClient",
    "ResilientError",
    "StreamInterrupted",
    "Text",
    "Tool",
]
