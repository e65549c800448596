"""What Claude wants, on whichever wire it is asked: generations, token limits and thinking."""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from resilient_llm.model import ChatRequest, Reasoning
from resilient_llm.wire.features import Feature
from resilient_llm.wire.kit.fields import Fields
from resilient_llm.wire.kit.notes import Notes

Generation: TypeAlias = tuple[int, int]

NEWEST: Final[Generation] = (99, 0)
_NAMED = re.compile(r"claude-(?:v|[a-z]+-)?(\d+)(?:[-.](\d{1,2})(?!\d))?")

LEAST_BUDGET: Final = 1024
"""Fewest tokens a thinking budget may have."""

_BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16384, "xhigh": 32000, "max": 32000}
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


def generation(model: str) -> Generation:
    """``claude-sonnet-4-5-20250929`` -> (4, 5).  A Claude without number counts as the newest, any other model as older
    than all."""
    if "claude" not in model:
        return (0, 0)
    found = _NAMED.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else NEWEST


def default_max_tokens(model: str) -> int:
    """What to ask for when the caller sets no limit where one is demanded: 4096 tokens, the most that the oldest
    models can write, and 16384 since Claude 4, whose answers would be cut by less."""
    return 16384 if generation(model) >= (4, 0) else 4096


def thinking(request: ChatRequest, reasoning: Reasoning, unthought: bool, notes: Notes) -> tuple[Fields, int | None]:
    """The fields that make a Claude think as asked, and the new limit of tokens if it needs one.  ``unthought``: the
    conversation ends in calls (and their results) without the thought that led to them."""
    if reasoning.effort == "none" or reasoning.budget == 0:
        return {"thinking": {"type": "disabled"}}, None
    if reasoning.effort is None and reasoning.budget is None:
        return {}, None
    if request.tool_choice is not None and request.tool_choice.mode == "required":
        notes.add(Feature.REASONING, "left out: this model does not think when a tool is forced")
        return {}, None
    model = generation(request.model)
    if model >= (4, 6) and reasoning.budget is None:
        # Such a model decides how long it thinks and is told how hard.
        effort = _effort(reasoning.effort or "", model, notes)
        fields: Fields = {"thinking": {"type": "adaptive"}}
        return fields | ({"output_config": {"effort": effort}} if effort else {}), None
    if unthought:  # with a budget, the vendor insists on the thought, which was another vendor's and is left out
        notes.add(Feature.REASONING, "left out: the calls of this turn were made without")
        return {}, None
    return _budgeted(request, reasoning, notes)


def _effort(effort: str, model: Generation, notes: Notes) -> str | None:
    if effort == "xhigh" and model < (4, 7):
        notes.add(Feature.REASONING_EFFORT, "xhigh sent as high")
        return "high"
    if effort == "minimal":
        notes.add(Feature.REASONING_EFFORT, "minimal sent as low")
        return "low"
    if effort not in _EFFORTS:
        notes.add(Feature.REASONING_EFFORT, "left to the model: not a word it knows")
        return None
    return effort


def _budgeted(request: ChatRequest, reasoning: Reasoning, notes: Notes) -> tuple[Fields, int | None]:
    """The budget counts against the limit: one the caller did not set grows by it, one the caller set caps it."""
    wanted = reasoning.budget or _BUDGETS.get(reasoning.effort or "", _BUDGETS["medium"])
    budget = max(wanted, LEAST_BUDGET)
    limit = None
    if request.max_tokens is None:
        limit = default_max_tokens(request.model) + budget
    elif request.max_tokens <= LEAST_BUDGET:
        notes.add(Feature.REASONING, "left out: max_tokens leaves no room for it")
        return {}, None
    else:
        budget = min(budget, request.max_tokens - 1)
    if reasoning.budget is None:
        notes.add(Feature.REASONING_EFFORT, f"{reasoning.effort} sent as a budget of {budget} tokens")
    elif budget != reasoning.budget:
        notes.add(Feature.REASONING_BUDGET, "changed to what this wire takes")
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}, limit


def thinks(fields: Fields) -> bool:
    """Whether these fields make a model think; it then takes neither ``temperature`` nor ``top_k``."""
    return "thinking" in fields and fields["thinking"] != {"type": "disabled"}


_FEATURES = {"topP": Feature.TOP_P}


def leave_out(body: Fields, names: tuple[str, ...], why: str, notes: Notes) -> None:
    """Takes fields out of a body and says so."""
    for name in names:
        if body.pop(name, None) is not None:
            notes.add(_FEATURES.get(name, name), f"left out: {why}")
