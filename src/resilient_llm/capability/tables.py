"""What is known about wires, vendors and models: data with the date it was written.

:data:`WIRES` is checked against the codecs by a test; :data:`VENDORS` and :data:`MODELS` age, so a user's
``capabilities=`` goes before them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from resilient_llm.capability.needs import Need
from resilient_llm.wire.settings import HARD, SOFT, TABLES

Support: TypeAlias = Literal["full", "changed", "left_out", "none"]
"""``full``; ``changed``: the codec says it in other words or leaves it out, and records that; ``left_out``: it is taken
out of the request, and that is recorded; ``none``: the provider cannot serve a request that needs it."""

WRITTEN: Final = "2026-11-28"
"""When the tables about vendors and models were last looked at."""

_TEXT_AND_IMAGES: Mapping[Need, Support] = {
    **dict.fromkeys(("audio", "audio_url", "video", "video_url", "document", "document_url", "file_id"), "none"),
    **dict.fromkeys(("media_in_tool_result", "opaque"), "none"),
    **dict.fromkeys(("tool.strict", "tool_result.is_error", "tool_choice.allowed"), "changed"),
}

_CONTENT: Final[Mapping[str, Mapping[Need, Support]]] = {
    "openai_chat": {
        **dict.fromkeys(("audio_url", "video", "video_url", "document_url"), "none"),
        **dict.fromkeys(("media_in_tool_result", "tool_result.is_error", "opaque"), "changed"),
        "top_k": "changed",  # some vendors' servers have it
    },
    "openai_responses": {
        **dict.fromkeys(("audio_url", "video", "video_url"), "none"),
        **dict.fromkeys(("tool_result.is_error", "opaque"), "changed"),
    },
    "anthropic_messages": {
        **dict.fromkeys(("audio", "audio_url", "video", "video_url"), "none"),
        **dict.fromkeys(("json_object", "opaque", "tool_choice.allowed", "reasoning"), "changed"),
    },
    "gemini": {
        **dict.fromkeys(("tool.strict", "media_in_tool_result", "reasoning", "tool_choice.allowed"), "changed"),
        "opaque": "none",
    },
    "bedrock_converse": {
        **dict.fromkeys(("image_url", "audio_url", "video_url", "document_url", "file_id"), "none"),
        **dict.fromkeys(("json_object", "opaque", "tool_choice.allowed", "tool_choice.none", "reasoning"), "changed"),
    },
    "cohere_v2": {**_TEXT_AND_IMAGES, "tool_choice.name": "changed", "reasoning": "changed"},
    "ollama": {
        **_TEXT_AND_IMAGES,
        **dict.fromkeys(("tool_choice.required", "tool_choice.name", "image_url"), "none"),
        "tool_choice.none": "changed",
    },
}
"""Wire -> what of a conversation and its tools it cannot say as it was meant."""

_LOSSES: Final[Mapping[str, Support]] = {HARD: "none", SOFT: "changed"}

WIRES: Final[Mapping[str, Mapping[Need, Support]]] = {
    wire: {**{name: _LOSSES[place] for name, place in table.items() if place in _LOSSES}, **_CONTENT[wire]}
    for wire, table in TABLES.items()
}
"""Wire -> what it cannot say as it was meant, settings included; everything else is ``full``."""


@dataclass(frozen=True, slots=True)
class Row:
    """What is known about models whose name ``pattern`` is found in, on ``vendors`` (empty: wherever they run)."""

    pattern: str
    support: Mapping[Need, Support]
    why: str
    vendors: tuple[str, ...] = ()


_NO_SAMPLING: Mapping[Need, Support] = {"temperature": "left_out", "top_p": "left_out", "top_k": "left_out"}

VENDORS: Final[Mapping[str, Mapping[Need, Support]]] = {
    "groq": {"n": "none", "logprobs": "none", "top_logprobs": "none"},
    "deepseek": {"json_schema": "none", "image": "none"},
    "perplexity": {"tools": "none"},
    "mistral": {"document_url": "full", "file_id": "none"},
    "openrouter": {"video": "full", "video_url": "full", "document_url": "full"},
    "vllm": {"audio_url": "full", "video": "full", "video_url": "full"},
}
"""Vendor -> what it refuses although its wire has a word for it, or takes although others on its wire do not."""

MODELS: Final[tuple[Row, ...]] = (
    Row(
        r"claude-(?:opus|sonnet|haiku)-(?:4-[6-9]|4-1\d|[5-9])(?!\d)",
        {"prefill": "none"},
        "Claude since 4.6 answers a conversation that ends in the assistant's words with a 400",
    ),
    Row(
        r"claude-(?:opus|sonnet|haiku)-(?:4-[7-9]|4-1\d|[5-9])(?!\d)",
        _NO_SAMPLING,
        "Claude since 4.7 rejects sampling parameters",
    ),
    Row(
        r"gemini-3\.6-flash|gemini-3\.5-flash-lite",
        {"prefill": "none"},
        "Gemini 3.6 Flash and 3.5 Flash-Lite answer a conversation that ends in the model's words with a 400",
    ),
    Row(
        r"(?:^|/)(?:o[134](?:-mini|-pro)?|gpt-5(?:-mini|-nano)?)(?:$|-20\d\d)",
        {**_NO_SAMPLING, "frequency_penalty": "left_out", "presence_penalty": "left_out", "logprobs": "none"},
        "OpenAI's reasoning models take the default sampling only",
        ("openai", "azure_openai"),
    ),
)
"""Rows about models; all that fit apply, the last one first."""

CACHE_SECONDS: Final[Mapping[str, float]] = {
    **dict.fromkeys(("openai", "azure_openai", "anthropic", "bedrock"), 300.0),
    "openrouter": 600.0,
}
"""Vendor -> for how long the beginning of a prompt is cached at least after it was last used, where that is documented.
Longer there is no reason to stay with one.

Looked up on 2026-11-28: OpenAI's and Azure's guides to prompt caching (5 to 10 minutes without use, unless
``prompt_cache_retention`` is ``24h``), Anthropic's and Bedrock's (5 minutes, unless a mark says ``1h``), OpenRouter's
(its sessions stay with one provider for 10 minutes without use).  xAI, Fireworks, Mistral and DeepSeek say
nothing in numbers."""

_HALF_AN_HOUR = re.compile(r"gpt-(?:5\.(?:[6-9]|[1-9]\d)|[6-9](?!\d))")
"""OpenAI's models that keep a prompt for at least 30 minutes (``prompt_cache_options.ttl``, reference of 2026-11)."""


def cache_seconds(vendor: str, model: str) -> float | None:
    """For how long a vendor caches the beginning of a prompt at least, in seconds after it was last used; ``None``: it
    does not say."""
    if vendor == "openai" and _HALF_AN_HOUR.search(model):
        return 1800.0
    return CACHE_SECONDS.get(vendor)


LEFT_OUT_IF_REFUSED: Final = frozenset(
    {"seed", "user", "reasoning", "tool.strict", "frequency_penalty", "presence_penalty", *_NO_SAMPLING}
)
"""What a provider that refuses it is asked without: the answer is of the same kind.  Whoever refuses anything else is
not asked."""
