"""What holds for every test. Markers, time limits and "a warning is an error" stand in pyproject.toml."""

import time
from collections.abc import Iterator

import psutil
import pytest


@pytest.fixture(scope="session", autouse=True)
def no_process_outlives_the_tests() -> Iterator[None]:
    """What the tests started has ended when they have; what has not is named, and ended here."""
    me = psutil.Process()
    before = set(me.children(recursive=True))
    yield
    deadline = time.monotonic() + 5
    while (left := living(set(me.children(recursive=True)) - before)) and time.monotonic() < deadline:
        time.sleep(0.05)
    told = [f"{process.pid} {' '.join(process.cmdline())}" for process in left]
    for process in left:
        process.kill()
    assert not told, "left running:\n" + "\n".join(told)


def living(processes: set[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found
