"""Acts on real instances: what is asked for happens, in the order that loses nothing."""

import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from .conftest import APP, HERE, Triage, app, until

pytestmark = pytest.mark.slow
Start = Callable[..., Triage]


@contextmanager
def load(gateway: Triage, threads: int = 4) -> Iterator[Counter[tuple[str, int]]]:
    """Requests of both kinds all the time; how many had which status."""
    port = gateway.port()
    seen: Counter[tuple[str, int]] = Counter()
    done = threading.Event()
    lock = threading.Lock()

    def work(method: str) -> None:
        while not done.is_set():
            status = gateway.get("/slow?0.04", port, method)[0]
            with lock:
                seen[method, status] += 1

    running = [threading.Thread(target=work, args=("GET" if n % 2 else "POST",)) for n in range(threads)]
    for one in running:
        one.start()
    try:
        until(lambda: len(seen) >= 2, "requests of both kinds are answered")
        yield seen
    finally:
        done.set()
        for one in running:
            one.join()


def test_a_recycle_under_load_loses_nothing_and_says_each_step(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    with load(gateway) as seen:
        ended = gateway.over(gateway.act("recycle", "web-1", reason="a test"))
    assert (ended["state"], ended["why"]) == ("done", "replaced by web-3")
    assert gateway.ready(2) == ["web-2", "web-3"]
    assert set(seen) == {("GET", 200), ("POST", 200)}
    steps = ended["steps"]
    assert steps.pop(0).startswith("evidence of web-1: "), "before anything changes"
    assert steps[0].startswith("web-3 started, pid ")
    assert steps[1].startswith("web-3 ready after ")
    assert steps[2].startswith("web-1 left routing, ")
    assert steps[-1] == "web-1 ended: signal 15 (SIGTERM)"
    moves = [move["state"] for move in gateway.instances()["web-3"]["moves"]]
    assert moves == ["starting", "warming", "ready"]


def test_a_restart_replaces_each_one_after_the_other(triage: Start) -> None:
    gateway = triage(app("instances = 3"))
    gateway.ready(3)
    with load(gateway) as seen:
        ended = gateway.over(gateway.act("restart"))
    assert (ended["state"], ended["why"]) == ("done", "replaced by web-4, web-5, web-6")
    assert gateway.ready(3) == ["web-4", "web-5", "web-6"]
    assert set(seen) == {("GET", 200), ("POST", 200)}
    order = [step.split()[0] for step in ended["steps"] if " ready after " in step or " left routing" in step]
    assert order == ["web-4", "web-1", "web-5", "web-2", "web-6", "web-3"]


def waiting(gateway: Triage, count: int, method: str = "GET") -> tuple[list[threading.Thread], list[int]]:
    """So many requests at once; their threads, and the statuses as they come."""
    statuses: list[int] = []
    port = gateway.port()
    threads = [
        threading.Thread(target=lambda: statuses.append(gateway.get("/", port, method)[0])) for _ in range(count)
    ]
    for one in threads:
        one.start()
    return threads, statuses


def test_without_overlap_requests_wait_for_the_replacement(triage: Start) -> None:
    """Longer than queue.timeout: those that came before the gap, in it, and with a body."""
    queue = 'queue = { timeout = "200ms" }\n[apps.web.process]'
    gateway = triage(app("overlap = false").replace("[apps.web.process]", queue))
    gateway.ready(1)
    seen = gateway.ask("foresee", act="recycle", app="web", instance="web-1")
    assert seen["at_stake"]
    assert any("wait in the queue" in line for line in seen["lines"])
    with load(gateway) as answered:
        begun = gateway.act("recycle", "web-1")
        until(lambda: gateway.instances().get("web-2"), "the replacement is started")
        assert gateway.state()["apps"]["web"]["gap"] > 60
        threads, statuses = waiting(gateway, 3, "POST")
        ended = gateway.over(begun)
        for one in threads:
            one.join()
    assert ended["state"] == "done"
    assert statuses == [200, 200, 200]
    assert set(answered) == {("GET", 200), ("POST", 200)}
    assert gateway.state()["apps"]["web"]["gap"] == 0
    steps = [step for step in ended["steps"] if not step.startswith("evidence")]
    assert steps[0].startswith("web-1 left routing"), "the old one went first"
    assert [step.split()[0] for step in steps if " ended: " in step or " started" in step] == ["web-1", "web-2"]


BROKEN = {
    "exits": "import sys; print('no database'); sys.exit(1)",
    "hangs": "import time; time.sleep(1000)",
    "wrong port": "import http.server; http.server.HTTPServer(('127.0.0.1', 0), http.server.SimpleHTTPRequestHandler)"
    ".serve_forever()",
}


def breakable(folder: Path, how: str) -> str:
    """An app whose next start goes wrong as soon as the file `broken` is there."""
    path = folder / "breakable.py"
    path.write_text(
        "import os, runpy, sys\n"
        f"if os.path.exists({str(folder / 'broken')!r}):\n"
        f"    {BROKEN[how]}\n"
        f"sys.argv = ['app.py', sys.argv[1]]\n"
        f"runpy.run_path({str(HERE / 'apps' / 'app.py')!r}, run_name='__main__')\n"
    )
    return f"{sys.executable} {path} {{port}}"


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_replacement_leaves_the_old_ones_serving(triage: Start, folder: Path, how: str) -> None:
    command = breakable(folder, how)
    gateway = triage(app("instances = 2", command=command))
    gateway.ready(2)
    (folder / "broken").touch()
    assert gateway.reload(app("instances = 2", health='ready_within = "1500ms"', command=command))["ok"]
    with load(gateway) as seen:
        ended = gateway.over(gateway.act("restart"))
    assert set(seen) == {("GET", 200), ("POST", 200)}
    assert ended["state"] == "failed"
    assert {"exits": "no database", "hangs": "not ready within", "wrong port": "not ready within"}[how] in ended["why"]
    until(lambda: set(gateway.instances()) == {"web-1", "web-2"}, "what was started in vain is gone")
    state = gateway.state()
    assert state["apps"]["web"]["degraded"].startswith("web-1, web-2 not replaced, serving on: ")
    assert state["verdict"]["state"] == "degraded"
    assert not any(one["marked"] for one in state["apps"]["web"]["instances"].values())
    (folder / "broken").unlink()
    assert gateway.reload(app("instances = 2", command=command))["ok"]
    assert gateway.over(gateway.act("restart"))["state"] == "done"
    until(lambda: not gateway.state()["apps"]["web"]["degraded"], "all is well")


def test_a_changed_process_table_that_does_not_start_keeps_what_ran(triage: Start, folder: Path) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    (folder / "bad.py").write_text("print('no module'); raise SystemExit(1)")
    bad = app("instances = 2", command=f"{sys.executable} {folder / 'bad.py'} {{port}}")
    with load(gateway) as seen:
        assert gateway.reload(bad)["ok"]
        ended = until(
            lambda: next((o for o in gateway.state()["operations"].values() if o["state"] != "running"), None),
            "the restart that the change asked for ends",
        )
        assert ended["state"] == "failed"
        degraded = gateway.state()["apps"]["web"]["degraded"]
        assert degraded.startswith("web-1, web-2 not replaced, serving on: web-3 did not get ready")
        assert gateway.reload(app("instances = 2"))["ok"]
        until(lambda: set(gateway.instances()) == {"web-1", "web-2"}, "the old config fits them again")
    assert set(seen) == {("GET", 200), ("POST", 200)}


def test_a_failed_sibling_does_not_keep_another_from_being_recycled(triage: Start, folder: Path) -> None:
    gateway = triage(app("instances = 2", command=breakable(folder, "exits")))
    gateway.ready(2)
    (folder / "broken").touch()
    os.kill(gateway.instances()["web-1"]["pid"], signal.SIGKILL)
    until(lambda: gateway.instances().get("web-3", {}).get("lifecycle") == "failed", "its successor failed")
    (folder / "broken").unlink()
    ended = gateway.over(gateway.act("recycle", "web-2"))
    assert (ended["state"], ended["why"]) == ("done", "replaced by web-4")
    until(lambda: gateway.instances()["web-4"]["lifecycle"] == "ready")
    begun = gateway.act("start")
    assert gateway.over(begun)["state"] == "done", "a person may start what has failed"
    assert gateway.ready(2) == ["web-3", "web-4"]


def test_one_that_ends_by_itself_meanwhile_counts_as_replaced(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    begun = gateway.act("recycle", "web-1")
    until(lambda: gateway.operation(begun["id"])["steps"], "the replacement is started")
    os.kill(gateway.instances()["web-1"]["pid"], signal.SIGKILL)
    ended = gateway.over(begun)
    assert ended["state"] == "done"
    assert "web-1 ended by itself meanwhile (signal 9 (SIGKILL))" in ended["why"]
    assert gateway.ready(2) == ["web-2", "web-3"]


def test_what_is_refused_says_what_would_be_right(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    assert gateway.act("eject", "web-1")["refused"] == "last-one"
    assert gateway.act("admit", "web-1")["refused"] == "not-ejected"
    assert gateway.act("start")["refused"] == "not-stopped"
    assert gateway.act("release")["refused"] == "not-held"
    assert gateway.act("scale")["refused"] == "nothing-said"
    begun = gateway.act("recycle", "web-1")
    again = gateway.act("recycle", "web-1")
    assert (again["refused"], again["hint"]) == ("already", f"follow {begun['id']}, which by hand asked for")
    assert gateway.act("restart")["refused"] == "already"
    assert gateway.over(begun)["state"] == "done"


def test_grandchildren_are_not_left_behind(triage: Start, folder: Path) -> None:
    """In the group, and in a session of their own."""
    path = folder / "parent.sh"
    path.write_text(f"sleep 3000 &\nsetsid sleep 3001 &\nexec {APP} $1\n")
    gateway = triage(app(command=f"sh {path} {{port}}"))
    gateway.ready(1)
    root = psutil.Process(gateway.instances()["web-1"]["pid"])

    def sleepers() -> list[psutil.Process] | None:
        found = [one for one in root.children(recursive=True) if one.name() == "sleep"]
        return found if len(found) == 2 else None

    tree = until(sleepers, "both run")
    assert gateway.over(gateway.act("recycle", "web-1"))["state"] == "done"
    until(lambda: not any(one.is_running() and one.status() != "zombie" for one in tree), "none of them is left")


def test_a_hung_one_does_not_keep_its_successor_waiting(triage: Start) -> None:
    """Its requests are cut after a moment, and those that may be sent again are answered by the new one."""
    gateway = triage(app().replace('"5s"', '"20s"'))
    gateway.ready(1)
    port, statuses = gateway.port(), list[int]()
    threads = [
        threading.Thread(target=lambda m=method: statuses.append(gateway.get("/hang?web-1", port, m)[0]))
        for method in ("GET", "POST")
    ]
    for one in threads:
        one.start()
    until(lambda: gateway.instances()["web-1"]["inflight"] == 2, "both are on it")
    begun = gateway.act("recycle", "web-1", by="rule hung", rule="hung")
    ended = gateway.over(begun, 15)
    for one in threads:
        one.join()
    assert ended["state"] == "done"
    assert sorted(statuses) == [200, 502]
    assert any("outlasted the drain limit" in step for step in ended["steps"])


def short_of_memory(gateway: Triage) -> None:
    """1 MB: less than any Python process uses."""
    until(lambda: all(one["usage"] for one in gateway.instances().values()), "a sample of each one's use")
    path = gateway.folder / "meminfo"
    path.write_text("MemAvailable: 1024 kB\n")
    gateway.ask("memory", file=str(path))


def test_where_memory_is_short_the_old_one_goes_first_but_never_the_last(triage: Start) -> None:
    gateway = triage(app("instances = 2"))
    gateway.ready(2)
    short_of_memory(gateway)
    with load(gateway) as seen:
        ended = gateway.over(gateway.act("restart"))
    assert ended["state"] == "done", ended
    assert set(seen) == {("GET", 200), ("POST", 200)}
    said = [step for step in ended["steps"] if "no overlap, one at a time, the old one first" in step]
    assert said[0].startswith("free memory (1 MB) is less than the ")
    order = [step.split()[0] for step in ended["steps"] if " started, " in step or " ended: " in step]
    assert order == ["web-1", "web-3", "web-2", "web-4"]


def test_where_memory_is_short_a_lone_one_is_left_alone_and_that_is_said(triage: Start) -> None:
    gateway = triage(app())
    gateway.ready(1)
    short_of_memory(gateway)
    refused = gateway.act("recycle", "web-1")
    assert refused["refused"] == "no-memory"
    assert "apps.web.process.overlap = false" in refused["hint"]
    assert gateway.reload(app('env = { GREETING = "new" }'))["ok"]
    until(lambda: "free memory (1 MB)" in gateway.state()["apps"]["web"]["degraded"], "the app says why")
    assert gateway.ready(1) == ["web-1"]
    (gateway.folder / "meminfo").write_text("MemAvailable: 8000000 kB\n")
    until(lambda: set(gateway.instances()) == {"web-2"}, "replaced as soon as there is room")
    until(lambda: gateway.state()["verdict"]["state"] == "up")


def test_a_deploy_is_told_with_what_changed(triage: Start) -> None:
    gateway = triage(app('version = "1"'))
    gateway.ready(1)
    assert gateway.reload(app('version = "2"\nenv = { GREETING = "new" }'))["ok"]
    event = gateway.event("deployed")
    assert event["text"] == "web: version 2 deployed (environment, config changed), first ready as web-2"
    started = gateway.event("starting", "web-2")["details"]
    assert started["version"] == "2"
    assert {"command", "environment", "config"} <= set(started)
    assert event["details"]["command"] == gateway.event("starting", "web-1")["details"]["command"]
