"""Incidents that happened, with sources, as faults of the simulator.

Times are UTC.  A share of failing calls is what the vendor published where ``shares`` says ``"published"``; where it
says ``"assumed"`` nobody published one, and it is ours: all calls for "unavailable", half for "partial outage", less
for what lingers.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Final, Literal, NamedTuple

from resilient_llm.simulate.providers import Trouble


class Phase(NamedTuple):
    """From minute ``start`` to minute ``end`` of an incident a share of the calls meets ``kind`` (a kind of
    :class:`~resilient_llm.simulate.Trouble`); ``more`` are its further fields."""

    start: float
    end: float
    kind: str
    share: float
    more: tuple[tuple[str, float], ...] = ()

    def trouble(self, begin: float) -> Trouble:
        """The same in seconds of a run in which the incident begins at ``begin``."""
        return Trouble(begin + self.start * 60.0, begin + self.end * 60.0, self.kind, self.share, **dict(self.more))


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One incident: when it began, at which vendors, what happened, who says so."""

    name: str
    title: str
    began: datetime
    vendors: tuple[str, ...]
    phases: tuple[Phase, ...]
    shares: Literal["published", "assumed"]
    what: str
    source: str

    @property
    def seconds(self) -> float:
        """How long it lasted."""
        return max(phase.end for phase in self.phases) * 60.0

    @property
    def ended(self) -> datetime:
        """When it was over."""
        return self.began + timedelta(seconds=self.seconds)

    def troubles(self, vendor: str, begin: float) -> tuple[Trouble, ...]:
        """What providers of a vendor suffer in a run in which the incident begins at ``begin`` seconds."""
        return tuple(phase.trouble(begin) for phase in self.phases) if vendor in self.vendors else ()


def _at(year: int, month: int, day: int, hour: int, minute: int) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


_OPENAI: Final = ("openai",)
_ANTHROPIC: Final = ("anthropic",)
_GOOGLE: Final = ("gemini", "vertex_ai")

_ALL: Final = (
    Incident(
        name="2023-11-08",
        title="OpenAI outage",
        began=_at(2023, 11, 8, 13, 54),
        vendors=_OPENAI,
        phases=(Phase(0, 112, "error", 1.0),),
        shares="assumed",
        what="ChatGPT and the API unavailable; abnormal traffic, which OpenAI called a DDoS attack",
        source="https://status.openai.com/history (8 November 2023, critical)",
    ),
    Incident(
        name="2024-08-16",
        title="OpenAI errors in two waves",
        began=_at(2024, 8, 16, 18, 38),
        vendors=_OPENAI,
        phases=(Phase(0, 44, "error", 0.5), Phase(83, 98, "error", 0.5)),
        shares="assumed",
        what="an upgrade of the ingress broke connectivity for a moment, and services took long to start again",
        source="https://status.openai.com/incidents/s9d5cv5jcy7x",
    ),
    Incident(
        name="2024-12-04",
        title="OpenAI load balancer and DNS incident",
        began=_at(2024, 12, 4, 23, 48),
        vendors=_OPENAI,
        phases=(Phase(0, 4, "error", 1.0), Phase(19, 109, "hang", 0.45)),
        shares="published",
        what="530 for all requests for four minutes; later requests stalled for 30 s, and 45 % of them were given up",
        source="https://status.openai.com/incidents/55qs3vq1m35z",
    ),
    Incident(
        name="2024-12-11",
        title="OpenAI outage",
        began=_at(2024, 12, 11, 23, 16),
        vendors=_OPENAI,
        phases=(Phase(0, 140, "error", 1.0), Phase(140, 262, "error", 0.5)),
        shares="assumed",
        what="a new telemetry service brought down the control planes of Kubernetes, and with them DNS; the API was "
        "substantially back after 2 h 20 min, for all models after 4 h 22 min",
        source="https://status.openai.com/incidents/ctrsv3lwd797",
    ),
    Incident(
        name="2025-06-10",
        title="OpenAI loses GPU servers",
        began=_at(2025, 6, 10, 6, 36),
        vendors=_OPENAI,
        phases=(
            Phase(0, 144, "error", 0.05),
            Phase(144, 504, "error", 0.25),
            Phase(504, 774, "error", 0.05),
        ),
        shares="published",
        what="an update of the operating system cut many GPU servers off the network; a quarter of the API's requests "
        "failed for six hours",
        source="https://status.openai.com/incidents/01JXCAW3K3JAE0EP56AEZ7CBG3/write-up",
    ),
    Incident(
        name="2025-06-12",
        title="Google Cloud outage",
        began=_at(2025, 6, 12, 17, 51),
        vendors=_GOOGLE,
        phases=(Phase(0, 109, "error", 1.0), Phase(109, 178, "error", 0.5), Phase(178, 447, "error", 0.1)),
        shares="assumed",
        what="the service that checks quotas crashed in every region: 503 for API requests; Vertex AI recovered last",
        source="https://status.cloud.google.com/incidents/ow5i3PPK96RduMcb1SsW",
    ),
    Incident(
        name="2025-10-20",
        title="AWS us-east-1 outage",
        began=_at(2025, 10, 20, 6, 48),
        vendors=("bedrock",),
        phases=(Phase(0, 172, "error", 1.0), Phase(172, 872, "error", 0.2)),
        shares="assumed",
        what="DynamoDB lost its DNS record, and what depends on it failed; taken as if Bedrock were used in us-east-1",
        source="https://aws.amazon.com/message/101925/",
    ),
    Incident(
        name="2025-11-18",
        title="Cloudflare outage",
        began=_at(2025, 11, 18, 11, 28),
        vendors=(*_OPENAI, *_ANTHROPIC),
        phases=(Phase(0, 182, "error", 0.5),),
        shares="assumed",
        what="5xx from a network that stands in front of several vendors at once; which of their APIs failed, and how "
        "often, was not published: taken as half of the calls of both OpenAI and Anthropic",
        source="https://blog.cloudflare.com/18-november-2025-outage/",
    ),
    Incident(
        name="2026-03-09",
        title="Azure OpenAI refuses a part of the calls",
        began=_at(2026, 3, 9, 23, 20),
        vendors=("azure_openai",),
        phases=(Phase(0, 1212, "429", 0.25),),
        shares="assumed",
        what="one model's endpoint answered 400 and 429 to a part of the traffic for twenty hours",
        source="https://azure.status.microsoft/status/history/ (9 March 2026)",
    ),
    Incident(
        name="2026-04-15",
        title="Claude API errors",
        began=_at(2026, 4, 15, 15, 31),
        vendors=_ANTHROPIC,
        phases=(Phase(0, 30, "error", 0.5),),
        shares="assumed",
        what="elevated errors across claude.ai, Claude Code and the API; the API recovered after half an hour",
        source="https://status.claude.com/history (15 April 2026)",
    ),
    Incident(
        name="2026-04-28",
        title="Claude API rejects keys",
        began=_at(2026, 4, 28, 17, 34),
        vendors=_ANTHROPIC,
        phases=(Phase(0, 78, "auth", 0.5),),
        shares="assumed",
        what="authentication errors for valid keys at the API and Claude Code",
        source="https://status.claude.com/history (28 April 2026)",
    ),
)

INCIDENTS: Final = MappingProxyType({incident.name: incident for incident in _ALL})
"""By the day they began (UTC)."""
