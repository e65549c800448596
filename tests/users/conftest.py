from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.users.server import Network


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as running:
        yield running
