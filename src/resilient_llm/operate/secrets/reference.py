"""What stands in a file instead of a secret: the name of a store, and where in it the secret is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from resilient_llm.errors import ConfigurationError

FORMS: Final = {
    "env": "env:NAME",
    "file": "file:/run/secrets/NAME",
    "keyring": "keyring:SERVICE/NAME",
    "vault": "vault:MOUNT/PATH#FIELD",
    "aws": "aws:NAME or aws:NAME#FIELD",
    "gcp": "gcp:projects/PROJECT/secrets/NAME",
    "azure": "azure:VAULT/NAME",
    "plain": "plain:VALUE",
}
"""Store -> how a reference to it is written.  ``plain`` holds the value itself, for tests on one's own machine."""

_PATTERNS: Final = {
    "env": r"[A-Za-z_][A-Za-z0-9_]*",
    "file": r".+",
    "keyring": r"[^/]+/.+",
    "vault": r"[^/#]+/[^#]+#[^#]+",
    "aws": r"[^#]+(#[^#]+)?",
    "gcp": r"projects/[^/#]+/secrets/[^/#]+(/versions/[^/#]+)?",
    "azure": r"[^/]+/[^/]+(/[^/]+)?",
    "plain": r".+",
}
_ADVICE: Final = (
    "write a reference to it: env:NAME, file:/run/secrets/NAME, keyring:, vault:, aws:, gcp: or azure: "
    "(plain:VALUE only for tests on your own machine)"
)


@dataclass(frozen=True, slots=True, repr=False)
class Reference:
    """Where a secret is.  ``store`` is a key of :data:`FORMS`, ``path`` what stands after the colon."""

    store: str
    path: str

    @classmethod
    def parse(cls, text: str) -> Reference:
        """The reference a text is.  Raises ``ConfigurationError``, which never shows a text that may be a key."""
        store, colon, path = text.partition(":")
        if not colon or store not in FORMS:
            close = f"; {store}: is none of its stores" if colon and store.isalpha() and len(store) < 12 else ""
            raise ConfigurationError(f"holds a secret itself, or no reference to one{close}; {_ADVICE}")
        if re.fullmatch(_PATTERNS[store], path) is None:
            raise ConfigurationError(f"a reference to {store} is written {FORMS[store]}")
        return cls(store, path)

    @property
    def location(self) -> str:
        """The part before ``#``."""
        return self.path.partition("#")[0]

    @property
    def field(self) -> str:
        """The part after ``#``; empty without one."""
        return self.path.partition("#")[2]

    def __str__(self) -> str:
        return f"{self.store}:{'***' if self.store == 'plain' else self.path}"

    def __repr__(self) -> str:
        return f"Reference({str(self)!r})"
