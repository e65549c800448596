"""The same with Flask, without the page.

    gunicorn --chdir examples/web --preload --workers 4 flask_chat:app
    curl http://127.0.0.1:8000/chat --json '{"text": "Why is the sky blue?"}'

The client is made once, before gunicorn forks: each worker gets a working copy that knows what was known, with
connections and budgets of its own.
"""

import os
from collections.abc import Iterator

from flask import Flask, Response, jsonify, request
from standin import urls
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from resilient_llm import ChatStream, ResilientClient, ResilientError, StreamInterrupted
from resilient_llm.operate.endpoints import Endpoints, http_status
from resilient_llm.providers import OpenAICompatible

DEADLINE = float(os.environ.get("LLM_DEADLINE", "20"))
client = ResilientClient(
    [OpenAICompatible("example-model", id=f"server-{number}", base_url=url) for number, url in enumerate(urls(), 1)]
)
if "LLM_ASK_FIRST" in os.environ:  # a call before the fork, as some programs make one to warm up
    client.chat("Hello?", deadline=DEADLINE)

app = Flask(__name__)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/llm": Endpoints(client).wsgi})


@app.post("/chat")
def chat() -> Response:
    reply = client.chat(request.json["text"], deadline=DEADLINE)
    return jsonify(text=reply.text, provider=reply.provider, worker=os.getpid())


@app.post("/stream")
def stream() -> Response:
    answer = client.stream(request.json["text"], deadline=DEADLINE).start()  # failures are raised here, before 200
    response = Response(pieces(answer), mimetype="text/plain")
    response.call_on_close(answer.close)  # also when the browser has gone
    return response


def pieces(answer: ChatStream) -> Iterator[str]:
    try:
        yield from answer.text_deltas()
    except StreamInterrupted:
        yield "\n[the answer was interrupted]\n"


@app.errorhandler(ResilientError)
def failed(error: ResilientError) -> tuple[Response, int, dict[str, str]]:
    status, headers = http_status(error)
    return jsonify(error=type(error).__name__, retryable=error.retryable), status, headers
