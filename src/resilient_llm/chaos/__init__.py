"""Chaos experiments: real traffic through a client, faults put into its providers, and a question with an answer.

``experiment`` carries one out, ``report`` says what it found and ``advice`` what to do about it; ``file`` reads one
from TOML and ``command`` is the command line.  ``timeline`` has what was observed and its picture; the demonstration
uses it too.
"""

from resilient_llm.chaos.experiment import Experiment, Hypothesis, Traffic
from resilient_llm.chaos.report import ChaosReport, Verdict
from resilient_llm.chaos.timeline.figures import Totals

__all__ = ["ChaosReport", "Experiment", "Hypothesis", "Totals", "Traffic", "Verdict"]
