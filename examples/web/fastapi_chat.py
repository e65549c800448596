"""A chat with FastAPI: a page for the browser, and an endpoint that streams, whose failures are HTTP statuses and not
broken answers.

    uvicorn --app-dir examples/web fastapi_chat:app       # then open http://127.0.0.1:8000

``LLM_URLS`` holds the base URLs of servers that speak Chat Completions; without it, two servers in this process answer.
In your program the providers are ``OpenAI("gpt-5.2")``, ``Anthropic("claude-sonnet-5")`` and the like.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel
from standin import urls

from resilient_llm import AsyncChatStream, AsyncResilientClient, ResilientError, StreamInterrupted
from resilient_llm.operate.endpoints import Endpoints, http_status
from resilient_llm.providers import OpenAICompatible

DEADLINE = float(os.environ.get("LLM_DEADLINE", "20"))
client = AsyncResilientClient(
    [OpenAICompatible("example-model", id=f"server-{number}", base_url=url) for number, url in enumerate(urls(), 1)]
)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.aclose(drain=10)  # what is under way may finish; /llm/readyz says 503 from now on


app = FastAPI(lifespan=lifespan)
app.mount("/llm", Endpoints(client).asgi)


class Question(BaseModel):
    text: str


@app.get("/")
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("chat.html"))


@app.post("/chat")
async def chat(question: Question) -> StreamingResponse:
    stream = client.stream(question.text, deadline=DEADLINE)
    await stream.start()  # nobody answers: this raises, and the status of our own answer can still say so
    return StreamingResponse(events(stream), media_type="text/event-stream")


async def events(stream: AsyncChatStream) -> AsyncIterator[str]:
    """Server-sent events: ``text`` pieces, then ``done``, or ``error`` with what is known about it."""
    try:
        async for text in stream.text_deltas():
            yield event("text", text)
        yield event("done", {"provider": stream.provider})
    except StreamInterrupted as error:  # 200 was sent long ago: the error is an event
        yield event("error", {"kind": error.kind, "retryable": error.retryable})
    finally:
        await stream.aclose()  # also when the browser has gone: the provider stops writing at once


def event(name: str, data: object) -> str:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"


@app.exception_handler(ResilientError)
async def failed(request: Request, error: ResilientError) -> JSONResponse:
    status, headers = http_status(error)
    return JSONResponse({"error": type(error).__name__, "retryable": error.retryable}, status, headers)
