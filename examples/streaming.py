"""A stream that breaks in the middle: what had arrived is in the exception, and nothing is repeated."""

from resilient_llm import ResilientClient, StreamInterrupted
from resilient_llm.providers import OpenAICompatible
from resilient_llm.testing import Cut, LoopbackLLM, Reply

with LoopbackLLM(Reply("A whole story."), Reply("A story that is never told to its end.", fault=Cut(4))) as server:
    with ResilientClient([OpenAICompatible("model", id="only", base_url=server.url)]) as client:
        with client.stream("Tell me a story") as stream:
            for text in stream.text_deltas():
                print(text, end="")
        print(f"\n  {stream.response.finish_reason}, answered by {stream.provider}")

        try:
            with client.stream("Tell me another") as stream:
                for text in stream.text_deltas():
                    print(text, end="")
        except StreamInterrupted as broken:
            partial = broken.partial.text if broken.partial else ""
            print(f"\n  interrupted after {partial!r}")
