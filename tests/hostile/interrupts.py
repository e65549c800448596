"""Interrupts at random points: by a timer, and by an exception that another thread injects."""

from __future__ import annotations

import ctypes
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from opentelemetry import context

from resilient_llm import ResilientClient
from tests.hostile.clients import provider
from tests.hostile.servers import RawServer, answer, read_request

HARM: list[str] = []
"""What was found."""


class Interrupt(BaseException):
    """What is injected."""


def _serve(connection: Any, over: threading.Event) -> None:
    while read_request(connection):
        connection.sendall(answer(b"well"))


def _client(server: RawServer, other: RawServer) -> ResilientClient:
    return ResilientClient([provider(server.url), provider(other.url, "b")], deadline=5)


def _hurt(client: ResilientClient) -> bool:
    """Whether an interrupted client lost a lease, is wedged, or left its span or its suppression of HTTP
    instrumentation current for the caller."""
    answered: list[str] = []
    caller = threading.Thread(target=lambda: answered.append(client.chat("x", deadline=2).text), daemon=True)
    caller.start()
    caller.join(4)
    leaked = {one.id: one.in_flight for one in client.health().values() if one.in_flight}
    if answered != ["well"] or leaked:
        HARM.append(f"answered: {answered}, in flight: {leaked}")
    left = dict(context.get_current())
    if left:
        HARM.append(f"left current: {left}")
    return answered != ["well"] or bool(leaked) or bool(left)


def _attacked(count: int, attack: Callable[[ResilientClient], bool]) -> tuple[int, int]:
    tried = hurt = 0
    with RawServer(_serve) as server, RawServer(_serve) as other:
        client = _client(server, other)
        for _ in range(4 * count):
            if tried == count:
                break
            if not attack(client):
                continue
            tried += 1
            if _hurt(client):
                hurt += 1
                client = _client(server, other)
        client.close()
    return tried, hurt


def by_timer(count: int) -> tuple[int, int]:
    """So many interrupts by a signal in the middle of a call; how many were tried, and how many did harm."""

    def raised(*_: object) -> None:
        raise Interrupt

    def attack(client: ResilientClient) -> bool:
        hit = False
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.0006))
            client.chat("x")
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupt:
            hit = True
        return hit

    before = signal.signal(signal.SIGALRM, raised)
    try:
        return _attacked(count, attack)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def by_injection(count: int) -> tuple[int, int]:
    """The same by ``PyThreadState_SetAsyncExc``, as libraries with timeouts for threads do."""
    inject = ctypes.pythonapi.PyThreadState_SetAsyncExc

    def attack(client: ResilientClient) -> bool:
        state: list[bool] = []

        def work() -> None:
            try:
                client.chat("x")
                time.sleep(0.001)
            except Interrupt:
                state.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(random.uniform(0.0, 0.0012))
        if thread.ident is not None:
            inject(ctypes.c_ulong(thread.ident), ctypes.py_object(Interrupt))
        thread.join(10)
        return bool(state)

    return _attacked(count, attack)
