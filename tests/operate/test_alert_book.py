"""When alerts fire and people are told: plain values, no clock, no thread."""

from __future__ import annotations

import random
from collections.abc import Iterable

import pytest

from resilient_llm import ConfigurationError
from resilient_llm.operate.alerts import Alert, Condition, Notification, Rules
from resilient_llm.operate.alerts.book import MOST_ALERTS, Book
from resilient_llm.operate.alerts.words import TITLES, Kind, Severity

WALL = 1_800_000_000.0


def down(subject: str = "a", *, hold: float = 0.0, severity: Severity = "warning", detail: str = "") -> Condition:
    return Condition("provider_unhealthy", subject, severity, detail, hold)


class Told:
    """A book whose time is advanced by hand, and what it told."""

    def __init__(self, rules: Rules | None = None) -> None:
        self.book = Book("app", rules or Rules(), lambda kind: f"https://runbooks/{kind}")
        self.now = 100.0
        self.told: list[tuple[float, Notification]] = []

    def run(self, seconds: float, *held: Condition, step: float = 1.0) -> list[Notification]:
        before = len(self.told)
        for _ in range(round(seconds / step)):
            self.now += step
            found = self.book.update(self.now, WALL + self.now, held)
            if found is not None:
                self.told.append((self.now, found))
        return [found for _, found in self.told[before:]]


def subjects(alerts: Iterable[Alert]) -> list[str]:
    return [alert.subject for alert in alerts]


def test_a_condition_is_told_once_and_its_end_once() -> None:
    told = Told()
    (first,) = told.run(600, down())
    assert subjects(first.fired) == subjects(first.firing) == ["a"]
    assert first.fired[0].began_at == WALL + 101
    (last,) = told.run(600)
    assert subjects(last.resolved) == ["a"]
    assert last.firing == ()
    assert last.resolved[0].ended_at == WALL + 701
    assert told.run(600) == []


def test_what_does_not_last_is_never_told() -> None:
    told = Told()
    for _ in range(20):
        assert told.run(9, down(hold=10.0)) == []
        assert told.run(2) == []
    assert told.run(20, down(hold=10.0))


def test_a_gap_shorter_than_clear_after_is_no_end() -> None:
    told = Told()
    assert len(told.run(60, down())) == 1
    for _ in range(10):
        assert told.run(50) == []
        assert told.run(10, down()) == []


def test_many_at_once_are_one_notification() -> None:
    told = Told()
    assert told.run(2, down("a")) == []
    assert told.run(2, down("a"), down("b")) == []
    (only,) = told.run(60, down("a"), down("b"), down("c"))
    assert subjects(only.fired) == ["a", "b", "c"]
    assert "and 2 more" in only.title
    (over,) = told.run(600)
    assert subjects(over.resolved) == ["a", "b", "c"]


def test_what_flaps_is_told_less_and_less_often() -> None:
    told = Told()
    for _ in range(60):  # two minutes bad, two minutes good, for four hours
        told.run(120, down())
        told.run(120)
    assert len(told.told) <= 12
    assert len([1 for at, _ in told.told if at > 100 + 3600]) <= 6


def test_after_an_hour_in_peace_it_is_believed_as_soon_as_ever() -> None:
    told = Told()
    for _ in range(5):
        told.run(60, down())
        told.run(1000)
    told.run(4000)
    told.run(60, down())
    before = told.now
    told.run(200)
    assert told.told[-1][0] - before == pytest.approx(66, abs=2)


def test_what_still_fires_is_told_again_after_hours_and_not_at_all_if_not_wanted() -> None:
    told = Told(Rules(repeat_after=3600.0))
    notifications = told.run(3 * 3600 + 30, down(), step=5.0)
    assert [len(one.fired) for one in notifications] == [1, 0, 0, 0]
    assert all(subjects(one.firing) == ["a"] for one in notifications)
    assert "still firing" in notifications[1].text
    never = Told(Rules(repeat_after=None))
    assert len(never.run(24 * 3600, down(), step=60.0)) == 1


def test_too_many_notifications_wait_and_are_told_together_but_nothing_is_lost() -> None:
    told = Told(Rules(most_per_hour=6.0, clear_after=0.0, group_wait=0.0))
    held: list[Condition] = []
    for number in range(100):
        held.append(down(f"p{number}"))
        told.run(10, *held)
    told.run(1200, *held)
    assert 5 <= len(told.told) <= 9
    assert sorted(subject for _, one in told.told for subject in subjects(one.fired)) == sorted(
        condition.subject for condition in held
    )


def test_what_is_critical_does_not_wait() -> None:
    told = Told(Rules(most_per_hour=1.0))
    for number in range(8):
        told.run(30, *(down(f"p{one}") for one in range(number)))
    assert told.run(7, down("p0"), Condition("all_providers_down", "default", "critical", "")) != []


