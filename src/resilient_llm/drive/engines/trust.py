"""TLS contexts of providers that say whom they trust, or show a certificate of their own."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable
from typing import TypeAlias

from resilient_llm.errors import ConfigurationError
from resilient_llm.providers.network import Network

_MOST = 64  # contexts that are kept: providers may be replaced again and again

_SPOKEN = ["http/1.1"]

_Files: TypeAlias = list[tuple[int, int, int]]


class Contexts:
    """One for each way to trust, as long as its files stay what they are: certificates are renewed while we run."""

    def __init__(self, roots: Callable[[], ssl.SSLContext]) -> None:
        self._roots = roots
        self._made: dict[Network, tuple[_Files, ssl.SSLContext]] = {}

    def of(self, network: Network) -> ssl.SSLContext:
        """The context for a new connection.  Raises ``ConfigurationError`` for files that could never be read; where
        they were replaced by others that cannot be, the former certificate is used on."""
        if isinstance(network.verify, ssl.SSLContext):  # of the user's, which others may use for HTTP/2
            network.verify.set_alpn_protocols(_SPOKEN)
            return network.verify
        known, files = self._made.get(network), _state(network)
        if known is not None and known[0] == files:
            return known[1]
        try:
            context = network.context(self._roots)
        except ConfigurationError:
            if known is None:
                raise
            return known[1]
        context.set_alpn_protocols(_SPOKEN)
        if len(self._made) >= _MOST:
            self._made.clear()
        self._made[network] = (files, context)
        return context


def _state(network: Network) -> _Files:
    """What changes when a file is written or replaced."""
    found: _Files = []
    for file in network.files:
        try:
            state = os.stat(file)
        except OSError:  # it is being replaced
            continue
        found.append((state.st_mtime_ns, state.st_ino, state.st_size))
    return found
