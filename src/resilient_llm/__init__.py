"""Keeps calls to LLM providers answered while providers fail: failover, breakers and 429-aware retry in your process.

::

    from resilient_llm import ResilientClient
    from resilient_llm.providers import Mistral, OpenAI

    client = ResilientClient([OpenAI("gpt-5.2"), Mistral("mistral-large-latest")])
    print(client.chat("Why is the sky blue?", deadline=20).text)

Importing the package costs next to nothing: each name below is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.client import (
        AsyncChatStream,
        AsyncResilientClient,
        Candidate,
        ChatStream,
        ProviderHealth,
        ResilientClient,
    )
    from resilient_llm.drive.core import (
        ProviderPool,
    )
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
    from resilient_llm.model import (
        ChatResponse,
        Message,
        Text,
        Tool,
    )
    from resilient_llm.mount import mount
    from resilient_llm.operate.settings.loading import load
    from resilient_llm.version import __version__

__all__ = [
    "__version__",
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
    "load",
    "mount",
]

_HOMES = {
    "client": (
        "AsyncChatStream",
        "AsyncResilientClient",
        "Candidate",
        "ChatStream",
        "ProviderHealth",
        "ResilientClient",
    ),
    "drive.core": ("ProviderPool",),
    "errors": (
        "AllAttemptsFailed",
        "AttemptRecord",
        "CallFailed",
        "ClientClosed",
        "ConfigurationError",
        "DeadlineExceeded",
        "Fault",
        "FaultKind",
        "InvalidRequest",
        "NoProviderAvailable",
        "ProviderError",
        "RequestRejected",
        "ResilientError",
        "StreamInterrupted",
    ),
    "model": (
        "ChatResponse",
        "Message",
        "Text",
        "Tool",
    ),
    "operate.settings.loading": ("load",),
    "version": ("__version__",),
}
"""Module -> the names it is the home of."""


def __getattr__(name: str) -> object:
    if name == "mount":  # the module itself, which can be called
        return import_module(f"{__name__}.mount")
    for module, names in _HOMES.items():
        if name in names:
            value: object = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
