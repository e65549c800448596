"""What a provider says about itself when it rejects a request."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from resilient_llm.capability.needs import Need
from resilient_llm.errors import Fault, FaultKind, FaultScope

_SETTINGS = ("max_tokens", "seed", "user", "temperature", "top_p", "top_k", "frequency_penalty", "presence_penalty")

_PARAMETERS: Mapping[str, Need] = {
    **{name: name for name in (*_SETTINGS, "n", "logprobs", "top_logprobs", "stop", "tools", "parallel_tool_calls")},
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "stop_sequences": "stop",
    "topp": "top_p",
    "topk": "top_k",
    "tool_choice": "tool_choice.required",
    "reasoning": "reasoning",
    "reasoning_effort": "reasoning",
    "reasoning.effort": "reasoning",
    "thinking": "reasoning",
    "text.format": "json_schema",
    "response_format": "json_schema",
    "output_config.format": "json_schema",
    "json_schema": "json_schema",
}
"""A vendor's name of a parameter -> the feature."""

_NAMED = (
    r"(?i)unsupported (?:parameter|value|argument)s?:? *['`\"\[]*([\w.]+)"
    r"|['`\"]([\w.]+)['`\"]:? (?:is|are) (?:deprecated|not supported|unsupported|not available)[^.]* "
    r"(?:for|by|with|on|in) (?:this|the|your) (?:model|endpoint|deployment)"
    r"|(?:does not|doesn't) support (?:the )?(?:parameter|argument)s?:? *['`\"\[]*([\w.]+)"
    r"|['`\"]?([\w.]+)['`\"]?: extra inputs are not permitted"
)
_TEXTS: tuple[tuple[str, Need], ...] = (
    (
        r"(?i)does not support assistant message prefill|ending with a model turn are not supported"
        r"|conversation must end with a user message",
        "prefill",
    ),
    (
        r"(?i)does(?: not|n't) support (?:tools|tool use|tool calling|function calling)|tool use is not supported",
        "tools",
    ),
    (r"(?i)does(?: not|n't) support (?:image|vision)|image input is not (?:supported|enabled)", "image"),
)
"""What vendors say of a model that cannot do something."""


def refusal(fault: Fault) -> Need | None:
    """The feature a rejected request was told to be without; empty if it is not one of ours, ``None`` if the rejection
    is about something else."""
    if fault.kind not in (FaultKind.BAD_REQUEST, FaultKind.UNSUPPORTED):
        return None
    for pattern, feature in _TEXTS:
        if re.search(pattern, fault.message):
            return feature
    found = re.search(_NAMED, fault.message)
    if found is not None:
        name = next(group for group in found.groups() if group is not None)
        return _PARAMETERS.get(name.lower().rstrip("."), "")
    return "" if (fault.code or "").lower() in ("unsupported_parameter", "unsupported_value") else None


def reclassified(fault: Fault) -> Fault:
    """A rejection that is about what this provider can do is no verdict on the request: others may serve it."""
    if fault.kind is FaultKind.BAD_REQUEST and refusal(fault) is not None:
        return replace(fault, kind=FaultKind.UNSUPPORTED, scope=FaultScope.REQUEST)
    return fault
