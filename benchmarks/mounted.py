"""A client mounted under the OpenAI SDK beside the bare SDK on the same server."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from benchmarks.chat import PROMPT, QUIET, providers
from benchmarks.harness import Batch, Row, beside, measure
from benchmarks.server import serving
from resilient_llm import ResilientClient

BUDGET = 1.1


def asking(sdk: Any) -> Batch:
    """One chat completion after the other."""

    def run(count: int) -> None:
        for _ in range(count):
            sdk.chat.completions.create(model="model", messages=[{"role": "user", "content": PROMPT}])

    return run


def rows(quick: bool) -> list[Row]:
    """With and without a client in between."""
    if find_spec("openai") is None:
        return [Row("mounted under the OpenAI SDK", "not installed: pip install resilient-llm[bench]")]
    import openai

    try:
        from resilient_llm.mount import mount
    except ImportError:
        return [Row("mounted under the OpenAI SDK", "there is no mount yet")]
    with serving(100) as url:
        bare = openai.OpenAI(api_key="key", base_url=url + "/v1", max_retries=0)
        client = ResilientClient(providers(url), deadline=None, hedge=QUIET)
        mounted = mount(openai.OpenAI, client)
        things = {"mounted": asking(mounted), "bare": asking(bare)}
        found = measure(things, 40 if quick else 150, 5 if quick else 11)
    return [beside("mounted under the OpenAI SDK", found["mounted"], found["bare"], "bare SDK", BUDGET)]
