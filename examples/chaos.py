"""A small chaos experiment: half of the preferred provider's answers fail, then it goes silent; do callers notice?

The providers are servers on this machine; put the experiment around your own client to ask about your own set-up.  The
report is also available as JSON and as an HTML page with a timeline: ``report.write("chaos-report")``.
"""

from resilient_llm import AsyncResilientClient
from resilient_llm.chaos import Experiment, Traffic
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import Hang, LoopbackLLM, Reply, Status

ANSWER = Reply("Because of Rayleigh scattering.", first_token=0.02)

with LoopbackLLM(default=ANSWER) as first, LoopbackLLM(default=ANSWER) as second:
    client = AsyncResilientClient(
        [
            OpenAICompatible("model-a", id="preferred", base_url=first.url),
            OpenAICompatible("model-b", id="reserve", base_url=second.url),
        ],
        timeouts={"first_token": 0.5},
    )
    report = Experiment(
        client,
        hypothesis=["success_rate >= 0.99", "first_token_p99 <= 1.5", "wrong <= 0"],
        faults={"preferred": [(0.5, 1.5, Status(503), 0.5), (1.5, 2.0, Hang())]},
        duration=3,
        abort_when="success_rate < 0.5",
        traffic=Traffic(rate=30, streams=1, check=lambda reply: "Rayleigh" in reply.text),
    ).run()

print(report.text())
