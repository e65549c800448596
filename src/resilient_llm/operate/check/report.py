"""What ``check`` found, for people and for machines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Final, cast

from resilient_llm.operate.check.probing import Probe
from resilient_llm.operate.look import Mood, Row, Sheet, row
from resilient_llm.operate.secrets.stores import AT_ONCE
from resilient_llm.operate.settings.places import Path
from resilient_llm.operate.settings.problems import Problem, shown
from resilient_llm.operate.settings.reading import Settings
from resilient_llm.operate.settings.shape import client_fields
from resilient_llm.policy import Policies
from resilient_llm.providers.base import HttpProvider
from resilient_llm.providers.endpoint import shown as shown_url

_HIDDEN: Final = frozenset({"headers", "params"})
"""Settings whose values may be secret."""
_MOODS: Final[Mapping[str, Mood]] = {"ok": "good", "limited": "warn", "slow": "warn"}


@dataclass(frozen=True, slots=True)
class LookedFor:
    """A secret that settings name; ``missing``: why there is none (empty: there is one, or nobody looked)."""

    reference: str
    looked: bool
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """Everything that a check found; ``settings`` are ``None`` if they cannot be used."""

    problems: Sequence[Problem]
    settings: Settings | None = None
    secrets: Sequence[LookedFor] = ()
    probes: Sequence[Probe] = ()
    keys_needed: bool = True
    """Whether a secret that is not there is a finding."""

    @property
    def fine(self) -> bool:
        """Whether nobody needs to act."""
        errors = any(one.severity == "error" for one in self.problems)
        missing = self.keys_needed and any(one.missing for one in self.secrets)
        return not errors and not missing and all(one.fine for one in self.probes)


def looked_for(settings: Settings, *, all_stores: bool) -> list[LookedFor]:
    """Each secret, and why there is none.  Only stores that answer at once are asked, unless ``all_stores``."""
    found: list[LookedFor] = []
    for one in settings.secrets:
        looked = all_stores or one.reference.store in AT_ONCE
        if looked:
            one.wait()
        found.append(LookedFor(str(one.reference), looked, (one.reason() if looked else "")))
    return found


# --- for people ---


def sheets(found: Checked, *, everything: bool) -> list[Sheet]:
    """The tables to show; ``everything``: defaults too."""
    problems = [
        row(one.severity, one.origin or "", one.key, _told(one), mood="bad" if one.severity == "error" else "warn")
        for one in found.problems
    ]
    made = [Sheet("", problems)]
    settings = found.settings
    if settings is None:
        return made
    files = [row("read" if path.exists() else "not there", path) for path in settings.files]
    secrets = [
        row(
            one.reference,
            one.missing or ("there" if one.looked else "not looked for; --probe does"),
            mood="bad" if one.missing else "good",
        )
        for one in found.secrets
    ]
    made += [
        Sheet("Files", files),
        Sheet("Providers", list(_provider_rows(settings)), ("route", "tier", "provider", "model", "where", "tags")),
        Sheet("Settings", list(_setting_rows(settings, everything=everything)), ("setting", "value", "from")),
        Sheet("Secrets", secrets),
        Sheet("Probe", list(_probe_rows(found.probes)), ("provider", "level", "took", "found")),
    ]
    return made


def _told(problem: Problem) -> str:
    return f"{problem.message}; {problem.suggestion}" if problem.suggestion else problem.message


def _provider_rows(settings: Settings) -> Iterator[Row]:
    for route, tiers in settings.routes.items():
        for number, tier in enumerate(tiers, 1):
            for provider in tier:
                where = _where(provider) if isinstance(provider, HttpProvider) else "code of yours"
                tags = ", ".join(sorted(getattr(provider, "tags", ())))
                yield row(route, number, provider.id, getattr(provider, "model", ""), where, tags)


def _where(provider: HttpProvider) -> str:
    unverified = ", its certificate not verified" if provider.network.verify is False else ""
    return f"{shown_url(str(provider.base_url))}{provider.network.through}{unverified}"


def _setting_rows(settings: Settings, *, everything: bool) -> Iterator[Row]:
    given = dict(_leaves(settings.values, ()))
    for path, value in given.items():
        yield row(shown(path), value, _origin(settings, path))
    if everything:
        for path, value in _defaults():
            if path not in given:
                yield row(shown(path), value, "default", mood="dim")


def _leaves(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    """Every value with its path, as it may be shown."""
    table, elements = _table(value), _list(value)
    if path and path[-1] in _HIDDEN and table:
        yield path, f"<{', '.join(table)}>"
    elif table:
        for name, one in table.items():
            yield from _leaves(one, (*path, name))
    elif any(_table(one) or _list(one) for one in elements):
        for index, one in enumerate(elements):
            yield from _leaves(one, (*path, index))
    else:
        yield path, _shown(value)


def _table(value: object) -> Mapping[str, object]:
    return cast("Mapping[str, object]", value) if isinstance(value, Mapping) else {}


def _list(value: object) -> Sequence[object]:
    return () if isinstance(value, str) or not isinstance(value, Sequence) else cast("Sequence[object]", value)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return "plain:***" if value.startswith("plain:") else str(value)
    if _list(value):
        return ", ".join(map(_shown, _list(value)))
    return str(value).lower() if isinstance(value, bool) else "none" if value is None else str(value)


def _origin(settings: Settings, path: Path) -> str:
    for length in range(len(path), 0, -1):
        found = settings.origins.get(path[:length])
        if found is not None:
            return str(found)
    return ""


def _defaults() -> Iterator[tuple[Path, str]]:
    policies = Policies()
    for name, field in client_fields().items():
        group = getattr(policies, name, None)
        if is_dataclass(group):
            for one in fields(group):
                yield (name, one.name), _shown(getattr(group, one.name))
        elif field.default is not None:
            yield (name,), _shown(field.default)


def _probe_rows(probes: Sequence[Probe]) -> Iterator[Row]:
    for probe in probes:
        yield row(probe.provider, probe.status, "", "", mood=_MOODS.get(probe.status, "bad"))
        for step in probe.steps:
            mark = {True: "yes", False: "NO", None: "-"}[step.ok]
            mood: Mood = "" if step.ok is not False else "bad"
            yield row("", f"{step.level}: {mark}", f"{step.seconds:.2f} s", step.detail, mood=mood)


# --- for machines ---


def as_json(found: Checked) -> dict[str, object]:
    """The same as plain data."""
    settings = found.settings
    told: dict[str, object] = {
        "valid": settings is not None,
        "fine": found.fine,
        "problems": [
            {
                "severity": one.severity,
                "key": one.key,
                "message": one.message,
                "suggestion": one.suggestion or None,
                "source": None if one.origin is None else one.origin.source,
                "line": None if one.origin is None else one.origin.line,
            }
            for one in found.problems
        ],
    }
    if settings is None:
        return told
    given = dict(_leaves(settings.values, ()))
    return {
        **told,
        "files": [{"path": str(path), "read": path.exists()} for path in settings.files],
        "environment": settings.environment,
        "routes": {
            name: [[provider.id for provider in tier] for tier in tiers] for name, tiers in settings.routes.items()
        },
        "settings": [
            *({"key": shown(path), "value": value, "from": _origin(settings, path)} for path, value in given.items()),
            *({"key": shown(path), "value": one, "from": "default"} for path, one in _defaults() if path not in given),
        ],
        "secrets": [
            {"reference": one.reference, "looked_for": one.looked, "missing": one.missing or None}
            for one in found.secrets
        ],
        "probe": [
            {
                "provider": one.provider,
                "status": one.status,
                "retry_after": one.retry_after,
                "steps": [
                    {"level": step.level, "ok": step.ok, "seconds": round(step.seconds, 4), "detail": step.detail}
                    for step in one.steps
                ],
            }
            for one in found.probes
        ],
    }
