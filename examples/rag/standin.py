"""An embedding server of one's own, and a model, on this machine.

The vectors count words (by a hash of each), which is enough to find a paragraph that uses the words of a question.
"""

from __future__ import annotations

import json
import re
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from resilient_llm.providers import HttpProvider, OpenAICompatible
from resilient_llm.testing import LoopbackLLM, Status

SIZE = 256


def vector(text: str) -> list[float]:
    found = [0.0] * SIZE
    for word in re.findall(r"\w{4,}", text.lower()):
        found[zlib.crc32(word.encode()) % SIZE] += 1.0
    return found


class Embeddings(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        texts = [asked["input"]] if isinstance(asked["input"], str) else asked["input"]
        data = [{"object": "embedding", "index": index, "embedding": vector(text)} for index, text in enumerate(texts)]
        body = json.dumps({"object": "list", "model": asked["model"], "data": data}).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class chose the name
        """Say nothing."""


@contextmanager
def standins(space: str) -> Iterator[dict[str, list[HttpProvider]]]:
    """The first embedding server is down: the second one has the same model, so its vectors can be compared."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Embeddings)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        with LoopbackLLM(default=Status(503)) as down, LoopbackLLM(default="Pull it out and rinse it [1].") as model:
            own = f"http://127.0.0.1:{server.server_port}/v1"
            yield {
                "answer": [OpenAICompatible("model", base_url=model.url)],
                "embed": [
                    OpenAICompatible(space, id="down", base_url=down.url, embedding_space=space),
                    OpenAICompatible(space, id="own", base_url=own, embedding_space=space),
                ],
            }
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
