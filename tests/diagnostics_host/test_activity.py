"""What processes did, second by second, and what /proc says of them: CPU, children, throttling, descriptors, locks."""

import os
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from proxy.diagnostics import cgroup, descriptors
from proxy.diagnostics.artifacts import Activity, Descriptors, ProcReport
from proxy.diagnostics.collectors import activity, proc_report
from tests.diagnostics.sessions import python, running, until
from tests.diagnostics_host.support import NOBODY, WITH_SOCKETS, apart, group, of

NOWHERE = Path("/nowhere")
BURNS = WITH_SOCKETS + """
import ctypes
def burn():
    ctypes.CDLL(None).prctl(15, b"burner", 0, 0, 0)
    while True:
        pass
threading.Thread(target=burn, daemon=True).start()
print("ready", flush=True)
time.sleep(1000)
"""
SLEEPS = WITH_SOCKETS + "print('ready', flush=True); time.sleep(1000)"


def look(pid: int, seconds: float = 1.0, **more: object) -> Activity:
    return activity.collect(of(pid, seconds, **more), NOWHERE)


@pytest.mark.slow
def test_the_busiest_thread_is_named(tmp_path: Path) -> None:
    log = tmp_path / "web-1.log"
    log.write_bytes(b"x" * 1000)
    with running(*python(BURNS)) as (process, _):
        until(lambda: _cpu(process.pid) > 0.05, "it burns")
        writer = threading.Timer(0.4, lambda: log.write_bytes(b"x" * 3000))
        writer.start()
        found = look(process.pid, logs=[str(log)])
        writer.join()
        (one,) = found.samples
        (name, number, cores) = found.threads_busy[0]
        assert (one.busiest_thread, one.busiest_id) == ("burner", number) and number != process.pid and name == "burner"
        assert one.user > 0.1 and abs(one.user + one.system - one.busiest) < 0.25 and abs(cores - one.busiest) < 0.1
        assert one.wait_cpu is not None and one.threads == 2 and one.processes == 1 and one.rss > 1_000_000
        assert one.log_bytes is not None and 1500 < one.log_bytes < 2500, "bytes a second"
        assert one.throttled is None, "no cgroup limits its CPU" if found.quota is None else found.quota


@pytest.mark.slow
def test_work_of_children_that_ended_is_counted_and_more_than_once_by_none() -> None:
    """The whole of it can't pass what the clock and the cores allow."""
    code = WITH_SOCKETS + """
import subprocess
print("ready", flush=True)
while True:
    subprocess.run([sys.executable, "-S", "-c", "for _ in range(600000): pass"])
"""
    with running(*python(code)) as (process, _):
        before = _cpu(process.pid, children=True)
        found = look(process.pid, 3.0)
        whole = _cpu(process.pid, children=True) - before
        told = sum(one.user + one.system for one in found.samples)
        assert 0.3 < told < (os.cpu_count() or 1) * 3.2
        assert abs(told - whole) < 0.5 + 0.3 * whole, (told, whole)


def test_one_that_ends_while_it_is_looked_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    place = cgroup.place
    with running(*python(SLEEPS)) as (process, _):

        def ends(pid: int) -> cgroup.Place | None:
            process.kill()
            process.wait()
            return place(pid)

        monkeypatch.setattr(cgroup, "place", ends)
        with pytest.raises(ProcessLookupError, match="ended during the session"):
            look(process.pid)


def _grew(pid: int, least: int) -> list[Descriptors]:
    """Of a look in which it opened so many; none if it did not."""
    found = look(pid).descriptors
    return [one for one in found if one.used - one.before >= least]


@pytest.mark.slow
def test_descriptors_that_grow_are_named_by_what_they_lead_to(tmp_path: Path) -> None:
    code = WITH_SOCKETS + """
held = []
print("ready", flush=True)
while True:
    if sys.argv[1] == "file":
        held.append(open(sys.argv[2]))
    elif sys.argv[1] == "folder":
        held.append(open(f"{sys.argv[2]}.{len(held)}", "w"))
    else:
        held.append(socket.create_connection(("127.0.0.1", int(sys.argv[2]))))
    time.sleep(0.02)
"""
    path = tmp_path / "same"
    path.touch()
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
        port = str(server.getsockname()[1])
        for kind, given, expected in (
            ("file", str(path), str(path)),
            ("folder", str(path), f"{tmp_path}/*"),
            ("socket", port, f"to 127.0.0.1:{port}"),
        ):  # fmt: skip
            with running(*python(code), kind, given) as (process, _):
                (one,) = until(lambda pid=process.pid: _grew(pid, 5), "it opens enough while it is looked at")
                assert one.growing == expected and one.used - one.before >= one.grew, one
                assert one.limit and one.used < one.limit and one.held.get(expected, 0) >= 5, one.held


def test_what_grew_is_said_as_narrowly_as_it_can_be() -> None:
    before, after = descriptors.Open(), descriptors.Open()
    assert descriptors.grown(before, after) == ("", 0)
    after.kinds.update({"file": 10, "pipe": 2})
    after.exact["file"] = Counter({f"/var/a/{number}": 1 for number in range(10)})
    after.near["file"] = Counter({"/var/a/*": 10})
    assert descriptors.grown(before, after) == ("/var/a/*", 10)
    after.near["file"] = Counter({f"/var/{number}/*": 1 for number in range(10)})
    assert descriptors.grown(before, after) == ("file", 10)
    after.exact["file"] = Counter({"/etc/hosts": 7, "/x": 3})
    assert descriptors.grown(before, after) == ("/etc/hosts", 7)
    assert descriptors.grown(after, before) == ("", 0), "what was closed did not grow"


