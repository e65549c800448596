"""What a request needs, what a provider can do, and what happens where the two do not meet.

A request's features are computed once.  A provider is skipped while planning if it lacks one without which the answer
would be another one; what it can do without is changed or left out, and said to be.  A provider that says
"unsupported" is believed for as long as the process lives.
"""

from __future__ import annotations

from resilient_llm.capability.arguments import wrong_arguments
from resilient_llm.capability.needs import FEATURES, Need, features
from resilient_llm.capability.plan import (
    DROPPABLE,
    NO_NEEDS,
    Action,
    Capabilities,
    Needs,
    OnUnsupported,
    checked_policy,
    droppable,
    forget,
    leave_out,
    needs,
)
from resilient_llm.capability.refusals import reclassified, refusal
from resilient_llm.capability.resume import Broken, Resumption, ends_well, resumable, tokens_of, why_not
from resilient_llm.capability.seals import UNSEALED, without_seals
from resilient_llm.capability.tables import (
    CACHE_SECONDS,
    LEFT_OUT_IF_REFUSED,
    MODELS,
    VENDORS,
    WIRES,
    WRITTEN,
    Row,
    Support,
    cache_seconds,
)
from resilient_llm.wire.features import Feature

__all__ = [
    "CACHE_SECONDS",
    "DROPPABLE",
    "FEATURES",
    "LEFT_OUT_IF_REFUSED",
    "MODELS",
    "NO_NEEDS",
    "UNSEALED",
    "VENDORS",
    "WIRES",
    "WRITTEN",
    "Action",
    "Broken",
    "Capabilities",
    "Feature",
    "Need",
    "Needs",
    "OnUnsupported",
    "Resumption",
    "Row",
    "Support",
    "cache_seconds",
    "checked_policy",
    "droppable",
    "ends_well",
    "features",
    "forget",
    "leave_out",
    "needs",
    "reclassified",
    "refusal",
    "resumable",
    "tokens_of",
    "why_not",
    "without_seals",
    "wrong_arguments",
]
