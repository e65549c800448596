"""Settings: few, each checked when it is given, and the message says what would be right."""

from __future__ import annotations

import dataclasses
import math
import pickle
import re
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient_llm import policy
from resilient_llm.errors import ConfigurationError, ResilientError
from resilient_llm.policy import (
    Advanced,
    Breaker,
    Hedge,
    KeyTerms,
    Limits,
    Policies,
    Policy,
    Rate,
    Retry,
    Stream,
    Timeouts,
    as_policy,
)
from tests.decide.world import PROPERTY

KINDS: list[type[Policy]] = [Retry, Breaker, Hedge, Timeouts, Stream, Limits, Advanced]
FIELDS = [(kind, field) for kind in KINDS for field in dataclasses.fields(kind)]
named = pytest.mark.parametrize(
    ("kind", "field"), FIELDS, ids=[f"{kind.__name__}.{field.name}" for kind, field in FIELDS]
)


def make(kind: type[Policy], **settings: object) -> Policy:
    return cast(Policy, cast(Any, kind)(**settings))


def default(field: dataclasses.Field[Any]) -> object:
    return field.default


def test_a_user_meets_at_most_twenty_six_settings_and_ten_advanced_ones() -> None:
    assert len([field for kind, field in FIELDS if kind is not Advanced]) <= 26
    assert len(dataclasses.fields(Advanced)) <= 10


@named
def test_every_setting_is_explained_where_it_is_defined(kind: type[Policy], field: dataclasses.Field[Any]) -> None:
    assert re.search(rf"``[^`]*\b{field.name}\b", kind.__doc__ or "")


@pytest.mark.parametrize("kind", [*KINDS, Policies])
def test_every_default_is_acceptable(kind: type[Policy]) -> None:
    assert kind() == kind()


def test_every_kind_of_setting_is_tested_here() -> None:
    made = {item for item in vars(policy).values() if isinstance(item, type) and issubclass(item, Policy)}
    assert made - {Policy, Policies, Rate, KeyTerms} == set(KINDS)
    assert [field.name for field in dataclasses.fields(Policies)] == [kind.__name__.lower() for kind in KINDS]


# --- every mistake is the same kind of error ---


@named
def test_every_field_refuses_nonsense_and_says_where_and_what(
    kind: type[Policy], field: dataclasses.Field[Any]
) -> None:
    whole = isinstance(default(field), int) and not isinstance(default(field), bool)
    values: tuple[object, ...] = ("soon", [], object, math.nan, math.inf, -math.inf, -1.0, -1, 10**400)
    for nonsense in values:
        if whole and nonsense == 10**400:
            continue  # a whole number has no upper bound
        with pytest.raises(ConfigurationError) as failure:
            make(kind, **{field.name: nonsense})
        assert f"{kind.__name__}.{field.name}" in str(failure.value)
        assert repr(nonsense)[:50] in str(failure.value)
        assert "must" in str(failure.value)


@named
def test_no_field_takes_a_truth_value_for_a_number_or_the_other_way_round(
    kind: type[Policy], field: dataclasses.Field[Any]
) -> None:
    wrong: object = 1 if isinstance(default(field), bool) else True
    with pytest.raises(ConfigurationError):
        make(kind, **{field.name: wrong})


@named
def test_only_what_may_be_absent_takes_none(kind: type[Policy], field: dataclasses.Field[Any]) -> None:
    if default(field) is None:
        assert getattr(make(kind, **{field.name: None}), field.name) is None
        return
    with pytest.raises(ConfigurationError):
        make(kind, **{field.name: None})


