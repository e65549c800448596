"""What OpenTelemetry's own HTTPX instrumentation puts on the wire around our attempts.

Needs ``opentelemetry-instrumentation-httpx``; skipped without it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from resilient_llm.telemetry import Telemetry
from tests.telemetry.rig import FIRST, REQUEST, Provider, Rig

instrumentation = pytest.importorskip("opentelemetry.instrumentation.httpx")

TRACE_HEADERS = ("traceparent", "tracestate", "baggage")


class Echo(BaseHTTPRequestHandler):
    """Answers with the trace headers it was sent."""

    def do_POST(self) -> None:
        body = ",".join(name for name in TRACE_HEADERS if self.headers.get(name)).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    instrumentation.HTTPXClientInstrumentor().instrument(tracer_provider=rig.tracers)
    token = context.attach(baggage.set_baggage("tenant", "acme"))
    yield rig
    context.detach(token)
    instrumentation.HTTPXClientInstrumentor().uninstrument()


def sent(url: str, telemetry: Telemetry, target: Provider) -> str:
    call = telemetry.call("chat", REQUEST, "default", target, streaming=False, call_id="c")
    attempt = call.attempt(target, 1, "initial", 0.0)
    token = attempt.attach()
    try:
        return httpx.post(url, headers=attempt.headers()).text
    finally:
        attempt.detach(token)


def test_without_us_the_instrumentation_sends_trace_and_baggage(url: str, rig: Rig) -> None:
    assert httpx.post(url).text == "traceparent,baggage"


@pytest.mark.parametrize("kind", ["recording", "sampled out", "no SDK"])
def test_a_provider_sees_no_trace_and_no_baggage_and_a_gateway_of_ones_own_sees_the_trace(
    url: str, rig: Rig, kind: str
) -> None:
    plain = Telemetry("plain")
    telemetry = {"recording": rig.telemetry, "sampled out": Rig(sampler=ALWAYS_OFF).telemetry, "no SDK": plain}[kind]
    assert sent(url, telemetry, FIRST) == ""
    assert not [span for span in rig.spans if span.name == "POST"]
    assert sent(url, telemetry, Provider("gateway", propagate_trace_context=True)) == "traceparent"
