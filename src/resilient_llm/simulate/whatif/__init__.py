"""What would these settings have done?  The user's providers, tiers, policies and limits in incidents that happened.

``python -m resilient_llm simulate resilient.toml --incident 2024-12-11`` is its command, ``docs/what-if.md`` its page.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from resilient_llm.errors import ConfigurationError
from resilient_llm.operate.cost.prices import Prices, sample_prices
from resilient_llm.simulate.whatif.cases import Callers, incident_case, read_trace
from resilient_llm.simulate.whatif.figures import Figures, Tally
from resilient_llm.simulate.whatif.incidents import INCIDENTS, Incident, Phase
from resilient_llm.simulate.whatif.page import as_html
from resilient_llm.simulate.whatif.report import as_json, as_text
from resilient_llm.simulate.whatif.run import Answer, answer
from resilient_llm.simulate.whatif.setup import read_setup, setup_of

__all__ = [
    "INCIDENTS",
    "Answer",
    "Callers",
    "Figures",
    "Incident",
    "Phase",
    "Tally",
    "as_html",
    "as_json",
    "as_text",
    "read_trace",
    "what_if",
]

_USUAL = Callers()


def what_if(
    settings: str | Path | Mapping[str, object],
    incident: str | Incident,
    callers: Callers = _USUAL,
    *,
    prices: Prices | None = None,
    seed: int = 1,
) -> Answer:
    """What these settings (a file, or a mapping of the same shape) would have done in an incident: one of
    :data:`INCIDENTS` by its day, or one of your own.

    ``callers`` is who asks (one call a second); ``prices`` a table of yours, ``None``: the sample's.  Nothing is sent,
    and no key is needed.  Raises ``ConfigurationError`` for settings or a day that make no sense.
    """
    if isinstance(incident, str):
        if incident not in INCIDENTS:
            raise ConfigurationError(f"there is no incident {incident!r}; there are {', '.join(INCIDENTS)}")
        incident = INCIDENTS[incident]
    setup = setup_of(settings, "these settings") if isinstance(settings, Mapping) else read_setup(settings)
    case = incident_case(incident, [setup], callers)
    return answer(case, [setup], sample_prices() if prices is None else prices, seed)
