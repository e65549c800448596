"""``python -m resilient_llm check FILE``: are the settings right, and do the providers answer?"""

from __future__ import annotations

from resilient_llm.operate.check.probing import LEVELS, Probe, Step, probe

__all__ = ["LEVELS", "Probe", "Step", "probe"]
