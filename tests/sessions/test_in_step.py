"""What control knows of collectors without importing them: it is held to what they say themselves."""

from proxy.control.sessions import engine, triggers
from proxy.diagnostics.collectors import COLLECTORS


def test_a_memory_dump_comes_beside_what_is_taken_by_default() -> None:
    assert set(triggers.DEFAULT) == {one.name for one in COLLECTORS if one.default}
    assert engine.MEMORY_DUMP in {one.name for one in COLLECTORS if not one.default}
