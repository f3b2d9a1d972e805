"""One Triage for all tests of the Console."""

from collections.abc import Iterator

import pytest

from tests.console.support import Triage


@pytest.fixture(scope="session")
def triage() -> Iterator[Triage]:
    made = Triage()
    try:
        yield made
    finally:
        made.stop()
