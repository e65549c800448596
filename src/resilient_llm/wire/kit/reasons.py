"""Why an answer ended.

Every wire has words of its own; relays and compatible servers pass on those of whoever answered, in any spelling
(``MAX_TOKENS``, ``end_turn``, ``content_filter: PROHIBITED_CONTENT``), so a word that is not a wire's own is read as
anybody's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from resilient_llm.model import FinishReason, Part, ToolCall
from resilient_llm.wire.kit.fields import words

_SQUEEZE = re.compile(r"[^a-z0-9]+")
_ANYBODYS: Mapping[str, FinishReason] = {
    **dict.fromkeys(words("stop eos eostoken endturn stopsequence complete completed"), "stop"),
    **dict.fromkeys(
        words("length maxtokens maxoutputtokens modellength modelcontextwindowexceeded tokenlimit"), "length"
    ),
    **dict.fromkeys(words("toolcalls toolcall tooluse functioncall"), "tool_calls"),
    **dict.fromkeys(
        words("""
            contentfilter contentfiltered refusal sensitive safety recitation blocklist prohibitedcontent spii
            imagesafety imageprohibitedcontent imagerecitation modelarmor guardrailintervened errortoxic
        """),
        "content_filter",
    ),
    **dict.fromkeys(
        words("""
            error failed abort networkerror timeout usercancel errorlimit insufficientsystemresource overloaded
            servererror malformedfunctioncall malformedresponse malformedmodeloutput malformedtooluse functioncallfilter
            unexpectedtoolcall toomanytoolcalls missingthoughtsignature
        """),
        "error",
    ),
}


def meaning(word: str) -> FinishReason:
    """What anybody's word means; ``other`` for one we do not know."""
    return _ANYBODYS.get(_SQUEEZE.sub("", word.partition(":")[0].lower()), "other")


def calls(parts: Sequence[Part]) -> bool:
    """Whether an answer asks for tools."""
    return any(isinstance(part, ToolCall) for part in parts)


def ended(reason: FinishReason, called: bool) -> FinishReason:
    """The reason, given whether tools are called: many servers say ``stop`` for that, too."""
    return "tool_calls" if reason == "stop" and called else reason


@dataclass(frozen=True, slots=True)
class Reasons:
    """A wire's words for why an answer ended: what each means, and which one to write; ``last`` where there is none."""

    meanings: Mapping[str, FinishReason]
    words: Mapping[FinishReason, str]
    last: str

    def neutral(self, raw: str | None, called: bool = False) -> FinishReason:
        """The neutral word, given whether tools are called."""
        known = self.meanings.get(raw or "")
        return ended(meaning(raw or "") if known is None else known, called)

    def word(self, reason: FinishReason, raw: str | None) -> str:
        """The wire's word: the vendor's own where it means the same here, as an unknown one does for ``other``."""
        own = self.meanings.get(raw or "", "other")
        if raw is not None and reason in (own, ended(own, called=True)):
            return raw
        return self.words.get(reason, self.last)
