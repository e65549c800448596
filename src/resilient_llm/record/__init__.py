"""How one call was decided: whom it could have asked at each step, why not the others, and what came of it.

::

    client = ResilientClient(providers, record=True)     # or record=True at one call
    client.chat("Why is the sky blue?")
    print(client.last_record())                          # a timeline
    client.last_record().save("record.json")             # python -m resilient_llm explain record.json

A record holds no word of prompts, answers or keys: ids of providers, models, times, budgets, kinds of fault, and what
was known about each provider when it was or was not chosen, so that :func:`replay` can decide everything again.
"""

from __future__ import annotations

from resilient_llm.record.document import Considered, Decision, DecisionRecord
from resilient_llm.record.replay import replay

__all__ = ["Considered", "Decision", "DecisionRecord", "replay"]