def test_one_that_gets_worse_is_told_again_and_one_that_gets_better_is_not() -> None:
    told = Told()
    told.run(10, down(severity="info"))
    (worse,) = told.run(10, down(severity="critical"))
    assert worse.fired[0].severity == "critical"
    assert told.run(60, down(severity="info")) == []


def test_who_was_told_of_the_worst_is_told_when_it_is_over() -> None:
    told = Told()
    told.run(10, down(severity="critical", detail="the worst"))
    told.run(10, down(severity="info"))
    assert [(alert.severity, alert.detail) for alert in told.book.firing()] == [("critical", "the worst")]
    (over,) = told.run(120)
    assert over.for_severity("critical") == over
    told.run(10, down(severity="info"))
    assert [alert.severity for alert in told.book.firing()] == ["info"], "the next one is another one"


def test_one_that_ended_before_anybody_was_told_is_told_with_its_end() -> None:
    told = Told(Rules(most_per_hour=1.0, clear_after=1.0))
    for number in range(6):
        told.run(10, *(down(f"p{one}") for one in range(number)))
    held = [down(f"p{one}") for one in range(5)]
    told.run(10, *held, down("short"))
    told.run(4000, *held)
    assert [one for _, one in told.told if "short" in subjects(one.resolved)]


def test_kinds_that_nobody_wants_are_ignored() -> None:
    told = Told(Rules(ignore=("provider_unhealthy",)))
    assert told.run(60, down()) == []
    assert told.book.firing() == ()


def test_no_more_is_followed_than_there_is_room_for() -> None:
    told = Told()
    held = [down(f"p{number}") for number in range(2 * MOST_ALERTS)]
    told.run(20, *held)
    assert len(told.book.firing()) == MOST_ALERTS
    for round_ in range(5):
        told.run(3, *(down(f"q{round_}-{number}") for number in range(MOST_ALERTS)))
        told.run(2000, step=100)
    assert len(told.book._past) <= MOST_ALERTS + 1  # what is remembered is bounded too


def test_severity_filters_the_parts_of_a_notification() -> None:
    told = Told()
    all_down = Condition("all_providers_down", "default", "critical", "a: open")
    (one,) = told.run(10, down(), all_down)
    assert [alert.severity for alert in one.fired] == ["critical", "warning"]
    severe = one.for_severity("critical")
    assert severe is not None
    assert [alert.kind for alert in severe.fired] == ["all_providers_down"]
    told.run(10, down(), all_down)
    (over,) = told.run(120, all_down)
    assert over.for_severity("critical") is None, "what ended was a warning; what still fires is known"
    assert one.for_severity("info") is one


def test_a_notification_reads_well_and_survives_json() -> None:
    (one,) = Told().run(10, down("openai-gpt-5.2", detail="down: 5 failures in a row"))
    assert one.title == "[app] 1 firing: openai-gpt-5.2 is unhealthy"
    assert (
        "FIRING warning: openai-gpt-5.2 is unhealthy: down: 5 failures in a row (since 2027-01-15 08:01:41Z)"
        in one.text
    )
    assert "runbook: https://runbooks/provider_unhealthy" in one.text
    assert one.as_dict()["fired"] == [one.fired[0].as_dict()]


def test_every_kind_has_titles_for_its_beginning_and_its_end() -> None:
    for kind, (begins, ends) in TITLES.items():
        assert begins.format("x") != ends.format("x"), kind


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"interval": 0}, "interval must be a number of 0.1 or more, not 0"),
        ({"group_wait": -1}, "group_wait"),
        ({"clear_after": "60"}, "clear_after"),
        ({"repeat_after": 0}, "repeat_after"),
        ({"most_per_hour": True}, "most_per_hour"),
        ({"ignore": ("provider_down",)}, "provider_unhealthy"),
        ({"ignore": "provider_unhealthy"}, "ignore"),
    ],
)
def test_rules_that_make_no_sense_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Rules(**wrong)  # type: ignore[arg-type]


def test_whatever_happens_what_people_were_told_adds_up() -> None:
    """Random conditions: nobody is told of an end without a beginning, and in the end everybody knows what fires."""
    draw = random.Random(14)
    kinds: tuple[Kind, ...] = ("provider_unhealthy", "quota_exhausted", "all_providers_down")
    for _ in range(30):
        told = Told(Rules(clear_after=draw.choice((0.0, 20.0)), most_per_hour=draw.choice((5.0, 600.0))))
        known: set[str] = set()
        for _ in range(40):
            held = [
                Condition(draw.choice(kinds), draw.choice("abc"), draw.choice(("info", "critical")), "", 2.0)
                for _ in range(draw.randrange(4))
            ]
            for notification in told.run(draw.randrange(1, 90), *held):
                for alert in notification.resolved:
                    assert alert.ended_at is not None
                    assert alert.ended_at >= alert.began_at
                    known.discard(alert.key)
                known |= {alert.key for alert in notification.fired}
                assert known == {alert.key for alert in notification.firing}
        told.run(4000)
        assert told.book.firing() == ()
