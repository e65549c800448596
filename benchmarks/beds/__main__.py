"""``python -m benchmarks.beds NAME``: prove the client where others made the bed."""

from __future__ import annotations

import sys
from importlib import import_module

NAMES = {
    "half-minutes": "half_minutes",
    "llmock": "llmock",
    "aimock": "aimock",
    "llama": "llama",
    "saturated": "saturated",
}


def main() -> int:
    """Run one of them; 1 if it did not reach what docs/proof.md asks for."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name not in NAMES:
        print(f"{__doc__}\n\nNAME is one of {', '.join(NAMES)}; each has --help.")
        return 0 if name == "--help" else 2
    return int(import_module(f"benchmarks.beds.{NAMES[name]}").main(rest))


if __name__ == "__main__":
    sys.exit(main())
