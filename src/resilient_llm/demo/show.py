"""Runs the day: the providers, the callers, the acts, and somebody who watches."""

from __future__ import annotations

import math
import random

import anyio
import httpx
from anyio.abc import TaskGroup

from resilient_llm.chaos.timeline.story import Notebook, Story
from resilient_llm.client import AsyncResilientClient
from resilient_llm.demo.acts import ACTS, Scene
from resilient_llm.demo.callers import arrive
from resilient_llm.demo.pace import Pace
from resilient_llm.demo.report import act_totals
from resilient_llm.demo.screens import Screen
from resilient_llm.demo.stage import Stage
from resilient_llm.demo.view import frame

_CONNECTIONS = httpx.Limits(max_connections=None, max_keepalive_connections=100)


class Show:
    """One performance."""

    def __init__(self, pace: Pace, story: Story, screen: Screen) -> None:
        self.pace = pace
        self.story = story
        self.screen = screen
        self.notes: Notebook = Notebook(story)
        self._over = False

    async def play(self) -> None:
        """Play it from beginning to end.  When it is interrupted, the story tells what happened until then."""
        random.seed(self.story.seed)  # the client's own draws
        # A proxy of the environment must not come between the client and servers on this machine.
        with Stage(self.pace, self.story.seed) as stage:
            async with httpx.AsyncClient(limits=_CONNECTIONS, trust_env=False) as http:
                try:
                    await self._serve(stage, http)
                finally:
                    self.story.ended = self.notes.now()
                    self.story.cuts = stage.cuts

    async def _serve(self, stage: Stage, http: httpx.AsyncClient) -> None:
        policies = self.pace.policies
        async with (
            AsyncResilientClient(
                stage.providers(),
                http_client=http,
                deadline=self.pace.deadline,
                listeners=[self.notes.heard],
                name="demo",
                retry=policies.retry,
                breaker=policies.breaker,
                hedge=policies.hedge,
                timeouts=policies.timeouts,
                advanced=policies.advanced,
            ) as client,
            anyio.create_task_group() as watching,
        ):
            watching.start_soon(self._watch, client)
            async with anyio.create_task_group() as crowd:
                await self._acts(stage, client, crowd)
            self.story.complete = True
            watching.cancel_scope.cancel()

    async def _acts(self, stage: Stage, client: AsyncResilientClient, crowd: TaskGroup) -> None:
        rate = self.pace.calls_per_second
        crowd.start_soon(arrive, client, self.notes, rate, crowd, lambda: self._over)
        for act in ACTS:
            await self._act(stage, act)
        self._over = True

    async def _act(self, stage: Stage, act: Scene) -> None:
        length = act.length * self.pace.unit
        seen = self.notes.act_begins(act)
        self.screen.act_begins(self.story, seen)
        if act.deed is not None:
            act.deed(stage)
            await anyio.sleep(act.troubled * length)
            stage.repair()
            seen.repaired = self.notes.now()
        await anyio.sleep(max(0.0, seen.began + length - self.notes.now()))
        seen.ended = self.notes.now()
        self.screen.act_ends(self.story, seen, act_totals(self.story, seen).noticed)

    async def _watch(self, client: AsyncResilientClient) -> None:
        if math.isinf(self.screen.interval):
            return
        while True:
            self.screen.show(frame(self.story, self.notes.now(), self.pace.recent, client.health()))
            await anyio.sleep(self.screen.interval)
