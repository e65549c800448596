"""A vendor in the cloud, and llama.cpp on this machine for when the cloud or the network is gone.

    llama-server -m model.gguf --port 8080        # or any server that speaks Chat Completions
    python examples/local_fallback "Why is the sky blue?"

With OPENAI_API_KEY set it asks OpenAI first.  Without it, a server on this machine plays a cloud that cannot be
reached.  Where nothing listens at LLAMA_BASE_URL (http://localhost:8080/v1), another one plays llama.cpp.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

from resilient_llm import ResilientClient
from resilient_llm.policy import Timeouts
from resilient_llm.providers import HttpProvider, LlamaCpp, OpenAI
from resilient_llm.testing import LoopbackLLM, Reply

LOCAL = os.environ.get("LLAMA_BASE_URL", "http://localhost:8080/v1")


def listens(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 80), timeout=0.5).close()
    except OSError:
        return False
    return True


@contextmanager
def providers() -> Iterator[list[HttpProvider]]:
    with ExitStack() as opened:
        if os.environ.get("OPENAI_API_KEY"):
            cloud = OpenAI("gpt-5.2", id="cloud")
        else:
            server = opened.enter_context(LoopbackLLM())
            server.refuse()  # no network
            cloud = OpenAI("gpt-5.2", id="cloud", base_url=f"{server.url}/v1", api_key="none")
        url = LOCAL
        if not listens(url):
            model = opened.enter_context(LoopbackLLM(default=Reply("Because of the air.", interval=0.01)))
            url = f"{model.url}/v1"
        # A model on this machine takes few calls at a time, knows a small context, and sees no pictures.
        local = LlamaCpp("local", base_url=url, id="local", max_concurrency=2, context_window=8192,
                         capabilities={"image": False})  # fmt: skip
        yield [cloud, local]


def main() -> None:
    question = " ".join(sys.argv[1:]) or "Why is the sky blue?"
    # The first answer of a model that has to be loaded takes its time.
    with providers() as found, ResilientClient(found, timeouts=Timeouts(first_token=120)) as client:
        with client.stream(question, max_tokens=200, deadline=180) as stream:
            for text in stream.text_deltas():
                print(text, end="", flush=True)
        print(f"\n  answered by {stream.provider}")


if __name__ == "__main__":
    main()
