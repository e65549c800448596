"""Many prompts under a rate limit, kept in a file that a second run takes up.  A server on this machine answers."""

import tempfile
from pathlib import Path

from resilient_llm import ResilientClient
from resilient_llm.providers import OpenAI
from resilient_llm.testing import LoopbackLLM, RateLimit, Reply


def main() -> None:
    limit = RateLimit(requests=40, per=1.0)
    with tempfile.TemporaryDirectory() as folder, LoopbackLLM(default=Reply("Paris"), limit=limit) as server:
        file = Path(folder, "results.jsonl")
        prompts = {f"question-{number}": f"What is the capital of country {number}?" for number in range(60)}

        with make_client(server) as client, client.map(prompts.items(), save_to=file) as results:
            for result in results:
                if result.index == 20:
                    break  # as a crash or Ctrl-C would

        with make_client(server) as client:
            results = list(client.map(prompts.items(), save_to=file))
        failed, saved = sum(bool(result.error) for result in results), sum(result.saved for result in results)
        print(f"{len(results)} results, {failed} failed, {saved} from the first run")
        print(f"{len(file.read_text().splitlines())} lines in the file, the first: {results[0].answer.text}")


def make_client(server: LoopbackLLM) -> ResilientClient:
    return ResilientClient([OpenAI("gpt-5.2", base_url=f"{server.url}/v1", api_key="any")])


main()
