"""Apps that make mending hard: they ignore TERM, leave grandchildren, and their replacements do not come."""

from __future__ import annotations

from collections.abc import Callable

import psutil
import pytest

from tests.e2e.client import Load
from tests.e2e.mending import NODE, act, begin, config, ended, events, needs_node, pids, well
from tests.e2e.support import Triage, marked, name_of, until

pytestmark = pytest.mark.slow

Start = Callable[..., Triage]


def test_an_app_that_ignores_term_and_leaves_grandchildren(gateway: Start) -> None:
    """It is ended all the same, with everything it started, and its recycle says how."""
    env = 'IGNORE_TERM = "1", GRANDCHILDREN = "1"'
    running = gateway(config(instances=2, env=env, process='stop = { timeout = "1s" }').replace(
        'stop = { timeout = "2s" }\n', ""
    ))  # fmt: skip
    well(running, 2)
    victim = running.ready("web")[0]

    def family() -> set[int]:
        return {process.pid for process in marked(running.marker) if name_of(process) == "sleep"}

    assert len(family()) == 4
    with Load(running.port, "/", clients=4) as load:
        done = act(running, f"apps/web/instances/{victim['id']}/recycle")
    assert not load.failed, load.summary()
    told = " ".join(step["text"] for step in done["steps"])
    assert "did not end within 1 s of SIGTERM" in told, told
    assert not psutil.pid_exists(victim["pid"])
    until(lambda: len(family()) == 4, f"those of two instances are left, not of three; there are {family()}")


@needs_node
def test_a_node_app_is_restarted_under_load(gateway: Start) -> None:
    running = gateway(config(NODE, instances=2))
    well(running, 2)
    before = pids(running)
    with Load(running.port, "/", clients=4) as kept, Load(running.port, "/", clients=4, fresh=True) as fresh:
        with Load(running.port, "/slow?ms=300", clients=2) as slow:
            act(running, "apps/web/restart")
    for load in (kept, fresh, slow):
        assert load.good and not load.failed, load.summary()
    assert not before & pids(running)


def test_the_last_good_ones_stay_when_their_replacements_do_not_come(gateway: Start) -> None:
    """A restart begins, its first replacement is broken, the cause is mended, and it goes on to its end."""
    running = gateway(config(instances=2, env='FLAG = "flag"', process='cwd = "."', health='ready_within = "2s"'))
    flag = running.folder / "flag"
    with Load(running.port, "/", clients=4) as load:
        for word in ("exit", "hang", "wrong-port"):
            before = {one["pid"] for one in well(running, 2)}
            flag.write_text(word)
            operation = begin(running, "apps/web/restart")
            until(lambda: says_why(running), f"the app says why ({word})")
            assert pids(running) == before, f"the good ones serve on ({word})"
            assert running.api(f"operations/{operation}")["state"] != "done"
            flag.unlink()
            if ended(running, operation)["state"] == "failed":
                act(running, "apps/web/restart")
            well(running, 2)
            assert not before & pids(running)
    assert not load.failed, load.summary()


def says_why(running: Triage) -> bool:
    """The app is degraded, in words about the replacement, not about the good ones."""
    app = running.api("apps/web")
    return app["state"] == "degraded" and any(
        hint in app["verdict"] for hint in ("told to fail", "exit code 1", "not ready within", "listens on")
    )


def test_instances_that_flap_are_started_ever_more_slowly(gateway: Start) -> None:
    """They get ready and end by themselves: each is replaced, none in a tight loop, the app says what goes on."""
    running = gateway(config(instances=2, env='FLAG = "flag"', process='cwd = "."'))
    well(running, 2)
    (running.folder / "flag").write_text("flap 1.3")
    operation = begin(running, "apps/web/restart")
    until(lambda: len([event for event in events(running) if "exit" in event["kind"]]) >= 4, "four exits", 60)
    until(lambda: "exit code 4" in running.api("apps/web")["verdict"], "it is said how they end", 60)
    (running.folder / "flag").unlink()
    assert ended(running, operation, 90)["state"] == "done"
    well(running, 2)
