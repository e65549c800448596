"""Answers from your own documents: embeddings find the paragraphs, a model answers from them and names them.

    python examples/rag "How do I change the filter?" manual.txt ...

With OPENAI_API_KEY set it asks OpenAI, and Azure's deployment of the same embedding model as a reserve if
AZURE_OPENAI_API_KEY and AZURE_OPENAI_ENDPOINT are set.  Without a key, servers on this machine take their place.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from standin import standins

from resilient_llm import ResilientClient
from resilient_llm.providers import Anthropic, AzureOpenAI, HttpProvider, OpenAI

MANUAL = """
The filter is behind the left door. Turn it a quarter to the left, pull it out, and rinse it under warm water.

The machine makes a short beep when the tank is empty and a long one when the tray is full.

Never open the right door while the red lamp is on: the boiler is under pressure.
""".strip()
SPACE = "text-embedding-3-small"
"""Vectors of one model can be compared, whoever computed them; vectors of two models cannot."""


@dataclass(frozen=True)
class Passage:
    source: str
    text: str
    vector: Sequence[float]


def passages(client: ResilientClient, documents: dict[str, str]) -> list[Passage]:
    """Every paragraph with its vector, in one request."""
    found = [(name, part.strip()) for name, text in documents.items() for part in text.split("\n\n") if part.strip()]
    vectors = client.embed([text for _, text in found], route="embed").vectors
    return [Passage(name, text, vector) for (name, text), vector in zip(found, vectors, strict=True)]


def nearness(one: Sequence[float], other: Sequence[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True)) / (math.hypot(*one) * math.hypot(*other) or 1.0)


def answer(client: ResilientClient, question: str, known: Sequence[Passage], count: int = 2) -> str:
    """What the nearest passages say about a question."""
    asked = client.embed(question, route="embed").vectors[0]
    nearest = sorted(known, key=lambda passage: nearness(asked, passage.vector), reverse=True)[:count]
    sources = "\n".join(f"[{number}] {passage.text}" for number, passage in enumerate(nearest, 1))
    reply = client.chat(
        f"{sources}\n\nQuestion: {question}",
        system="Answer from the numbered sources alone, and name them like [1]. Say so if they do not tell.",
        deadline=30,
    )
    listed = "\n".join(f"  [{number}] {passage.source}: {passage.text}" for number, passage in enumerate(nearest, 1))
    return f"{reply.text}\n{listed}"


def vendors() -> dict[str, list[HttpProvider]]:
    """Routes to the vendors there are keys for."""
    answering: list[HttpProvider] = [OpenAI("gpt-5.2")]
    embedding: list[HttpProvider] = [OpenAI(SPACE, embedding_space=SPACE)]
    if os.environ.get("AZURE_OPENAI_API_KEY"):
        embedding.append(AzureOpenAI(SPACE, embedding_space=SPACE))
    if os.environ.get("ANTHROPIC_API_KEY"):
        answering.append(Anthropic("claude-sonnet-5"))
    return {"answer": answering, "embed": embedding}


@contextmanager
def routes() -> Iterator[dict[str, list[HttpProvider]]]:
    with ExitStack() as opened:
        yield vendors() if os.environ.get("OPENAI_API_KEY") else opened.enter_context(standins(SPACE))


def main() -> None:
    question = sys.argv[1] if len(sys.argv) > 1 else "How do I rinse the filter?"
    documents = {Path(name).name: Path(name).read_text(encoding="utf-8") for name in sys.argv[2:]} or {"manual": MANUAL}
    with routes() as found, ResilientClient(found) as client:
        print(answer(client, question, passages(client, documents)))


if __name__ == "__main__":
    main()
