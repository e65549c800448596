"""``client.map`` in virtual time: its width at servers that limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient_llm.batch.width import Width
from resilient_llm.errors import ResilientError
from tests.decide.crowd import Crowd, Server, Visit, Work


class Prompt(Visit):
    """One prompt; when it ended the next one begins."""

    mapped: Mapped

    def over(self) -> None:
        self.driver.at(self.driver.now, self.mapped.done, self)


class Mapped:
    """A run over so many prompts, with these options of each call."""

    def __init__(self, servers: Mapping[str, Server], prompts: int, seed: int = 0, **options: Any) -> None:
        self.crowd = Crowd(servers, seed=seed)
        self.width = Width(512)
        self._left = prompts
        self._live: set[Prompt] = set()
        self._how = Work(iter(()), options)
        self.crowd.at(0.0, self._begin)
        self.crowd.run()

    def _begin(self) -> None:
        crowd = self.crowd
        while self._left and len(self._live) < self.width.width:
            self._left -= 1
            prompt = Prompt(crowd, crowd.ask(self._how))
            prompt.mapped = self
            self._live.add(prompt)
            crowd.runs.append(prompt)
            crowd.at(crowd.now, prompt.go_on, 0)

    def done(self, prompt: Prompt) -> None:
        self._live.discard(prompt)
        waiting = sum(one.place is not None for one in self._live)
        failed = isinstance(prompt.end, ResilientError) and prompt.end.retryable
        self.width.ended(self.crowd.now, waiting=waiting, failed=failed)
        self._begin()
