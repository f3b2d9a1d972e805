"""Numbers that no instance gets twice, also when the disk could not take them at first."""

from __future__ import annotations

import asyncio
from pathlib import Path

from proxy.control.names import Numbers


def test_a_number_is_written_as_soon_as_it_can_be(tmp_path: Path) -> None:
    place = tmp_path / "data"
    place.write_text("in the way of the folder")

    async def while_it_fails_and_after() -> None:
        numbers = Numbers(place / "numbers.json")
        assert [await numbers.take("web"), await numbers.take("web")] == ["web-1", "web-2"]
        assert numbers.error
        place.unlink()
        await numbers.write()
        assert not numbers.error

    asyncio.run(while_it_fails_and_after())
    assert asyncio.run(Numbers(place / "numbers.json").take("web")) == "web-3"
