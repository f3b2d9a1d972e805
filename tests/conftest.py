"""What holds for every test. Markers, time limits and "a warning is an error" stand in pyproject.toml."""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

# The same examples each time, and no judgement of how fast this machine was just then: a run of all tests is to tell
# what changed. `pytest --hypothesis-profile=search` looks for what no run found yet.
settings.register_profile("steady", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", deadline=None, max_examples=2000, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# A shell that starts the tests in its background has them ignore it, and whatever they start would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

LONGEST = (
    "e2e/test_upgrade.py", "control/test_mend.py", "control/test_instances.py", "control/test_takeover.py",
    "e2e/test_mend_stubborn.py", "e2e/test_scale_watch.py", "e2e/test_mend_heal.py", "dashboard/test_pages.py",
    "e2e/test_mend_acts.py", "dashboard/test_analyze.py", "e2e/test_observe.py", "e2e/test_life.py",
    "incidents/test_whole.py", "launcher/test_control.py", "logs/test_gateway.py", "sessions/test_by_itself.py",
    "e2e/test_mend_rules.py", "sick/test_lab.py", "e2e/test_mend_clock.py", "dashboard/test_live.py",
    "diagnostics/test_session.py", "sessions/test_by_hand.py", "loadtests/test_chaos.py", "e2e/test_acts.py",
    "control/test_given.py", "control/test_by_hand.py", "control/test_evidence_hangs.py", "e2e/test_autoheal.py",
    "records/test_store.py", "records/test_store_requests.py", "e2e/test_run.py",
)  # fmt: skip
"""Files by how long they take, the longest first: of those that take over ten seconds on two cores."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the files, none begins a long one when the others are nearly through."""
    if not hasattr(config, "workerinput"):
        return
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONGEST)}
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: (place.get(item.path, len(place)), -slow[item.path]))


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
