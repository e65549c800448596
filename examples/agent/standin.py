"""Two vendors on this machine that play the model, the first of which dies after its first answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from resilient_llm.model import ToolCall
from resilient_llm.providers import Anthropic, HttpProvider, OpenAI
from resilient_llm.testing import LoopbackLLM, Reply, Status


def calls(name: str, **arguments: str) -> Reply:
    return Reply("", tool_calls=(ToolCall(f"call_{name}", name, json.dumps(arguments)),), finish_reason="tool_calls")


@contextmanager
def standins() -> Iterator[list[HttpProvider]]:
    with (
        LoopbackLLM(calls("find_flats", city="Oslo"), default=Status(503)) as first,
        LoopbackLLM(calls("calculate", expression="1450 + 1800"), "Together they cost 3250 a month.") as second,
    ):
        yield [
            OpenAI("gpt-5.2", base_url=f"{first.url}/v1", api_key="none"),
            Anthropic("claude-sonnet-5", base_url=second.url, api_key="none"),
        ]
