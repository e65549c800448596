"""``python -m tests.hostile [--quick]``: the attacks in full, as the table of docs/security.md."""

from __future__ import annotations

import argparse
import random
import socket
import threading
from collections.abc import Callable, Iterable

from resilient_llm.errors import CallFailed, StreamInterrupted
from tests.hostile import interrupts
from tests.hostile.clients import KINDS, Caller, caller, provider
from tests.hostile.hangs import HANGS
from tests.hostile.servers import RawServer, answer, read_request
from tests.hostile.test_hangs import hang, slow_names

Row = tuple[str, int, int, str]
"""What was done, how often, how often it was withstood, and a remark."""

STREAM = b"".join(
    b'data: {"id":"1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"%s "},'
    b'"finish_reason":%s}]}\n\n' % (word, b'"stop"' if word == b"three" else b"null")
    for word in (b"one", b"two", b"three")
)
STREAM += b"data: [DONE]\n\n"
WHOLE = "one two three "


def hangs(kinds: Iterable[str]) -> Row:
    """Every hang with every client: in time, and nothing left behind."""
    tried = survived = 0
    longest = 0.0
    with slow_names():
        for kind in kinds:
            for name in HANGS:
                took, clean = hang(name, kind)
                longest = max(longest, took)
                tried += 1
                survived += clean and took < 1.05
    return ("hangs of 16 kinds, `deadline=1`", tried, survived, f"longest call {longest:.3f} s")


def framed(body: bytes, how: str) -> bytes:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
    if how == "length":
        return head + b"content-length: %d\r\n\r\n" % len(body) + body
    if how == "chunked":
        pieces = b"".join(
            b"%x\r\n%s\r\n" % (len(body[at : at + 50]), body[at : at + 50]) for at in range(0, len(body), 50)
        )
        return head + b"transfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
    return head + b"\r\n" + body


def cuts(how: str, reset: bool, step: int) -> Row:
    """A stream cut at every byte: complete, or said to be broken; never silently short."""
    whole, at = framed(STREAM, how), [0]

    def serve(connection: socket.socket, over: threading.Event) -> None:
        read_request(connection)
        connection.sendall(whole[: at[0]])
        if reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")

    tried = survived = 0
    settings = {"retry": {"max_attempts": 1}, "breaker": {"consecutive": 1_000_000, "ratio": 0.45}}
    with RawServer(serve) as server:
        for at[0] in range(1, len(whole), step):
            with caller("sync", [provider(server.url)], **settings) as client:
                tried += 1
                survived += whole_or_told(client)
    return (f"streams cut at a byte, {how}, {'RST' if reset else 'FIN'}", tried, survived, "whole or said to be broken")


def whole_or_told(client: Caller) -> bool:
    try:
        return client.ask(stream=True, deadline=5) == WHOLE
    except StreamInterrupted as broken:
        return WHOLE.startswith(broken.partial.text)
    except CallFailed:
        return True


def mutations(count: int) -> Row:
    """Whole answers with bytes changed at random: an answer, or a failure that is one of ours."""
    draw, sent = random.Random(1), [b""]

    def serve(connection: socket.socket, over: threading.Event) -> None:
        while read_request(connection):
            connection.sendall(sent[0])

    true, survived = answer(b"well"), 0
    with RawServer(serve) as server:
        for _ in range(count):
            changed = bytearray(true)
            for _ in range(draw.randint(1, 4)):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            sent[0] = bytes(changed)
            with caller("sync", [provider(server.url)], retry={"max_attempts": 1}) as client:
                try:
                    client.ask(deadline=0.3)
                    survived += 1
                except CallFailed:
                    survived += 1
    return ("whole answers with changed bytes", count, survived, "an answer or a CallFailed")


def interrupted(name: str, attack: Callable[[int], tuple[int, int]], count: int) -> Row:
    """Interrupts in the middle of calls: no lease lost, nobody wedged."""
    tried, hurt = attack(count)
    return (name, tried, tried - hurt, "no lease lost, no client wedged")


def main() -> None:
    """Attack, and print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of it")
    quick = parser.parse_args().quick
    part = 10 if quick else 1
    rows = [hangs(KINDS)]
    rows += [cuts(how, reset, 7 if quick else 1) for how in ("plain", "length", "chunked") for reset in (False, True)]
    rows.append(mutations(1000 // part))
    rows.append(interrupted("interrupts by a signal", interrupts.by_timer, 5000 // part))
    rows.append(interrupted("interrupts by injection into threads", interrupts.by_injection, 5000 // part))
    print("| attack | tried | withstood | |\n|---|--:|--:|---|")
    for what, tried, survived, remark in rows:
        print(f"| {what} | {tried:,} | {survived:,} | {remark} |")


if __name__ == "__main__":
    main()
