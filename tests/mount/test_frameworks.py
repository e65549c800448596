"""Frameworks that take a client or an HTTP client of an SDK take a mounted one.  Each test runs where its framework is
installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from resilient_llm import AsyncResilientClient, ResilientClient, mount
from resilient_llm.model import ToolCall
from resilient_llm.providers import Anthropic, OpenAI
from resilient_llm.testing import LoopbackLLM, Reply, Status

openai: Any = pytest.importorskip("openai")
pytestmark = pytest.mark.filterwarnings("ignore")  # those of the frameworks

CITY = '{"name": "Nîmes", "people": 148104}'
TEXT = "It scatters blue light."


@pytest.fixture
def alive() -> Iterator[LoopbackLLM]:
    with LoopbackLLM(default=Reply(TEXT)) as server:
        yield server


@pytest.fixture
def client(alive: LoopbackLLM) -> Iterator[ResilientClient]:
    """OpenAI is down, and Claude answers."""
    with LoopbackLLM(default=Status(503)) as dead:
        providers = [
            OpenAI("gpt-5.2", base_url=dead.url + "/v1", api_key="k" * 9),
            Anthropic("claude-sonnet-5", base_url=alive.url, api_key="k" * 9),
        ]
        with ResilientClient(providers, deadline=5.0) as made:
            yield made


def city() -> Any:
    return pytest.importorskip("pydantic").create_model("City", name=(str, ...), people=(int, ...))


def http_client(client: ResilientClient, kind: str = "Client") -> Any:
    """A mounted one of the library that the SDK wants."""
    library = httpx if issubclass(openai.DefaultHttpxClient, httpx.Client) else import_module("httpx2")
    return getattr(library, kind)(transport=mount.transport(client))


def test_langchain(client: ResilientClient) -> None:
    chat: Any = pytest.importorskip("langchain_openai")
    llm = chat.ChatOpenAI(model="gpt-5.2", api_key="not-used", http_client=http_client(client), max_retries=0)
    assert llm.invoke("Why is the sky blue?").content == TEXT
    assert "".join(chunk.content for chunk in llm.stream("Why is the sky blue?")) == TEXT


def test_pydantic_ai(client: ResilientClient, alive: LoopbackLLM) -> None:
    ai: Any = pytest.importorskip("pydantic_ai")
    models, providers = import_module("pydantic_ai.models.openai"), import_module("pydantic_ai.providers.openai")
    alive.script(Reply(TEXT), Reply("", tool_calls=(ToolCall("t1", "final_result", CITY),)))

    async def main() -> tuple[Any, Any]:
        async with AsyncResilientClient(pool=client.pool) as there, mount(openai.AsyncOpenAI, there) as llm:
            model = models.OpenAIChatModel("gpt-5.2", provider=providers.OpenAIProvider(openai_client=llm))
            text = await ai.Agent(model).run("Why is the sky blue?")
            parsed = await ai.Agent(model, output_type=city()).run("Which city?")
            return text.output, parsed.output

    text, parsed = anyio.run(main)
    assert (text, parsed.people) == (TEXT, 148104)


def test_instructor(client: ResilientClient, alive: LoopbackLLM) -> None:
    instructor: Any = pytest.importorskip("instructor")
    alive.script(Reply("", tool_calls=(ToolCall("t1", "City", CITY),)))
    with mount(openai.OpenAI, client) as llm:
        question = [{"role": "user", "content": "Which city?"}]
        completions = instructor.from_openai(llm).chat.completions
        assert completions.create(model="gpt-5.2", messages=question, response_model=city()).people == 148104


def test_openais_agents(client: ResilientClient) -> None:
    agents: Any = pytest.importorskip("agents")
    agents.set_tracing_disabled(True)

    async def main() -> Any:
        async with AsyncResilientClient(pool=client.pool) as there, mount(openai.AsyncOpenAI, there) as llm:
            model = agents.OpenAIChatCompletionsModel("gpt-5.2", openai_client=llm)
            return (await agents.Runner.run(agents.Agent(name="sky", model=model), "Why is it blue?")).final_output

    assert anyio.run(main) == TEXT


def test_llama_index(client: ResilientClient) -> None:
    llms: Any = pytest.importorskip("llama_index.llms.openai")
    messages = [import_module("llama_index.core.llms").ChatMessage(role="user", content="Why is the sky blue?")]
    # Old versions refuse models they do not know.
    llm = llms.OpenAI(model="gpt-4o", api_key="not-used", http_client=http_client(client), max_retries=0)
    assert llm.chat(messages).message.content == TEXT
    assert [piece.message.content for piece in llm.stream_chat(messages)][-1] == TEXT


def test_smolagents(client: ResilientClient) -> None:
    smolagents: Any = pytest.importorskip("smolagents")
    options = {"http_client": http_client(client), "max_retries": 0}
    model = smolagents.OpenAIModel(model_id="gpt-5.2", api_key="not-used", client_kwargs=options)
    question = smolagents.ChatMessage(role="user", content=[{"type": "text", "text": "Why is the sky blue?"}])
    assert model.generate([question]).content == TEXT


def test_dspy(client: ResilientClient, alive: LoopbackLLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it is fetched on import otherwise
    monkeypatch.setenv("DSPY_CACHEDIR", str(tmp_path))
    dspy: Any = pytest.importorskip("dspy", minversion="3.4")  # has engine=
    litellm: Any = pytest.importorskip("litellm")
    alive.default = Reply(f"[[ ## answer ## ]]\n{TEXT}\n\n[[ ## completed ## ]]")
    monkeypatch.setattr(litellm, "client_session", http_client(client))
    monkeypatch.setattr(litellm, "aclient_session", http_client(client, "AsyncClient"))
    llm = dspy.LM("openai/gpt-5.2", engine="litellm", api_key="not-used", cache=False, num_retries=0)
    ask = dspy.Predict("question -> answer")

    async def main() -> tuple[Any, Any]:
        # In the main thread LiteLLM would leave an event loop open.
        in_thread = await anyio.to_thread.run_sync(lambda: ask(question="Why is the sky blue?"))
        return in_thread.answer, (await ask.acall(question="Why is the sky blue?")).answer

    with dspy.context(lm=llm):
        assert anyio.run(main) == (TEXT, TEXT)
    assert alive.request_count == 2
