"""``client.map`` in virtual time: its width at servers that limit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from resilient_llm.batch.width import Width
from resilient_llm.decide.attempt import Attempt
from resilient_llm.errors import Fault, ResilientError
from tests.decide.crowd import Crowd, Server, Visit, Work
from tests.decide.world import Target


class Prompt(Visit):
    """One prompt; when it ended the next one begins."""

    mapped: Mapped
    limited = False

    def heard(self, attempt: Attempt[Target], headers: dict[str, str], fault: Fault | None) -> None:
        self.limited = self.limited or fault is not None
        super().heard(attempt, headers, fault)

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
        waiting = sum(not one.running for one in self._live)
        failed = isinstance(prompt.end, ResilientError) and prompt.end.retryable
        self.width.ended(self.crowd.now, waiting=waiting, limited=prompt.limited, failed=failed)
        self._begin()
