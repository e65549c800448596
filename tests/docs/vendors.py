"""All vendors at once, on this machine: whatever a snippet sends to the internet arrives at one loopback server.

The server answers as a model would that does what it is asked: an object that fits the schema, a call of the tool that
was offered, a sentence otherwise.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

import pytest
from opentelemetry import metrics, trace

from resilient_llm import client
from resilient_llm.drive.engines import Outgoing
from resilient_llm.errors import ResilientError
from resilient_llm.model import ToolCall
from resilient_llm.providers.network import USUAL
from resilient_llm.testing import LoopbackLLM, ReceivedRequest, Reply
from resilient_llm.wire import WIRES
from tests.wire.readers import read_request

HERE = ("127.0.0.1", "localhost")
TEXT = "The sky is blue because air scatters short waves of light more than long ones."
KEYS = (
    *("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "MISTRAL_API_KEY", "GROQ_API_KEY", "CO_API_KEY"),
    *("AZURE_OPENAI_API_KEY", "ANTHROPIC_FOUNDRY_API_KEY", "AWS_BEARER_TOKEN_BEDROCK", "OPENROUTER_API_KEY"),
    *("DEEPSEEK_API_KEY", "TOGETHER_API_KEY", "FIREWORKS_API_KEY", "XAI_API_KEY", "CLOUDFLARE_API_TOKEN"),
)
SETTINGS = {
    "AZURE_OPENAI_ENDPOINT": "https://my-resource.openai.azure.com",
    "AWS_REGION": "us-east-1",
    "GOOGLE_CLOUD_PROJECT": "my-project",
}


def instance(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> object:
    """A value that fits a JSON schema of the kind that ``output=`` makes and tools have."""
    root = root or schema
    if "$ref" in schema:
        return instance(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for several in ("anyOf", "oneOf", "allOf"):
        if several in schema:
            return instance(schema[several][0], root)
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {name: instance(one, root) for name, one in schema.get("properties", {}).items()}
    if kind == "array":
        return [instance(schema.get("items", {"type": "string"}), root)]
    return {"string": "Oslo", "integer": 3, "number": 3.5, "boolean": True}.get(kind)


def helpful(request: ReceivedRequest) -> Reply:
    """What an obliging model says."""
    if request.wire not in WIRES:
        return Reply(TEXT)
    try:
        asked = read_request(request.wire, request.body, request.path)
    except ResilientError:
        return Reply(TEXT)
    if asked.tools and asked.messages[-1].role != "tool":
        tool = asked.tools[0]
        call = ToolCall("call_1", tool.name, json.dumps(instance(tool.parameters or {"type": "object"})))
        return Reply("", tool_calls=(call,), finish_reason="tool_calls")
    if asked.output is not None and asked.output.schema is not None:
        return Reply(json.dumps(instance(asked.output.schema)))
    return Reply(TEXT)


class _Near:
    """An engine that sends to one server on this machine, whatever the address says."""

    def __init__(self, engine: Any, url: str) -> None:
        self._engine = engine
        self._url = url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def near(self, outgoing: Outgoing) -> Outgoing:
        parts = urlsplit(outgoing.url)
        if parts.hostname in HERE:
            return outgoing
        query = f"?{parts.query}" if parts.query else ""
        return replace(outgoing, url=f"{self._url}{parts.path}{query}", network=USUAL)


class _NearSync(_Near):
    def send(self, outgoing: Outgoing, limit: object) -> object:
        return self._engine.send(self.near(outgoing), limit)


class _NearAsync(_Near):
    async def send(self, outgoing: Outgoing, limit: object) -> object:
        return await self._engine.send(self.near(outgoing), limit)


def _keep_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a snippet sets as the process's tracer and meter provider is in force until it is done."""
    state: Any = import_module("opentelemetry.metrics._internal")
    monkeypatch.setattr(trace, "set_tracer_provider", lambda one: monkeypatch.setattr(trace, "_TRACER_PROVIDER", one))
    monkeypatch.setattr(metrics, "set_meter_provider", lambda one: monkeypatch.setattr(state, "_METER_PROVIDER", one))


@contextmanager
def vendors(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackLLM]:
    """Inside, every vendor is the server that is given, and every key is set."""
    for name in KEYS:
        monkeypatch.setenv(name, f"a-key-for-{name.partition('_')[0].lower()}")
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    _keep_telemetry(monkeypatch)
    made_sync: Callable[..., Any] = client.sync_engine
    made_async: Callable[..., Any] = client.async_engines
    with LoopbackLLM(default=helpful) as server:

        def sync_engine(engine: object, http_client: object) -> object:
            return _NearSync(made_sync(engine, http_client), server.url)

        def async_engines(engine: object, http_client: object) -> Callable[[], object]:
            make = made_async(engine, http_client)
            return lambda: _NearAsync(make(), server.url)

        monkeypatch.setattr(client, "sync_engine", sync_engine)
        monkeypatch.setattr(client, "async_engines", async_engines)
        yield server


SECRET = re.compile(r"a-key-for-\w+")
"""What must not be printed by any snippet."""
