"""How each contestant is set up, in its own words.  Every one is imported only in the process that runs it."""

# ruff: noqa: E501 - tables and markup

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, NamedTuple, Protocol

MODEL: Final = "gpt-4o-mini"
KEY: Final = "sk-loopback"
PROMPT: Final = "Why is the sky blue?"
ANSWER: Final = "Sunlight meets air, and the air scatters blue far more than red, so blue is what reaches us."
"""What both providers say, so that a word too few shows."""


class Ask(Protocol):
    """Asks once and returns the text of the answer, or raises."""

    async def __call__(self, stream: bool) -> str: ...


class Contestant(NamedTuple):
    """``make(preferred URL, other URL, patience)`` gives a context manager around an :class:`Ask`; ``package`` names
    the distribution whose version is reported, ``install`` what to install (empty: the same)."""

    title: str
    package: str
    configured: str
    make: Callable[[str, str, float], Any]
    install: str = ""

    @property
    def wanted(self) -> str:
        """What ``pip install`` is given."""
        return self.install or self.package


def _messages() -> list[dict[str, str]]:
    return [{"role": "user", "content": PROMPT}]


async def _openai_text(chunks: AsyncIterator[Any]) -> str:
    text = ""
    async for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
    return text


@asynccontextmanager
async def _ours(preferred: str, other: str, patience: float, **settings: Any) -> AsyncIterator[Ask]:
    from resilient_llm import AsyncResilientClient
    from resilient_llm.model import Restarted, TextDelta
    from resilient_llm.providers import OpenAICompatible

    providers = [
        OpenAICompatible(MODEL, id=name, base_url=f"{url}/v1", api_key=KEY)
        for name, url in (("preferred", preferred), ("other", other))
    ]
    timeouts = {"first_token": patience, "idle": patience}
    async with AsyncResilientClient(providers, timeouts=timeouts, **settings) as client:

        async def ask(stream: bool) -> str:
            if not stream:
                return (await client.chat(PROMPT, max_tokens=1)).text
            text = ""
            async with client.stream(PROMPT) as answer:
                async for event in answer:
                    if isinstance(event, TextDelta):
                        text += event.text
                    elif isinstance(event, Restarted):
                        text = ""
            return text

        yield ask


def ours(preferred: str, other: str, patience: float) -> Any:
    return _ours(preferred, other, patience)


def ours_restart(preferred: str, other: str, patience: float) -> Any:
    return _ours(preferred, other, patience, stream={"on_break": "restart"})


@asynccontextmanager
async def openai_sdk(preferred: str, other: str, patience: float) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI

    async with AsyncOpenAI(base_url=f"{preferred}/v1", api_key=KEY, timeout=patience) as client:

        async def ask(stream: bool) -> str:
            if stream:
                chunks = await client.chat.completions.create(model=MODEL, messages=_messages(), stream=True)
                return await _openai_text(chunks)
            answer = await client.chat.completions.create(model=MODEL, messages=_messages())
            return answer.choices[0].message.content or ""

        yield ask


@asynccontextmanager
async def _litellm(preferred: str, other: str, **settings: Any) -> AsyncIterator[Ask]:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or it downloads a table when it is imported
    from litellm import Router

    models = [
        {
            "model_name": name,
            "litellm_params": {"model": f"openai/{MODEL}", "api_base": f"{url}/v1", "api_key": KEY},
        }
        for name, url in (("preferred", preferred), ("other", other))
    ]
    router = Router(model_list=models, fallbacks=[{"preferred": ["other"]}], **settings)

    async def ask(stream: bool) -> str:
        if stream:
            return await _openai_text(await router.acompletion(model="preferred", messages=_messages(), stream=True))
        answer = await router.acompletion(model="preferred", messages=_messages())
        return answer.choices[0].message.content or ""

    yield ask


def litellm_default(preferred: str, other: str, patience: float) -> Any:
    return _litellm(preferred, other, timeout=patience, stream_timeout=patience)


def litellm_tuned(preferred: str, other: str, patience: float) -> Any:
    return _litellm(
        preferred,
        other,
        timeout=patience,
        stream_timeout=patience,
        num_retries=0,
        allowed_fails=1,
        cooldown_time=30,
        disable_cooldowns=False,
    )


@asynccontextmanager
async def langchain(preferred: str, other: str, patience: float) -> AsyncIterator[Ask]:
    from langchain_openai import ChatOpenAI

    first, second = (
        ChatOpenAI(model=MODEL, base_url=f"{url}/v1", api_key=KEY, timeout=patience)  # type: ignore[call-arg, arg-type]
        for url in (preferred, other)
    )
    chain = first.with_fallbacks([second])

    async def ask(stream: bool) -> str:
        if stream:
            text = ""
            async for chunk in chain.astream(PROMPT):
                text += str(chunk.content)
            return text
        return str((await chain.ainvoke(PROMPT)).content)

    yield ask


