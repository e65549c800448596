"""Metrics of a client for a real Prometheus, through OpenTelemetry's SDK and its Prometheus exporter.

Run it beside ``prometheus --config.file=prometheus.yml`` and import ``grafana_dashboard.json`` into Grafana::

    python prometheus_metrics.py 9464 600        # port and seconds (these, if not given); http://127.0.0.1:9464/metrics

Needs ``opentelemetry-sdk`` and ``opentelemetry-exporter-prometheus``.  The providers are servers of this process, one
of which often fails and one of which enforces a rate limit, so that there is something to see.
"""

import random
import sys
import time

from opentelemetry import metrics
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import start_http_server

from resilient_llm import CallFailed, ChatResponse, ResilientClient
from resilient_llm.operate.objectives import Objective, Objectives
from resilient_llm.providers import OpenAI
from resilient_llm.testing import Cut, LoopbackLLM, RateLimit, Reply, Status

# All that an application needs: a meter provider, set at any time, and a port for the scraper.
metrics.set_meter_provider(MeterProvider([PrometheusMetricReader()]))
port, seconds = (int(sys.argv[1]), float(sys.argv[2])) if len(sys.argv) == 3 else (9464, 600.0)
scraped, _ = start_http_server(port, "127.0.0.1")
print(f"http://127.0.0.1:{scraped.server_port}/metrics", flush=True)


def polite(reply: ChatResponse) -> bool:
    """A check of answers that some do not pass: they were paid for and reach nobody, which is a metric too."""
    return random.random() < 0.8


def provider(name: str, server: LoopbackLLM) -> OpenAI:
    return OpenAI("gpt-5.2", id=name, base_url=f"{server.url}/v1", api_key="not-a-key")


broken = [Status(503), Status(429, retry_after=2), Reply("Hello.", fault=Cut(after=1))]
with (
    LoopbackLLM(
        default=lambda request: random.choice([Reply("Hello there."), Reply("Hello there."), *broken])
    ) as moody,
    LoopbackLLM(default=Reply("Hello, world.")) as steady,
    LoopbackLLM(default=Status(401)) as locked,
    ResilientClient(
        {"default": [provider("moody", moody), provider("steady", steady)], "batch": [provider("locked", locked)]},
        name="shop",
    ) as client,
):
    objectives = Objectives(client, Objective(availability=0.99))  # optional: its gauges live as long as it does
    steady.limit = RateLimit(requests=50_000, tokens=1_000_000)
    ends = time.monotonic() + seconds
    number = 0
    while time.monotonic() < ends:
        number += 1
        try:
            if number % 3:
                client.chat("Say hello.", deadline=5, validate=polite)
            else:
                with client.stream("Say hello.", deadline=5) as stream:
                    for _ in stream.text_deltas():
                        pass
            if number % 20 == 0:
                client.chat("Say hello.", route="batch", deadline=1)
        except CallFailed:
            pass  # told in the metrics
        time.sleep(0.02)