@pytest.mark.slow
def test_throttling_by_a_group_above_is_seen() -> None:
    """Its own group has no quota; the one above has, and holds it back."""
    try:
        with group("cpu", cpu__cfs_period_us="100000", cpu__cfs_quota_us="5000") as above:
            inner = above / "inner"
            inner.mkdir()
            try:
                with running(*python(BURNS)) as (process, _):
                    (inner / "cgroup.procs").write_text(str(process.pid))
                    found = look(process.pid, 2.0)
                    process.kill()
                    process.wait()
            finally:
                until(lambda: not (inner / "cgroup.procs").read_text(), "it is empty")
                inner.rmdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    one = found.samples[-1]
    assert found.quota == 0.05
    assert one.throttled is not None and one.throttled > 0.2
    assert one.throttled_seconds is not None and one.throttled_seconds > 0.05
    assert one.user + one.system < 0.3
    counters = [name for name in found.changed if name.endswith("cpu.stat nr_throttled")]
    assert counters and all(": " in name for name in counters), "they are those of the group above"
    assert found.cgroup is not None and any("cpu.cfs_quota_us" in values for values in found.cgroup.above.values())


def test_the_least_memory_limit_binds() -> None:
    try:
        with group("memory", memory__limit_in_bytes="67108864") as above:
            inner = above / "inner"
            inner.mkdir()
            try:
                (inner / "memory.limit_in_bytes").write_text("1073741824")
                with running(*python(SLEEPS)) as (process, _):
                    (inner / "cgroup.procs").write_text(str(process.pid))
                    where = cgroup.place(process.pid)
                    assert where is not None and cgroup.memory_limit(where) == 67108864
                    found = cgroup.describe(where, {process.pid})
                    assert found.own and found.values["memory.limit_in_bytes"] == "1073741824"
                    process.kill()
                    process.wait()
            finally:
                until(lambda: not (inner / "cgroup.procs").read_text(), "it is empty")
                inner.rmdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")


@pytest.mark.parametrize("version", [1, 2])
def test_throttling_is_the_worst_of_all_groups_that_bind(version: int) -> None:
    name, scale = ("throttled_time", 1e9) if version == 1 else ("throttled_usec", 1e6)
    before = {
        "cpu.stat nr_periods": 100.0, "cpu.stat nr_throttled": 50.0, f"cpu.stat {name}": 5 * scale,
        "/a: cpu.stat nr_periods": 10.0, "/a: cpu.stat nr_throttled": 0.0, f"/a: cpu.stat {name}": 0.0,
        "/: cpu.stat nr_periods": 0.0,
    }  # fmt: skip
    assert cgroup.throttling(before, before) == (0.0, 0.0)
    held = {"/a: cpu.stat nr_periods": 20.0, "/a: cpu.stat nr_throttled": 8.0, f"/a: cpu.stat {name}": 2 * scale}
    after = before | held
    assert cgroup.throttling(after, before) == (0.8, 2.0)
    assert cgroup.grown(before, after)["/a: cpu.stat nr_throttled"] == 8.0
    assert cgroup.throttling({"memory.events oom": 1.0}, {}) is None, "without a quota there is none"


@pytest.mark.slow
def test_what_another_users_process_hides_is_said() -> None:
    if os.geteuid():
        pytest.skip("to be another user takes root")
    with running(*python(BURNS)) as (process, _):

        def hidden() -> None:
            found = look(process.pid)
            assert found.samples and found.samples[0].read is None and not found.descriptors
            assert "I/O: permission denied" in found.note and "descriptors: permission denied" in found.note
            assert found.samples[0].user > 0.05, "CPU may be read by all"

        apart(hidden, user=NOBODY)


def report(pid: int) -> ProcReport:
    return proc_report.collect(of(pid), NOWHERE)


def test_what_threads_sleep_on() -> None:
    code = WITH_SOCKETS + """
listening = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(listening.getsockname())
reader, writer = os.pipe()
threading.Thread(target=one.recv, args=(1,), daemon=True).start()
threading.Thread(target=os.read, args=(reader, 1), daemon=True).start()
print("ready", listening.getsockname()[1], flush=True)
first = listening.accept()
listening.accept()
"""
    with running(*python(code)) as (process, words):
        wanted = {f"accept listening on 127.0.0.1:{words[0]}", f"read to 127.0.0.1:{words[0]}", "read pipe"}

        def seen() -> bool:
            (one,) = report(process.pid).processes
            on = {word.partition(":[")[0] for thread in one.threads for word in thread.on}
            return on == wanted and all(thread.waited is not None for thread in one.threads)

        until(seen, "all three sleep")


def test_who_waits_for_a_lock_on_a_file(tmp_path: Path) -> None:
    code = WITH_SOCKETS + """
import fcntl, subprocess
file = open(sys.argv[1], "w")
if len(sys.argv) == 2:
    fcntl.flock(file, fcntl.LOCK_EX)
    print("ready", subprocess.Popen([sys.executable, "-c", open("/proc/self/cmdline").read().split(chr(0))[2],
                                     sys.argv[1], "second"]).pid, flush=True)
    time.sleep(1000)
fcntl.flock(file, fcntl.LOCK_EX)
"""
    path = tmp_path / "lock"
    with running(*python(code), str(path)) as (process, words):
        (lock,) = until(lambda: report(process.pid).locks, "one waits")
        assert (lock.pid, lock.holder, lock.path, lock.kind) == (int(words[0]), process.pid, str(path), "FLOCK")


def _cpu(pid: int, *, children: bool = False) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11 : 15 if children else 13]) / os.sysconf("SC_CLK_TCK")