@asynccontextmanager
async def pydantic_ai(preferred: str, other: str, patience: float) -> AsyncIterator[Ask]:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.fallback import FallbackModel
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    # Its documentation recommends to switch the SDK's own retries off, so that the fallback is not delayed.
    clients = [
        AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, timeout=patience, max_retries=0) for url in (preferred, other)
    ]
    models = [OpenAIChatModel(MODEL, provider=OpenAIProvider(openai_client=one)) for one in clients]
    agent = Agent(FallbackModel(*models))

    async def ask(stream: bool) -> str:
        if not stream:
            return (await agent.run(PROMPT)).output
        text = ""
        async with agent.run_stream(PROMPT) as answer:
            async for piece in answer.stream_text(delta=True):
                text += piece
        return text

    yield ask
    for one in clients:
        await one.close()


@asynccontextmanager
async def avadhika(preferred: str, other: str, patience: float) -> AsyncIterator[Ask]:
    import httpx
    from avadhika.adapters.base import LLMRequest, Message
    from avadhika.adapters.openai_compat import DIMENSIONS, MAPPING_VERSION, OpenAICompatAdapter
    from avadhika.core.catalog import CandidateSpec, Catalog
    from avadhika.core.contract import AttemptPolicy, Contract, Limits
    from avadhika.core.outcomes import BillingCoverage, BudgetMode, InputBoundStrategy
    from avadhika.core.policy import RuntimePolicy
    from avadhika.shell.driver import Runtime

    os.environ["OPENAI_API_KEY"] = KEY
    nanoseconds, names = int(patience * 1e9), ("preferred", "other")
    facts: dict[str, Any] = {
        "adapter_mapping_version": MAPPING_VERSION,
        "model": MODEL,
        "model_aliases": frozenset(),
        "context_tokens": 128_000,
        "tools": True,
        "structured_output": True,
        "streaming": True,
        "tags": frozenset(),
        "known_dimensions": DIMENSIONS,
        "pools": None,
        "billing_coverage": BillingCoverage.PARTIAL,
        "input_bound_strategy": InputBoundStrategy.CALLER_ONLY,
    }
    candidates = [
        CandidateSpec(candidate_id=one, endpoint_id=one, credential_id=one, adapter=one, **facts) for one in names
    ]
    adapters = {
        name: OpenAICompatAdapter(f"{url}/v1", name=name) for name, url in zip(names, (preferred, other), strict=True)
    }

    def contract(stream: bool) -> Contract:
        policy = AttemptPolicy(tuple((one, 50_000_000) for one in names), per_attempt_timeout_ns=nanoseconds)
        limits = Limits(max_response_bytes=1 << 20, max_stream_idle_ns=nanoseconds)
        return Contract(60 * 10**9, None, names, 100, policy, limits, 1, BudgetMode.OBSERVE, stream=stream)

    async with httpx.AsyncClient(timeout=None) as client:
        runtime = Runtime(Catalog("1", "1", tuple(candidates)), RuntimePolicy(), adapters, client)

        async def ask(stream: bool) -> str:
            pieces: list[str] = []
            request = LLMRequest((Message("user", PROMPT),))
            found = await runtime.run(f"{id(pieces)}", contract(stream), request, on_delta=pieces.append)
            if found.status is None or found.status.value != "DONE":
                raise RuntimeError(found.stop_reason)
            return "".join(pieces) if stream else found.text or ""

        yield ask


CONTESTANTS: Final[dict[str, Contestant]] = {
    "ours": Contestant(
        "resilient_llm",
        "resilient-llm",
        "defaults; `timeouts={'first_token': 1.5, 'idle': 1.5}`; whole answers with `max_tokens=1`, because their limit grows with what may be written",
        ours,
    ),
    "ours-restart": Contestant(
        "resilient_llm, restart",
        "resilient-llm",
        "the same with `stream={'on_break': 'restart'}`; the caller drops what came before a `Restarted` event, as the page on streams says",
        ours_restart,
    ),
    "openai": Contestant(
        "OpenAI SDK", "openai", "defaults (2 retries); `timeout=1.5`; knows no second provider", openai_sdk
    ),
    "litellm": Contestant(
        "LiteLLM Router", "litellm", "defaults; `fallbacks=`, `timeout=1.5`, `stream_timeout=1.5`", litellm_default
    ),
    "litellm-tuned": Contestant(
        "LiteLLM Router, tuned",
        "litellm",
        "the same with `num_retries=0, allowed_fails=1, cooldown_time=30`",
        litellm_tuned,
    ),
    "langchain": Contestant(
        "LangChain with_fallbacks",
        "langchain-openai",
        "`ChatOpenAI` with its defaults (2 retries); `timeout=1.5`",
        langchain,
    ),
    "pydantic-ai": Contestant(
        "Pydantic AI FallbackModel",
        "pydantic-ai-slim",
        "`OpenAIChatModel` over `AsyncOpenAI(max_retries=0, timeout=1.5)`, as its documentation recommends",
        pydantic_ai,
        "pydantic-ai-slim[openai]",
    ),
    "avadhika": Contestant(
        "avadhika",
        "avadhika",
        "`RuntimePolicy()`, `AttemptPolicy(per_attempt_timeout_ns=1.5 s)`, `max_stream_idle_ns` likewise, `budget_mode=OBSERVE`, 60 s a request",
        avadhika,
    ),
}
