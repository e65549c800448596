"""Service objectives per route: which share of calls is answered, and fast enough, and how fast the error budget burns.

The method is that of Google's SRE workbook, chapter 5 ("Alerting on SLOs"), multiwindow multi-burn-rate: a burn rate
of 1 spends the budget exactly in the period of the objective.  An objective is burning if its budget is spent too fast
over a long window *and* over a short one, so that it is told while it lasts and not long after.

What a caller caused (a request that is wrong or rejected, a cancellation) counts neither way.
"""

from __future__ import annotations

from resilient_llm.operate.objectives.ledger import PERIOD, RULES, Burn, Objective, ObjectiveStatus
from resilient_llm.operate.objectives.watching import Objectives

__all__ = ["PERIOD", "RULES", "Burn", "Objective", "ObjectiveStatus", "Objectives"]
