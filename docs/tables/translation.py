"""The tables about vendors and wires, asked of the providers and codecs themselves."""

from __future__ import annotations

from collections.abc import Mapping

from resilient_llm import providers
from resilient_llm.capability import DROPPABLE, LEFT_OUT_IF_REFUSED, MODELS, VENDORS, WRITTEN
from resilient_llm.model import ChatRequest
from resilient_llm.providers.openai import AzureOpenAI, OpenAICompatible
from resilient_llm.wire.openai_chat import Dialect
from tables.markdown import table
from tests.travel.probes import HISTORY, PROBES, WIRES, Verdict, probe

NAMES = {
    "openai_chat": "OpenAI Chat",
    "openai_responses": "Responses",
    "anthropic_messages": "Anthropic",
    "gemini": "Gemini",
    "bedrock_converse": "Bedrock",
    "cohere_v2": "Cohere",
    "ollama": "Ollama",
}
WORDS = {"full": "✓", "changed": "≈", "none": "–"}


def _matrix(requests: Mapping[str, ChatRequest]) -> str:
    rows = ([f"`{name}`", *(WORDS[probe(wire, each).support] for wire in WIRES)] for name, each in requests.items())
    return table(["", *(NAMES[wire] for wire in WIRES)], rows)


def _told(verdict: Verdict) -> str:
    return "; ".join(note.partition(": ")[2] or note for note in verdict.notes)


def _changes() -> str:
    """What stands behind each ≈, per wire."""
    rows = [
        [NAMES[wire], f"`{name}`", _told(verdict)]
        for wire in WIRES
        for name, verdict in ((name, probe(wire, each)) for name, each in {**PROBES, **HISTORY}.items())
        if verdict.support == "changed"
    ]
    return table(["to", "feature", "what becomes of it"], rows)


def _support(support: Mapping[str, str]) -> str:
    said = {"none": "cannot do", "left_out": "is asked without", "full": "takes"}
    found = (
        f"{words} {', '.join(f'`{name}`' for name, each in support.items() if each == level)}"
        for level, words in said.items()
        if level in support.values()
    )
    return "; ".join(found)


def _vendors() -> str:
    return table(["vendor", "differs from its wire"], ([f"`{name}`", _support(each)] for name, each in VENDORS.items()))


def _models() -> str:
    rows = ([", ".join(row.vendors) or "any", row.why, _support(row.support)] for row in MODELS)
    return f"Written on {WRITTEN}.\n\n" + table(["vendor", "what is known", "so that it"], rows)


def _droppable() -> str:
    rest = sorted(set(DROPPABLE) - {"only", "opaque"})
    learnt = sorted(LEFT_OUT_IF_REFUSED)
    return (
        f"`degrade` can leave out: {', '.join(f'`{name}`' for name in rest)}, and fields and blocks that belong to "
        f"another wire.\n\nA provider that refuses one of these is asked without it from then on: "
        f"{', '.join(f'`{name}`' for name in learnt)}. A provider that refuses anything else is not asked for it again."
    )


def _compatible() -> str:
    rows = []
    for name in providers.__all__:
        kind: object = getattr(providers, name)
        if (
            not isinstance(kind, type)
            or not issubclass(kind, OpenAICompatible)
            or name in ("OpenAI", "OpenAICompatible")
        ):
            continue
        if issubclass(kind, AzureOpenAI) or kind.dialect is None:
            continue
        keys = ", ".join(f"`{variable}`" for variable in kind.key_variables) or "–"
        rows.append(
            [f"`{name}`", f"`{kind.url or getattr(kind, 'account_url', 'base_url=')}`", keys, _accent(kind.dialect)]
        )
    return table(["provider", "base URL", "key", "accent"], rows)


def _accent(dialect: Dialect) -> str:
    said = [f"limit in `{dialect.max_tokens_field}`"] if dialect.max_tokens_field == "max_tokens" else []
    said += ["no `developer` role"] if not dialect.developer_role else []
    said += ["`top_k`"] if dialect.top_k else []
    said += [f"`{dialect.seed_field}`"] if dialect.seed_field != "seed" else []
    said += ["no usage on request in streams"] if not dialect.stream_usage else []
    said += [f"tool ids of {dialect.tool_id_length} letters"] if dialect.tool_id_length else []
    said += [f"reasoning in `{dialect.reasoning_field}`"] if dialect.reasoning_field != "reasoning_content" else []
    return ", ".join([*said, *(f"`{kind}`" for kind in sorted(dialect.media))])


SECTIONS = {
    "translation.md": {
        "features": lambda: _matrix(PROBES),
        "history": lambda: _matrix(HISTORY),
        "changes": _changes,
        "vendors": _vendors,
        "models": _models,
        "droppable": _droppable,
    },
    "providers/compatible.md": {"compatible": _compatible},
}
