"""Health endpoints for the application that hosts a client, and the HTTP status for each error of a call.

::

    from resilient_llm.operate.endpoints import Endpoints, http_status

    endpoints = Endpoints(client)
    app.mount("/llm", endpoints.asgi)     # /llm/livez, /llm/readyz, /llm/snapshot, and /llm/ for people

Nothing here needs a web framework, sends anything to a provider, or holds a secret.
"""

from __future__ import annotations

from resilient_llm.operate.endpoints.served import Endpoints, Response
from resilient_llm.operate.endpoints.snapshot import SupportsStatus
from resilient_llm.operate.endpoints.statuses import HttpStatus, http_status

__all__ = ["Endpoints", "HttpStatus", "Response", "SupportsStatus", "http_status"]
