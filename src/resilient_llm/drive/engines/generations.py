"""Which kept-alive connections are too old to be used."""

from __future__ import annotations


class Generations:
    """Which kept-alive connections may still be used: those of the current generation of their host."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}

    def of(self, host: str) -> int:
        """The current generation."""
        return self._current.get(host, 0)

    def expire(self, host: str) -> None:
        """Use no idle connection to this host any more."""
        self._current[host] = self._current.get(host, 0) + 1
