"""What the two wires that speak of typed blocks, Anthropic Messages and Bedrock Converse, have in common."""

from __future__ import annotations

import hashlib
import re

from resilient_llm import model as m
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.fields import Fields, words
from resilient_llm.wire.kit.notes import Notes
from resilient_llm.wire.kit.tools import subschemas

_IMAGES = ((b"\xff\xd8\xff", "jpeg"), (b"\x89PNG\r\n\x1a\n", "png"), (b"GIF8", "gif"), (b"RIFF", "webp"))


def image_type(data: bytes) -> str | None:
    """The MIME type of an image by its first bytes, for callers who do not say; both wires take these four."""
    return next((f"image/{name}" for head, name in _IMAGES if data.startswith(head)), None)


JSON_ONLY = "Answer with a single JSON object and nothing else."
"""Both wires enforce schemas only, and a closed schema cannot say "any object"."""


def tool_id(original: str, allowed: re.Pattern[str]) -> str:
    """An id ``allowed`` matches: the original, or a hash of it, so that a call and its result stay a pair in every
    later request although nothing is remembered."""
    if allowed.fullmatch(original):
        return original
    return "tool_" + hashlib.sha256(original.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def parameters_of(tool: m.Tool) -> m.JsonObject:
    """The schema of a tool's arguments; both wires want one, and that it says ``object``."""
    schema: m.JsonObject = tool.parameters if tool.parameters is not None else {"type": "object", "properties": {}}
    return schema if "type" in schema else {"type": "object", **schema}


def valid_tool_name(name: str, longest: int, notes: Notes) -> str:
    """The name of a tool called in the past, in the letters both wires allow: others may have allowed more."""
    tidy = re.sub(r"[^a-zA-Z0-9_-]", "_", name)[:longest] or "_"
    if tidy != name:
        notes.add(Feature.TOOL_CALL_NAME, "characters replaced that this wire rejects")
    return tidy


def lowered_temperature(temperature: float | None, notes: Notes) -> float | None:
    """Both wires end at 1, others at 2."""
    if temperature is None or temperature <= 1:
        return temperature
    notes.add(Feature.TEMPERATURE, "lowered to 1, the most this wire takes")
    return 1


_UNSUPPORTED_KEYWORDS = words("""
    minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength pattern maxItems uniqueItems
    minProperties maxProperties contains minContains maxContains
""")


def enforceable_schema(schema: m.JsonObject, notes: Notes) -> Fields:
    """The schema in the subset that can be enforced: every object closed, numeric and length limits taken out."""
    result: Fields = {}
    for key, value in schema.items():
        if key in _UNSUPPORTED_KEYWORDS:
            notes.add(Feature.OUTPUT_SCHEMA, f"{key} left out: it cannot be enforced")
        else:
            result[key] = subschemas(key, value, lambda schema: enforceable_schema(schema, notes))
    if result.get("type") == "object":
        if result.get("additionalProperties", False) is not False:
            notes.add(Feature.OUTPUT_SCHEMA, "closed: further properties cannot be allowed")
        result["additionalProperties"] = False
    return result
