"""One gateway for a module of these tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.api.gateway import Gateway, started


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with started() as made:
        yield made
