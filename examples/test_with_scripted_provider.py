"""Testing what *you* build on a client, without sockets and without waiting.  Run it with pytest, or as a script.

The code under test asks for a summary and falls back to the first sentence if nobody answers.
"""

from resilient_llm import ResilientClient
from resilient_llm.errors import CallFailed
from resilient_llm.testing import Hang, ScriptedProvider, Status, instant

TEXT = "The sky is blue. It is so because air scatters short waves more than long ones."


def summary(client: ResilientClient, text: str) -> str:
    """What the application does."""
    try:
        return client.chat(f"Summarise: {text}", deadline=60).text
    except CallFailed:
        return text.partition(". ")[0] + "."


def test_a_rate_limit_is_waited_for() -> None:
    provider = ScriptedProvider(Status(429, retry_after=20), "Air scatters blue.")
    with ResilientClient([provider]) as client, instant(client) as clock:
        assert summary(client, TEXT) == "Air scatters blue."
    assert provider.request_count == 2
    assert 20 <= sum(clock.sleeps) < 60


def test_a_provider_that_fails_is_replaced_by_another() -> None:
    broken, well = ScriptedProvider(Status(503), id="broken"), ScriptedProvider("Air scatters blue.", id="well")
    with ResilientClient([broken, well]) as client, instant(client) as clock:
        assert summary(client, TEXT) == "Air scatters blue."
    assert clock.sleeps == []


def test_the_first_sentence_is_the_last_resort() -> None:
    silent = ScriptedProvider(default=Hang())
    with ResilientClient([silent]) as client, instant(client) as clock:
        assert summary(client, TEXT) == "The sky is blue."
        assert sum(clock.sleeps) <= 61


if __name__ == "__main__":
    for name, test in list(globals().items()):
        if name.startswith("test_"):
            test()
            print(f"{name}: passed")
