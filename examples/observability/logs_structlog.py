"""Log lines of the library through structlog: one JSON object each, with whatever the application has bound.

The library writes to the standard library's logging; structlog formats those records as it formats its own.  Needs
``structlog``.
"""

import logging

import structlog

from resilient_llm import ResilientClient
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, Status

shared = [
    structlog.contextvars.merge_contextvars,  # what bind_contextvars() was given
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.ExtraAdder(),  # the facts of the library, which come in ``extra``
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]
handler = logging.StreamHandler()
handler.setFormatter(
    structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, structlog.processors.JSONRenderer()],
    )
)
logging.getLogger("resilient_llm").addHandler(handler)
logging.getLogger("resilient_llm").setLevel(logging.DEBUG)

with LoopbackLLM(Status(429, retry_after=30)) as busy, LoopbackLLM() as idle:
    with ResilientClient(
        [
            OpenAI("model-a", id="busy", base_url=f"{busy.url}/v1", api_key="not-a-key"),
            OpenAI("model-b", id="idle", base_url=f"{idle.url}/v1", api_key="not-a-key"),
        ]
    ) as client:
        with structlog.contextvars.bound_contextvars(http_request="GET /sky"):
            print(client.chat("Why is the sky blue?", deadline=5).text)
        print(f"its second attempt was sent as {idle.requests[0].headers['x-client-request-id']}")
