"""A process that forks while streams are open keeps them, whatever the child does with its copies."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from resilient_llm.testing import LoopbackLLM, Reply

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")

SYNC = """
import gc, os, sys
from resilient_llm import ResilientClient
from resilient_llm.errors import StreamInterrupted
from tests.drive.clients import openai

client = ResilientClient([openai(sys.argv[1])])
for what in ("close", "drop", "end", "read", "call"):
    stream = client.stream("x")
    pieces = [next(stream)]
    child = os.fork()
    if not child:
        if what == "close":
            stream.close()
            client.close()
        elif what == "drop":
            del stream
            gc.collect()
        elif what == "end":
            sys.exit(0)
        elif what == "read":
            try:
                os._exit(len(list(stream)))
            except StreamInterrupted as interrupted:
                os._exit("forked" not in str(interrupted.__cause__))
        else:
            os._exit(client.chat("x").text != "one two three")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, what
    assert "".join(piece.text for piece in (*pieces, *stream) if hasattr(piece, "text")) == "one two three", what
    assert client.health()["first"].in_flight == 0
client.close()
"""
ASYNCIO = """
import asyncio, gc, os, sys
from resilient_llm import AsyncResilientClient
from tests.drive.clients import openai

async def main():
    async with AsyncResilientClient([openai(sys.argv[1])], engine=sys.argv[2]) as client:
        stream = client.stream("x")
        pieces = [await anext(stream)]
        child = os.fork()
        if not child:
            del stream, client
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pieces += [piece async for piece in stream]
        assert "".join(piece.text for piece in pieces if hasattr(piece, "text")) == "one two three"
        assert client.health()["first"].in_flight == 0

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("code", "engine"),
    [(SYNC, "httpx"), (ASYNCIO, "httpx")],
    ids=["sync", "asyncio"],
)
def test_open_streams_of_the_parent_are_left_alone(code: str, engine: str) -> None:
    with LoopbackLLM(default=Reply("one two three", interval=0.02)) as server:
        done = subprocess.run(
            [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code, server.url, engine],
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
