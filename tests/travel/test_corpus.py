"""Every recorded request, written for every other wire: it arrives, or is refused for a reason planning knew."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

import pytest

from resilient_llm.capability import Capabilities, needs
from resilient_llm.errors import InvalidRequest, UnsupportedFeature
from resilient_llm.model import ChatRequest, Message, Text, ToolCall, ToolResult
from resilient_llm.wire import codec
from tests.material import corpus
from tests.travel.probes import MODELS, WIRES
from tests.wire.readers import read_request

FILES = {
    "openai_chat": "openai_chat*",
    "openai_responses": "openai_responses*",
    "anthropic_messages": "anthropic_messages*",
    "gemini": "gemini*",
    "bedrock_converse": "bedrock_converse*",
    "cohere_v2": "cohere_v2*",
    "ollama": "ollama_chat*",
}

LEFT_TO_THE_CODEC = (
    "file_id",  # known where it was uploaded
    "by file id",  # of an image, where a document's is taken
    "video_url",  # Gemini reads some pages
    "a conversation that does not start with the user",
)
"""What planning does not look into: whoever refuses it has not been sent anything either."""


@dataclass(frozen=True)
class Recorded:
    id: str
    request: ChatRequest


@cache
def requests(wire: str) -> tuple[Recorded, ...]:
    return tuple(_requests(wire))


def _requests(wire: str) -> Iterator[Recorded]:
    seen: set[bytes] = set()
    for record in corpus(FILES[wire]):
        body = json.dumps(record["request"]).encode()
        if not isinstance(record["request"], Mapping) or body in seen or record["outcome"] != "complete":
            continue
        seen.add(body)
        try:
            request = read_request(wire, body, str(record["url_path"]))
        except InvalidRequest:
            continue  # retrievals and the like
        if request.messages:  # an Ollama request without any loads a model
            yield Recorded(str(record["id"]), replace(request, source=None))


def said(request: ChatRequest) -> tuple[str, Counter[str]]:
    """The words of the user and of tools, and the calls: what must arrive."""
    words: list[str] = []
    calls: Counter[str] = Counter()
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, Text) and message.role == "user":
                words.append(part.text)
            elif isinstance(part, ToolCall):
                calls[part.name] += 1
            elif isinstance(part, ToolResult):
                words.append(part.text)
    return "".join(words), calls


def arrives(sent: ChatRequest, got: ChatRequest) -> None:
    """Every call, and every text of the user's and of a tool's, is somewhere in what was sent."""
    _, calls = said(sent)
    _, arrived = said(got)
    assert arrived == calls
    everything = _everything(got)
    for message in sent.messages:
        for part in message.parts:
            if isinstance(part, Text) and message.role in ("user", "system", "developer"):
                assert part.text.strip() in everything
            if isinstance(part, ToolResult):
                assert all(each.text.strip() in everything for each in part.parts if isinstance(each, Text))


def _everything(request: ChatRequest) -> str:
    return "\n".join(_words(message) for message in request.messages)


def _words(message: Message) -> str:
    return "\n".join(part.text for part in message.parts if isinstance(part, Text | ToolResult))


@pytest.mark.parametrize("target", WIRES)
@pytest.mark.parametrize("source", WIRES)
def test_requests_arrive_or_are_refused_for_a_known_reason(source: str, target: str) -> None:
    able = Capabilities(target, "", MODELS[target], "", {})
    figures: Counter[str] = Counter()
    for recorded in requests(source):
        request = replace(recorded.request, model=MODELS[target])
        planned = able.lacks(needs(request, "skip"))
        try:
            encoded = codec(target).encode_request(request)
        except UnsupportedFeature as refused:
            known = planned is not None or any(word in refused.feature for word in LEFT_TO_THE_CODEC)
            figures["refused" if known else f"{recorded.id}: {refused}"] += 1
            continue
        if planned is not None and "stored:" in planned:
            figures["refused"] += 1  # the codec would write the name of a file that its vendor cannot read
            continue
        assert planned is None, f"{recorded.id}: planning said {planned}, but it can be written"
        arrives(request, read_request(target, encoded.body, encoded.path))
        figures["changed" if encoded.degradations else "kept"] += 1
    assert figures.total() == len(requests(source))
    assert set(figures) <= {"kept", "changed", "refused"}
    assert figures["kept"] + figures["changed"] > 0
