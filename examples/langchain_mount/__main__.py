"""A LangChain chain that goes on when its vendor fails: only the HTTP client underneath is another one.

    python examples/langchain_mount "Why is the sky blue?"

With OPENAI_API_KEY and ANTHROPIC_API_KEY set it asks these.  Without keys, servers on this machine take their place,
and the first one is dead.  Needs langchain-openai.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from resilient_llm import ResilientClient, mount
from resilient_llm.providers import Anthropic, HttpProvider, OpenAI
from resilient_llm.testing import LoopbackLLM, Reply, Status


def chain(client: ResilientClient):
    """Prompt, model and parser, as in any LangChain program."""
    import httpx2  # noqa: PLC0415 - the HTTP library of today's OpenAI SDK; older ones take httpx
    from langchain_core.output_parsers import StrOutputParser  # noqa: PLC0415 - installed or not
    from langchain_core.prompts import ChatPromptTemplate  # noqa: PLC0415
    from langchain_openai import ChatOpenAI  # noqa: PLC0415

    prompt = ChatPromptTemplate.from_messages([("system", "Answer in one sentence."), ("user", "{question}")])
    model = ChatOpenAI(
        model="gpt-5.2",
        api_key="none",  # each provider has its own; this one is sent to nobody
        http_client=httpx2.Client(transport=mount.transport(client)),
        max_retries=0,  # the client's rules are in force
    )
    return prompt | model | StrOutputParser()


@contextmanager
def providers() -> Iterator[list[HttpProvider]]:
    if os.environ.get("OPENAI_API_KEY") and os.environ.get("ANTHROPIC_API_KEY"):
        yield [OpenAI("gpt-5.2"), Anthropic("claude-sonnet-5")]
        return
    with LoopbackLLM(default=Status(503)) as dead, LoopbackLLM(default=Reply("Air scatters blue light.")) as alive:
        yield [
            OpenAI("gpt-5.2", base_url=f"{dead.url}/v1", api_key="none"),
            Anthropic("claude-sonnet-5", base_url=alive.url, api_key="none"),
        ]


def main() -> None:
    question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
    with providers() as found, ResilientClient(found) as client:
        chained = chain(client)
        print(chained.invoke({"question": question}))
        for piece in chained.stream({"question": question}):
            print(piece, end="|")
        print()


if __name__ == "__main__":
    main() if find_spec("langchain_openai") else print("needs langchain-openai: pip install langchain-openai")
