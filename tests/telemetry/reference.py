"""The tables of ``docs/reference/telemetry.md``, from ``names``.

``python -m tests.telemetry.reference`` writes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from resilient_llm.telemetry import names
from resilient_llm.telemetry.names import Metric

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "telemetry.md"
BEGIN, END = "<!-- {}: generated -->", "<!-- {}: end -->"


def attributes() -> str:
    """Where each attribute appears."""
    rows = (
        (f"`{a.name}`", a.type, ", ".join(a.where), a.note)
        for a in sorted(names.ATTRIBUTES, key=lambda a: (not a.name.startswith("resilient_llm"), a.name))
    )
    return _table(("attribute", "type", "on", "note"), rows)


def metrics() -> str:
    """Every instrument and its attributes."""
    rows = (
        (f"`{m.name}`", m.kind, f"`{m.unit}`", " ".join(f"`{_short(name)}`" for name in m.attributes), _brief(m))
        for m in names.METRICS
    )
    return _table(("metric", "kind", "unit", "attributes", "what"), rows)


def prometheus() -> str:
    """Names as Prometheus sees them."""
    return _table(("metric", "Prometheus"), ((f"`{m.name}`", f"`{names.prometheus_name(m)}`") for m in names.METRICS))


def errors() -> str:
    """The closed list of ``error.type``."""
    reasons = {word: f"an attempt failed with `FaultKind.{kind.name}`" for kind, word in names.ERROR_TYPES.items()}
    for refusal, word in names.REFUSAL_TYPES.items():
        reasons.setdefault(word, f"nobody could be asked: {refusal}")
    reasons.update(names.CALL_ERROR_TYPES)
    return _table(("`error.type`", "when"), ((f"`{word}`", reasons[word]) for word in names.error_types()))


def vendors() -> str:
    """Vendors with another name in the conventions."""
    return _table(("vendor", "`gen_ai.provider.name`"), ((f"`{k}`", f"`{v}`") for k, v in names.VENDORS.items()))


SECTIONS = {
    "attributes": attributes,
    "metrics": metrics,
    "prometheus": prometheus,
    "errors": errors,
    "vendors": vendors,
}


def rewritten(page: str) -> str:
    """The page with its tables as they should be."""
    for name, make in SECTIONS.items():
        head, _, rest = page.partition(BEGIN.format(name))
        _, _, tail = rest.partition(END.format(name))
        page = f"{head}{BEGIN.format(name)}\n{make()}\n{END.format(name)}{tail}"
    return page


def _short(name: str) -> str:
    return name.removeprefix("resilient_llm.").removeprefix("gen_ai.")


def _brief(metric: Metric) -> str:
    return metric.brief if metric.dialect is None else f"{metric.brief} (dialect `{metric.dialect}`)"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text()))
