"""How an attempt that failed travels from the place that notices to the loop that decides."""

from __future__ import annotations

from resilient_llm.errors import Fault


class AttemptFailed(Exception):
    """An attempt failed, and this is what it means.  Never leaves the driver."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message or str(fault.kind))
        self.fault = fault
