"""Health endpoints, statuses, logs and shared news as people write them; type checkers must accept every line."""

from __future__ import annotations

import logging
from typing import assert_type

from redis import Redis

from resilient_llm import AsyncResilientClient, ResilientClient, ResilientError
from resilient_llm.operate.endpoints import Endpoints, HttpStatus, Response, http_status
from resilient_llm.operate.logs import JsonFormatter
from resilient_llm.operate.news import NewsStatus, SharedNews, SupportsStream, share_news
from resilient_llm.operate.objectives import Objectives
from resilient_llm.providers import OpenAI


def endpoints() -> None:
    client = ResilientClient([OpenAI("gpt-5.2")])
    made = Endpoints(client, objectives=Objectives(client))
    assert_type(made.answer("/readyz", query={"route": "default"}), Response)
    Endpoints(AsyncResilientClient(pool=client.pool))


def failed(error: ResilientError) -> tuple[int, dict[str, str]]:
    status, headers = http_status(error)
    assert_type(http_status(error), HttpStatus)
    return status, headers


def logs() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())


def news(store: SupportsStream) -> None:
    client = AsyncResilientClient([OpenAI("gpt-5.2")])
    assert_type(share_news(client, "redis://127.0.0.1:6379/0", group="shop", every=0.5), SharedNews)
    share_news(client, Redis(host="127.0.0.1", socket_timeout=0.25))
    assert_type(share_news(client, store).status(), NewsStatus)
