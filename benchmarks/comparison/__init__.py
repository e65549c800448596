"""The same bad minutes for this library and for what people use instead.

``python -m benchmarks.comparison --write`` runs everything and renews ``docs/comparison.md`` and its plot.
"""
