"""A program written for ``openai.OpenAI`` whose vendor fails: Claude answers, and the program sees OpenAI's own
types.

The providers are servers on this machine, so that the example runs anywhere; in your program they are
``OpenAI("gpt-5.2")`` and ``Anthropic("claude-sonnet-5")``, without ``base_url`` and ``api_key``.
"""

from importlib.util import find_spec

from resilient_llm import ResilientClient, mount
from resilient_llm.providers import Anthropic, OpenAI
from resilient_llm.testing import LoopbackLLM, Reply, Status


def program(llm):  # as it was before
    question = [{"role": "user", "content": "Why is the sky blue?"}]
    answer = llm.chat.completions.create(model="gpt-5.2", messages=question)
    print(type(answer).__name__, "from", answer.model)
    for chunk in llm.chat.completions.create(model="gpt-5.2", messages=question, stream=True):
        print(chunk.choices[0].delta.content or "", end="|")
    print()


def main():
    import openai  # noqa: PLC0415 - installed or not

    with LoopbackLLM(default=Status(503)) as dead, LoopbackLLM(default=Reply("It scatters blue light.")) as alive:
        providers = [
            OpenAI("gpt-5.2", base_url=f"{dead.url}/v1", api_key="key-of-openai"),
            Anthropic("claude-sonnet-5", base_url=alive.url, api_key="key-of-anthropic"),
        ]
        with ResilientClient(providers) as client, mount(openai.OpenAI, client) as llm:
            program(llm)


if __name__ == "__main__":
    main() if find_spec("openai") else print("needs OpenAI's SDK: pip install openai")
