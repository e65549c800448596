"""Caches of prompts: marks up to where one is worth keeping, and keys that lead to the server that keeps it."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from resilient_llm import model as m
from resilient_llm.wire.kit import fields as f

MARK: Final[f.Fields] = {"cache_control": {"type": "ephemeral"}}
"""Anthropic's mark, beside the last thing to be cached; OpenRouter's too."""

_SIMPLE = re.compile(r"[A-Za-z0-9._:-]{1,64}")


def sent_key(key: str) -> str:
    """A key as every vendor takes it, in a body and in a header: at most 64 simple characters."""
    return key if _SIMPLE.fullmatch(key) else hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def derived_key(request: m.ChatRequest) -> str:
    """A key for all requests that begin alike: with the same tools and the same system prompt."""
    system = [message.text for message in request.messages if message.role in {"system", "developer"}]
    tools = [[tool.name, tool.description, tool.parameters] for tool in request.tools]
    return hashlib.sha256(f.dump_request({"system": system, "tools": tools})).hexdigest()