@named
def test_settings_cannot_be_changed_afterwards(kind: type[Policy], field: dataclasses.Field[Any]) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(kind(), field.name, default(field))


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Retry, {"max_attempts": 0}, "Retry.max_attempts must be a whole number of at least 1, not 0"),
        (Retry, {"max_attempts": 2.0}, "Retry.max_attempts must be a whole number of at least 1, not 2.0"),
        (
            Retry,
            {"max_wait": 1e5},
            "Retry.max_wait must be a finite number of at least 0 and at most 86400, not 100000.0",
        ),
        (Retry, {"budget": 0}, "Retry.budget must be a finite number of at least 1 and at most 1e+06, not 0"),
        (Retry, {"backoff_base": 9.0}, "Retry.backoff_base (9.0) must not exceed backoff_cap (8.0)"),
        (Breaker, {"ratio": 0}, "Breaker.ratio must be a finite number of at least 0.01 and at most 0.45, not 0"),
        (Breaker, {"open_base": 16.0}, "Breaker.open_base (16.0) must not exceed open_cap (15.0)"),
        (Hedge, {"enabled": 1}, "Hedge.enabled must be True or False, not 1"),
        (Hedge, {"factor": 0.5}, "Hedge.factor must be a finite number of at least 1 and at most 1000, not 0.5"),
        (Advanced, {"rescue_min": 11}, "Advanced.rescue_min (11) must not exceed rescue_max (10.0)"),
        (
            Timeouts,
            {"first_token": -1},
            "Timeouts.first_token must be a finite number of at least 0.001 and at most 86400 or None, not -1",
        ),
        (Advanced, {"first_token_min": 61}, "Advanced.first_token_min (61) must not exceed first_token_max (60.0)"),
        (Stream, {"hold_tool_arguments": "yes"}, "Stream.hold_tool_arguments must be True or False, not 'yes'"),
        (Stream, {"max_bytes": 1}, "Stream.max_bytes must be a whole number of at least 1024, not 1"),
        (Limits, {"max_queue": -1}, "Limits.max_queue must be a whole number of at least 0, not -1"),
        (Retry, {"retries": 3}, None),
    ],
)
def test_the_message_says_what_would_be_right(
    kind: type[Policy], settings: dict[str, object], message: str | None
) -> None:
    with pytest.raises(ConfigurationError) as failure:
        make(kind, **settings)
    assert message is None or str(failure.value) == message
    assert isinstance(failure.value, ResilientError)
    assert isinstance(failure.value, ValueError)


def test_a_break_in_a_stream_has_only_the_answers_there_are() -> None:
    with pytest.raises(ConfigurationError, match=r"Stream\.on_break must be .*, not 'ignore'"):
        make(Stream, on_break="ignore")


@pytest.mark.parametrize("kind", [*KINDS, Policies])
def test_settings_are_given_by_name_only(kind: type[Policy]) -> None:
    with pytest.raises(ConfigurationError, match=f"{kind.__name__} takes named settings only, not 3"):
        cast(Any, kind)(3)


@pytest.mark.parametrize("kind", [*KINDS, Policies])
@pytest.mark.parametrize("way", ["keyword", "mapping"])
def test_an_unknown_setting_is_named_with_those_there_are(kind: type[Policy], way: str) -> None:
    with pytest.raises(ConfigurationError) as failure:
        make(kind, zzz=1) if way == "keyword" else as_policy(kind, {"zzz": 1})
    known = ", ".join(field.name for field in dataclasses.fields(kind))
    assert str(failure.value) == f"{kind.__name__} has no setting 'zzz'; it has {known}"


def test_a_slip_of_the_pen_is_guessed() -> None:
    with pytest.raises(
        ConfigurationError, match=r"Retry has no setting 'max_atempts' \(did you mean 'max_attempts'\?\)"
    ):
        make(Retry, max_atempts=2)


# --- from mappings ---


def test_nothing_given_means_the_defaults_and_a_policy_is_itself() -> None:
    given = Retry(max_attempts=2)
    assert as_policy(Retry, None) == Retry()
    assert as_policy(Retry, given) is given
    assert as_policy(Retry, {"max_attempts": 2}) == given


@pytest.mark.parametrize("wrong", [5, "fast", [("max_attempts", 2)], Breaker()])
def test_what_is_neither_a_policy_nor_a_mapping_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected a Retry or a mapping of its settings, not"):
        as_policy(Retry, wrong)


def test_all_policies_together_take_mappings_too() -> None:
    loaded = Policies(retry=cast(Any, {"max_attempts": 2}), hedge=cast(Any, None))
    assert loaded.retry == Retry(max_attempts=2)
    assert loaded.hedge == Hedge()
    with pytest.raises(ConfigurationError, match=r"Limits\.gate_cap must be"):
        Policies(limits=cast(Any, {"gate_cap": -1}))
    with pytest.raises(ConfigurationError, match="expected a Breaker"):
        Policies(breaker=cast(Any, Retry()))


def test_policies_share_nothing_that_can_change() -> None:
    assert Policies() == Policies()
    assert pickle.loads(pickle.dumps(Policies())) == Policies()
    for kind in KINDS:
        assert all(isinstance(default(field), int | float | str | None) for field in dataclasses.fields(kind))


def test_waits_are_bounded_as_the_vendors_own_clients_bound_them() -> None:
    assert Retry().max_wait == 120.0


@PROPERTY
@given(kind=st.sampled_from(KINDS), data=st.data(), value=st.one_of(st.floats(), st.integers(), st.none(), st.text()))
def test_a_value_is_either_kept_as_it_is_or_refused(kind: type[Policy], data: st.DataObject, value: object) -> None:
    name = data.draw(st.sampled_from([field.name for field in dataclasses.fields(kind)]))
    kept: object = None
    try:
        kept = getattr(make(kind, **{name: value}), name)
    except ConfigurationError as error:
        kept = str(error)
    assert kept is value or (str(kept).startswith(f"{kind.__name__}.") and name in str(kept))
