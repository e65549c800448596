"""What the person who runs a service needs: settings, secrets, alerts, objectives, health endpoints, cost.

Nothing here is imported by the client, and nothing runs unless it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resilient_llm.operate.settings.loading import load

__all__ = ["load"]


def __getattr__(name: str) -> object:
    if name == "load":
        from resilient_llm.operate.settings.loading import load  # noqa: PLC0415 - not for those who want another part

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
