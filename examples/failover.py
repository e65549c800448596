"""Two providers, one of them refusing: the call is answered by the other, and the reply says how it came to that.

The providers are servers on this machine, so that the example runs anywhere; in your program they are
``OpenAI("gpt-5.2")`` and the like, without ``base_url``.
"""

from resilient_llm import ResilientClient
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import LoopbackLLM, Status

with LoopbackLLM(Status(429, retry_after=30)) as busy, LoopbackLLM() as idle:
    with ResilientClient(
        [
            OpenAICompatible("model-a", id="busy", base_url=busy.url),
            OpenAICompatible("model-b", id="idle", base_url=idle.url),
        ]
    ) as client:
        reply = client.chat("Why is the sky blue?", deadline=5)
        print(reply.text)
        for attempt in reply.attempts:
            print(f"  {attempt.number}. {attempt.provider}: {attempt.fault.kind if attempt.fault else attempt.outcome}")
        for candidate in client.explain():
            print(f"  next time {candidate.provider}: {candidate.reason or 'would be asked'}")
