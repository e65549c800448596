"""The script of the bad day."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from resilient_llm.chaos.timeline.story import Act
from resilient_llm.demo.stage import CUT_AFTER, NAMES, Deed, Stage
from resilient_llm.testing import Hang, Status


@dataclass(frozen=True, slots=True)
class Scene(Act):
    """An act and how it is brought about."""

    deed: Deed | None = None


OUTAGE: Final = "outage"
CUT_LATE: Final = "cut-late"


def _throttle(stage: Stage) -> None:
    stage.answer("alpha", Status(429, message="Rate limit reached for requests", retry_after=stage.pace.retry_after))


def _refuse(stage: Stage) -> None:
    stage.refuse("beta")


def _fail(stage: Stage) -> None:
    stage.answer("alpha", Status(500, message="The server had an error while processing your request"))


def _hang(stage: Stage) -> None:
    stage.answer("beta", Hang())


def _slow(stage: Stage) -> None:
    stage.answer("alpha", stage.good("alpha", stage.pace.slow_first_token))


def _cut_early(stage: Stage) -> None:
    stage.cut_thirds(0)


def _cut_late(stage: Stage) -> None:
    stage.cut_thirds(CUT_AFTER)


def _outage(stage: Stage) -> None:
    stage.answer("alpha", Status(500))
    stage.refuse("beta")
    stage.answer("gamma", Status(503))


ACTS: Final = (
    Scene(
        "calm",
        "Calm",
        "Nothing is done to anybody.",
        "Alpha and beta are equals and share the calls; gamma is the reserve and rests.",
        6.0,
    ),
    Scene(
        "throttled",
        "429 storm",
        "Alpha answers every request with 429 and a Retry-After.",
        "Its gate closes for as long as it asked, while its breaker stays closed and its health untouched.",
        8.0,
        deed=_throttle,
        faults={"alpha": "429"},
    ),
    Scene(
        "refused",
        "Refused",
        "Beta refuses connections.",
        "Each refusal costs milliseconds; a few in a row open the breaker, and two answered trials close it.",
        8.0,
        deed=_refuse,
        faults={"beta": "refused"},
    ),
    Scene(
        "errors",
        "500s",
        "Alpha answers every request with 500.",
        "Three failures in a row open the breaker softly, five open it; trials find out when alpha is well again.",
        8.0,
        deed=_fail,
        faults={"alpha": "500"},
    ),
    Scene(
        "hang",
        "Hang",
        "Beta takes every request and says nothing.",
        "Silent calls are rescued by a second attempt elsewhere, long before any timeout; new calls avoid beta.",
        8.0,
        deed=_hang,
        faults={"beta": "hang"},
    ),
    Scene(
        "slow",
        "Slow",
        "Alpha takes several times as long to its first word, and nothing fails.",
        "The others get most of the traffic: equals by their latency, and the breaker opens softly if it lasts.",
        8.0,
        deed=_slow,
        faults={"alpha": "slow"},
    ),
    Scene(
        "cut-early",
        "Cut early",
        "Alpha and beta cut every third stream before its first word.",
        "Nothing had been handed over, so these streams begin again elsewhere and nobody sees it.",
        6.0,
        deed=_cut_early,
        faults={"alpha": "cut before", "beta": "cut before"},
    ),
    Scene(
        CUT_LATE,
        "Cut late",
        "Alpha and beta cut every third stream in the middle of the sentence.",
        "The only failures a caller must see: StreamInterrupted with the text so far, never a short answer.",
        6.0,
        deed=_cut_late,
        faults={"alpha": "cut after", "beta": "cut after"},
    ),
    Scene(
        OUTAGE,
        "Outage",
        "Alpha answers 500, beta refuses connections, gamma answers 503, all at once.",
        "Calls wait in line behind one trial at a time, and are answered as soon as somebody is back.",
        8.0,
        deed=_outage,
        troubled=0.55,
        faults=dict(zip(NAMES, ("500", "refused", "503"), strict=True)),
    ),
    Scene(
        "recovery",
        "Recovery",
        "Nothing is done to anybody any more.",
        "Breakers close one after the other and the traffic goes back to where it began.",
        7.0,
    ),
)
