"""Why an answer ended.

Every wire has words of its own; relays pass on those of whoever answered, in any spelling (``MAX_TOKENS``,
``end_turn``, ``content_filter: PROHIBITED_CONTENT``), so a word that is not a wire's own is read as anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from resilient_llm.model import FinishReason, Part, ToolCall

_SQUEEZE = re.compile(r"[^a-z0-9]+")
_WORDS: Mapping[FinishReason, str] = {
    "stop": "stop eos eostoken endturn stopsequence complete completed",
    "length": "length maxtokens maxoutputtokens modellength modelcontextwindowexceeded tokenlimit",
    "tool_calls": "toolcalls toolcall tooluse functioncall",
    "content_filter": """
        contentfilter contentfiltered refusal sensitive safety recitation blocklist prohibitedcontent spii
        imagesafety imageprohibitedcontent imagerecitation modelarmor guardrailintervened errortoxic
    """,
    "error": """
        error failed abort networkerror timeout usercancel errorlimit insufficientsystemresource overloaded
        servererror malformedfunctioncall malformedresponse malformedmodeloutput malformedtooluse functioncallfilter
        unexpectedtoolcall toomanytoolcalls missingthoughtsignature
    """,
}
_ANYBODYS: Mapping[str, FinishReason] = {word: reason for reason, found in _WORDS.items() for word in found.split()}


def meaning(word: str) -> FinishReason:
    """What anybody's word means; ``other`` for one we do not know."""
    return _ANYBODYS.get(_SQUEEZE.sub("", word.partition(":")[0].lower()), "other")


def calls(parts: Sequence[Part]) -> bool:
    """Whether an answer asks for tools."""
    return any(isinstance(part, ToolCall) for part in parts)


def ended(reason: FinishReason, called: bool) -> FinishReason:
    """The reason, given whether tools are called: many servers say ``stop`` for that, too."""
    return "tool_calls" if reason == "stop" and called else reason


class Reasons:
    """A wire's words for why an answer ended: for each reason those that mean it, first the one to write.

    ``last`` is written for ``other``, unless it is an unknown word and the wire's clients ``take_any``, and for a
    reason without words.
    """

    def __init__(self, known: Mapping[FinishReason, str], last: str, *, take_any: bool = False) -> None:
        self._written: dict[FinishReason, str] = {reason: found.split()[0] for reason, found in known.items()}
        self._written["other"] = self._last = last
        self._meanings: dict[str, FinishReason] = {}
        self._of_unknown: FinishReason | None = "other" if take_any else None
        for reason, found in known.items():
            for word in found.split():
                self._meanings.setdefault(word, reason)

    def neutral(self, raw: str | None, called: bool = False) -> FinishReason:
        """The neutral word, given whether tools are called."""
        found = self._meanings.get(raw or "") or meaning(raw or "")
        return ended(found, called) if called else found

    def word(self, reason: FinishReason, raw: str | None) -> str:
        """The wire's word: the vendor's own where it means the same here."""
        own = self._meanings.get(raw or "") or self._of_unknown
        if raw is not None and own is not None and reason in (own, ended(own, called=True)):
            return raw
        return self._written.get(reason, self._last)
