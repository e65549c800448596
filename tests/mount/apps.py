"""Small programs written for the vendors' SDKs, which know nothing of this library, and what they see."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import anyio

from resilient_llm.providers import Anthropic, Cohere, Gemini, Mistral, OpenAI, OpenAIResponses

MESSAGES = [{"role": "user", "content": "Why is the sky blue?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
FUNCTION = {"name": "get_weather", "description": "The weather in a city.", "parameters": SCHEMA}
OPENAI_TOOL = {"type": "function", "function": FUNCTION}
CALLER_KEY = "sk-canary-of-the-caller-0123456789"


@dataclass
class Seen:
    """What a program saw."""

    text: str = ""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    kinds: set[str] = field(default_factory=set)
    """The types of what it was handed."""
    error: Exception | None = None

    @property
    def told(self) -> tuple[Any, ...]:
        """What can be compared between two runs."""
        return self.text, self.calls, self.finish, sorted(self.kinds)


@dataclass
class App:
    """A program: how its SDK is made, how it asks, and how it reads what comes."""

    name: str
    sdk: Callable[[], Any]
    async_sdk: Callable[[], Any]
    bare: Callable[[Any, str], Any]
    """An SDK object that asks this server directly, without retries."""
    call: Callable[..., Any]
    read: Callable[[Seen, Any], None]
    read_event: Callable[[Seen, Any], None]
    vendor: Callable[..., Any]
    """The provider that its vendor is here."""
    base: str
    status_error: Callable[[], type[Exception]]
    break_error: Callable[[], type[Exception]]

    def provider(self, url: str, **options: Any) -> Any:
        return self.vendor("model-1", base_url=url + self.base, **options)

    def network_error(self, how: Literal["late", "unreached"]) -> str:
        """The name of the exception that its SDK raises for no answer in time, or for no connection."""
        own = self.name.startswith(("openai", "anthropic"))
        if how == "late":
            return "APITimeoutError" if own else "ReadTimeout"
        return "APIConnectionError" if own else "ConnectError"

    def __repr__(self) -> str:
        return self.name

    def run(
        self, made: Callable[[], tuple[Any, Any]], *, stream: bool = False, tools: bool = False, is_async: bool = False
    ) -> Seen:
        """Ask once and see everything; an exception is something seen.  ``made`` returns the SDK's object and a client
        to close after it (``None``: there is none)."""
        seen = Seen()
        if is_async:
            anyio.run(self._arun, made, seen, stream, tools)
        else:
            llm, client = made()
            try:
                answer = self.call(llm, stream, tools, False)
                for event in answer if stream else (answer,):
                    self._see(seen, event, stream)
            except Exception as error:
                seen.error = error
            self.close(llm)
            if client is not None:
                client.close()
        seen.calls = [(name, json.loads(text) if isinstance(text, str) else text) for name, text in seen.calls]
        return seen

    async def _arun(self, made: Callable[[], tuple[Any, Any]], seen: Seen, stream: bool, tools: bool) -> None:
        llm, client = made()
        try:
            answer = self.call(llm, stream, tools, True)
            if inspect.isawaitable(answer):
                answer = await answer
            if stream:
                async for event in answer:
                    self._see(seen, event, stream)
            else:
                self._see(seen, answer, stream)
        except Exception as error:
            seen.error = error
        await self.aclose(llm)
        if client is not None:
            await client.aclose()

    def _see(self, seen: Seen, thing: Any, stream: bool) -> None:
        seen.kinds.add(type(thing).__name__)
        (self.read_event if stream else self.read)(seen, thing)

    def close(self, llm: Any) -> None:
        if self.name == "cohere":
            llm._client_wrapper.httpx_client.httpx_client.close()
        elif self.name == "mistralai":
            llm.sdk_configuration.client.close()
        else:
            llm.close()

    async def aclose(self, llm: Any) -> None:
        if self.name == "cohere":
            await llm._client_wrapper.httpx_client.httpx_client.aclose()
        elif self.name == "mistralai":
            await llm.sdk_configuration.async_client.aclose()
        elif self.name == "google-genai":
            await llm.aio.aclose()
        else:
            await llm.close()


def add_arguments(seen: Seen, piece: str) -> None:
    name, text = seen.calls[-1]
    seen.calls[-1] = name, text + piece


# --- openai ------------------------------------------------------------------------------------------------


def openai_class(name: str) -> Callable[[], Any]:
    def find() -> Any:
        import openai

        return getattr(openai, name)

    return find


def openai_bare(sdk: Any, url: str) -> Any:
    return sdk(api_key=CALLER_KEY, base_url=url + "/v1", max_retries=0)


def chat_call(llm: Any, stream: bool, tools: bool, _async: bool) -> Any:
    more = {"tools": [OPENAI_TOOL]} if tools else {}
    return llm.chat.completions.create(model="model-1", messages=MESSAGES, stream=stream, **more)


def chat_read(seen: Seen, answer: Any) -> None:
    choice = answer.choices[0]
    seen.text += choice.message.content or ""
    seen.finish.append(choice.finish_reason)
    seen.calls += [(call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()]


def chat_event(seen: Seen, chunk: Any) -> None:
    delta = chunk.choices[0].delta
    seen.text += delta.content or ""
    for call in delta.tool_calls or ():
        if call.function.name:
            seen.calls.append((call.function.name, ""))
        add_arguments(seen, call.function.arguments or "")
    if chunk.choices[0].finish_reason:
        seen.finish.append(chunk.choices[0].finish_reason)


def responses_call(llm: Any, stream: bool, tools: bool, _async: bool) -> Any:
    more = {"tools": [{"type": "function", **FUNCTION}]} if tools else {}
    return llm.responses.create(model="model-1", input="Why is the sky blue?", stream=stream, **more)


def responses_read(seen: Seen, answer: Any) -> None:
    seen.text += answer.output_text
    seen.finish.append(answer.status)
    seen.calls += [(item.name, item.arguments) for item in answer.output if item.type == "function_call"]


def responses_event(seen: Seen, event: Any) -> None:
    if event.type == "response.output_text.delta":
        seen.text += event.delta
    elif event.type == "response.completed":
        seen.finish.append(event.response.status)
        seen.calls += [(item.name, item.arguments) for item in event.response.output if item.type == "function_call"]


# --- anthropic ---------------------------------------------------------------------------------------------


def anthropic_class(name: str) -> Callable[[], Any]:
    def find() -> Any:
        import anthropic

        return getattr(anthropic, name)

    return find


def anthropic_bare(sdk: Any, url: str) -> Any:
    return sdk(api_key=CALLER_KEY, base_url=url, max_retries=0)


def anthropic_call(llm: Any, stream: bool, tools: bool, _async: bool) -> Any:
    tool = {"name": "get_weather", "description": "The weather in a city.", "input_schema": SCHEMA}
    more = {"tools": [tool]} if tools else {}
    return llm.messages.create(model="model-1", max_tokens=100, messages=MESSAGES, stream=stream, **more)


def anthropic_read(seen: Seen, answer: Any) -> None:
    for block in answer.content:
        if block.type == "text":
            seen.text += block.text
        elif block.type == "tool_use":
            seen.calls.append((block.name, block.input))
    seen.finish.append(answer.stop_reason)


def anthropic_event(seen: Seen, event: Any) -> None:
    if event.type == "content_block_delta" and event.delta.type == "text_delta":
        seen.text += event.delta.text
    elif event.type == "content_block_delta" and event.delta.type == "input_json_delta":
        add_arguments(seen, event.delta.partial_json)
    elif event.type == "content_block_start" and event.content_block.type == "tool_use":
        seen.calls.append((event.content_block.name, ""))
    elif event.type == "message_delta":
        seen.finish.append(event.delta.stop_reason)


# --- google-genai ------------------------------------------------------------------------------------------


def genai_class() -> Any:
    from google import genai

    return genai.Client


def genai_bare(sdk: Any, url: str) -> Any:
    return sdk(api_key=CALLER_KEY, http_options={"base_url": url})


def genai_call(llm: Any, stream: bool, tools: bool, is_async: bool) -> Any:
    declared = {"name": "get_weather", "description": "The weather in a city.", "parameters_json_schema": SCHEMA}
    config = {"tools": [{"function_declarations": [declared]}]} if tools else None
    models = llm.aio.models if is_async else llm.models
    ask = models.generate_content_stream if stream else models.generate_content
    return ask(model="model-1", contents="Why is the sky blue?", config=config)


def genai_read(seen: Seen, answer: Any) -> None:
    for part in answer.candidates[0].content.parts or () if answer.candidates[0].content else ():
        seen.text += part.text or ""
        if part.function_call:
            seen.calls.append((part.function_call.name, dict(part.function_call.args)))
    if answer.candidates[0].finish_reason:
        seen.finish.append(answer.candidates[0].finish_reason.value)


def genai_errors(name: str) -> Callable[[], Any]:
    def find() -> Any:
        from google.genai import errors

        return getattr(errors, name)

    return find


# --- mistralai ---------------------------------------------------------------------------------------------


def mistral_class() -> Any:
    try:
        from mistralai import Mistral as Sdk
    except ImportError:  # as of version 3 at least
        from mistralai.client import Mistral as Sdk
    return Sdk


def mistral_bare(sdk: Any, url: str) -> Any:
    return sdk(api_key=CALLER_KEY, server_url=url)


def mistral_call(llm: Any, stream: bool, tools: bool, is_async: bool) -> Any:
    more = {"tools": [OPENAI_TOOL]} if tools else {}
    chat = llm.chat
    asks = {
        (False, False): chat.complete,
        (False, True): chat.complete_async,
        (True, False): chat.stream,
        (True, True): chat.stream_async,
    }
    return asks[stream, is_async](model="model-1", messages=MESSAGES, **more)


def mistral_event(seen: Seen, event: Any) -> None:
    choice = event.data.choices[0]
    seen.text += choice.delta.content or ""
    for call in choice.delta.tool_calls or ():
        if call.function.name:
            seen.calls.append((call.function.name, ""))
        add_arguments(seen, call.function.arguments or "")
    if choice.finish_reason:
        seen.finish.append(choice.finish_reason)


def mistral_error() -> Any:
    from mistralai.client.errors import SDKError

    return SDKError


# --- cohere ------------------------------------------------------------------------------------------------


def cohere_class(name: str) -> Callable[[], Any]:
    def find() -> Any:
        import cohere

        return getattr(cohere, name)

    return find


def cohere_bare(sdk: Any, url: str) -> Any:
    return sdk(api_key=CALLER_KEY, base_url=url, max_retries=0)


def cohere_call(llm: Any, stream: bool, tools: bool, _async: bool) -> Any:
    more = {"tools": [OPENAI_TOOL]} if tools else {}
    ask = llm.chat_stream if stream else llm.chat
    return ask(model="model-1", messages=MESSAGES, **more)


def cohere_read(seen: Seen, answer: Any) -> None:
    seen.text += "".join(item.text for item in answer.message.content or ())
    seen.calls += [(call.function.name, call.function.arguments) for call in answer.message.tool_calls or ()]
    seen.finish.append(answer.finish_reason)


def cohere_event(seen: Seen, event: Any) -> None:
    if event.type == "content-delta":
        seen.text += event.delta.message.content.text
    elif event.type == "tool-call-start":
        function = event.delta.message.tool_calls.function
        seen.calls.append((function.name, function.arguments or ""))
    elif event.type == "tool-call-delta":
        add_arguments(seen, event.delta.message.tool_calls.function.arguments)
    elif event.type == "message-end":
        seen.finish.append(event.delta.finish_reason)


def cohere_error() -> Any:
    from cohere.core.api_error import ApiError

    return ApiError


APPS = [
    App(
        "openai",
        openai_class("OpenAI"),
        openai_class("AsyncOpenAI"),
        openai_bare,
        chat_call,
        chat_read,
        chat_event,
        OpenAI,
        "/v1",
        openai_class("InternalServerError"),
        openai_class("APIError"),
    ),
    App(
        "openai-responses",
        openai_class("OpenAI"),
        openai_class("AsyncOpenAI"),
        openai_bare,
        responses_call,
        responses_read,
        responses_event,
        OpenAIResponses,
        "/v1",
        openai_class("InternalServerError"),
        openai_class("APIError"),
    ),
    App(
        "anthropic",
        anthropic_class("Anthropic"),
        anthropic_class("AsyncAnthropic"),
        anthropic_bare,
        anthropic_call,
        anthropic_read,
        anthropic_event,
        Anthropic,
        "",
        anthropic_class("InternalServerError"),
        anthropic_class("APIStatusError"),
    ),
    App(
        "google-genai",
        genai_class,
        genai_class,
        genai_bare,
        genai_call,
        genai_read,
        genai_read,
        Gemini,
        "/v1beta",
        genai_errors("ServerError"),
        genai_errors("APIError"),
    ),
    App(
        "mistralai",
        mistral_class,
        mistral_class,
        mistral_bare,
        mistral_call,
        chat_read,
        mistral_event,
        Mistral,
        "/v1",
        mistral_error,
        lambda: Exception,
    ),
    App(
        "cohere",
        cohere_class("ClientV2"),
        cohere_class("AsyncClientV2"),
        cohere_bare,
        cohere_call,
        cohere_read,
        cohere_event,
        Cohere,
        "",
        cohere_error,
        lambda: Exception,
    ),
]
