"""Limits of memory and CPU: where cgroups are found, and that they hold in real ones, where this machine has them."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.config import Process
from proxy.control import cgroups, sampling
from proxy.control.limits import Limits, spread
from tests.control.conftest import Triage, app, until

HERE = Path("/sys/fs/cgroup")


def homes() -> list[Path]:
    """Of any gateway on this machine."""
    return [path for pattern in ("triage-*", "*/triage-*", "*/*/*/triage-*") for path in HERE.glob(pattern)]


def ours(folder: Path) -> list[Path]:
    """What is there of the gateway with this data_dir."""
    name = cgroups.name_of(folder / "var")
    return [path for path in homes() if path.name == name]


def may_limit(controller: str) -> bool:
    """Root, with a v1 hierarchy that may be written: what most build machines can try."""
    mounts = cgroups.parse_mounts(cgroups.MOUNTS.read_text())
    return os.geteuid() == 0 and any(controller in one.controllers and one.writable for one in mounts)


v1 = pytest.mark.skipif(
    not (may_limit("memory") and may_limit("cpu")), reason="needs root and writable v1 hierarchies of memory and cpu"
)


def spent(pid: int) -> float:
    stat = sampling.read_stat(pid)
    assert stat is not None
    return stat.cpu


@v1
def test_a_leaking_instance_is_killed_in_its_cgroup_and_that_is_certain(
    triage: Callable[..., Triage], folder: Path
) -> None:
    running = triage(app('memory = "96MB"\ncpus = 0.25'))
    name = running.ready(1)[0]
    one = running.instances()[name]
    assert (one["memory_limit"], one["cpu_limit"], one["limited_by"]) == (96_000_000, 0.25, "cgroup v1")
    said = running.event("limits")["text"]
    assert said == "web: each instance is limited: memory 96 MB by cgroup v1; 0.25 cores by cgroup v1"
    assert {path.name for home in ours(folder) for path in home.iterdir() if path.is_dir()} == {name}

    # CPU: a loop that never waits gets a quarter of a core
    port = running.port()
    wait = subprocess.Popen(["curl", "-s", f"http://127.0.0.1:{port}/burn?2.5"])
    before, began = spent(one["pid"]), time.monotonic()
    until(lambda: spent(one["pid"]) > before, "it works")
    assert wait.wait(60) == 0
    share = (spent(one["pid"]) - before) / (time.monotonic() - began)
    assert 0.02 < share < 0.5, share
    quota = next(home / name for home in ours(folder) if (home / name / "cpu.cfs_quota_us").exists())
    assert cgroups.value_of(quota / "cpu.stat", "nr_throttled") > 0, "the kernel held it back"
    # what is charged to the cgroup is what is shown
    until(lambda: (running.instances()[name]["usage"] or {}).get("rss", 0) > 1_000_000, "its usage")

    status, _ = running.get("/leak?400")
    assert status == 502
    ended = until(lambda: running.state()["apps"]["web"]["ended"], "its exit")[0]
    assert (ended["oom"], ended["signal"], ended["by_itself"]) == ("certain", 9, True)
    assert ended["words"] == "signal 9 (SIGKILL), out of memory"
    after = running.ready(1)[0]
    assert after != name
    until(lambda: {path.name for home in ours(folder) for path in home.iterdir() if path.is_dir()} == {after}, "gone")

    # a new control finds them again, and says the same of the next
    os.kill(running.state()["pid"], 9)
    until(lambda: running.state()["apps"]["web"]["instances"][after]["lifecycle"] == "ready", "taken over")
    until(lambda: running.event("control-restarted"), "it says so")
    assert running.instances()[after]["limited_by"] == "cgroup v1"
    until(lambda: running.instances()[after]["usage"] is not None, "looked at")
    seen = running.instances()[after]["usage"]["at"]
    until(lambda: running.instances()[after]["usage"]["at"] > seen + 1.5, "looked at twice more")
    assert running.get("/leak?400")[0] == 502
    ended = until(lambda: running.state()["apps"]["web"]["ended"][1:], "its exit")[0]
    assert (ended["oom"], ended["name"]) == ("certain", after)
    assert running.stop() == 0
    assert not ours(folder)


@v1
def test_what_a_killed_gateway_left_is_removed_at_the_next_start(triage: Callable[..., Triage], folder: Path) -> None:
    running = triage(app('memory = "96MB"'))
    name = running.ready(1)[0]
    pid = running.instances()[name]["pid"]
    running.process.kill()
    running.process.wait()
    until(lambda: not sampling.alive(pid), "its instances end with the launcher")
    assert any((home / name).is_dir() for home in ours(folder))
    again = triage(app())
    again.ready(1)
    assert not ours(folder)


V2 = next((one for one in cgroups.parse_mounts(cgroups.MOUNTS.read_text()) if one.version == 2), None)


@v1
@pytest.mark.skipif(V2 is None or not V2.writable, reason="needs a writable v2 hierarchy")
def test_in_a_v2_group_of_its_own_triage_moves_to_a_leaf(triage: Callable[..., Triage], folder: Path) -> None:
    """As under systemd with Delegate=yes; memory and CPU are v1's here, so this shows the moving and the ending."""
    assert V2 is not None
    base = Path(V2.point) / f"triage-test-{os.getpid()}"
    base.mkdir()
    try:
        enter = ["sh", "-c", f'echo 0 > {base}/cgroup.procs && exec "$@"', "sh"]
        running = triage(app('memory = "96MB"'), within=enter)
        name = running.ready(1)[0]
        state = running.state()
        pid = state["apps"]["web"]["instances"][name]["pid"]

        def group(pid: int) -> str:
            return cgroups.parse_own(Path(f"/proc/{pid}/cgroup").read_text())[""]

        assert group(pid) == f"/{base.name}/instances/{name}"
        others = [running.process.pid, state["pid"], *(worker["pid"] for worker in state["workers"])]
        assert {group(one) for one in others} == {f"/{base.name}/gateway"}
        os.kill(state["pid"], 9)
        running.event("control-restarted")
        assert (base / "instances" / name).is_dir(), "a new control knows where it is, and whose this is"
        os.kill(pid, 9)
        after = until(lambda: [one for one in running.ready(1) if one != name], "another")[0]
        assert group(running.instances()[after]["pid"]) == f"/{base.name}/instances/{after}"
        until(lambda: not (base / "instances" / name).exists(), "it is removed")
        assert running.stop() == 0
        assert [path.name for path in base.iterdir() if path.is_dir()] == ["gateway"]
    finally:
        folders = [base, *(path for path in base.rglob("*") if path.is_dir())]
        until(lambda: not cgroups.remove(reversed(folders)), "the group of this test is removed")


READ_ONLY = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"', "sh"]


def may_unshare() -> bool:
    return subprocess.run([*READ_ONLY, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not shutil.which("unshare") or not may_unshare(), reason="needs a mount namespace of its own")
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="with one core affinity has nothing to choose")
def test_without_cgroups_memory_is_watched_and_cpu_held_by_affinity(triage: Callable[..., Triage]) -> None:
    running = triage(app('memory = "96MB"\ncpus = 0.5\ninstances = 2'), within=READ_ONLY)
    names = running.ready(2)
    found = running.instances()
    assert {found[name]["limited_by"] for name in names} == {"watched, affinity"}
    assert {found[name]["memory_limit"] for name in names} == {96_000_000}
    allowed = [os.sched_getaffinity(found[name]["pid"]) for name in names]
    assert [len(one) for one in allowed] == [1, 1]
    assert allowed[0] != allowed[1], "neighbours have different cores"
    assert {os.getpriority(os.PRIO_PROCESS, found[name]["pid"]) for name in names} == {5}
    said = running.event("limits")["text"]
    assert said.startswith("web: each instance is limited: memory 96 MB watched; 0.5 cores by affinity; "), said
    assert {found[name]["limits_why"] for name in names} == {said.partition("by affinity; ")[2]}


# --- policy


def test_cores_are_spread_over_what_may_be_used() -> None:
    assert spread([0, 1, 2, 3], 1.0, 0) == ((0,), 0)
    assert [spread([0, 1, 2, 3], 1.5, number)[0] for number in (1, 2, 3)] == [(2, 3), (0, 1), (2, 3)]
    assert spread([0, 1, 2, 3], 1.5, 1)[1] == 5
    assert spread([2, 5, 7], 2, 1) == ((2, 7), 0)
    assert spread([0, 1], 2.0, 3) == ((), 0)
    assert spread([0, 1], 1.5, 3) == ((), 5)
    assert spread([0, 1], 16, 3) == ((), 0)


def test_who_takes_anothers_place_takes_its_core_too() -> None:
    """web-2 ended, and web-3 comes beside web-1: the numbers alone would put both on one core."""
    assert spread([0, 1], 0.5, 3, {1: 1})[0] == (0,)
    assert spread([0, 1], 0.5, 3, {0: 1})[0] == (1,)
    assert spread([0, 1, 2, 3], 1.5, 2, {0: 1, 1: 1})[0] == (2, 3)
    assert spread([0, 1, 2], 1.0, 4, {0: 1, 1: 1, 2: 1})[0] == (1,), "all alike: by number"


def test_nothing_is_looked_for_while_nothing_is_limited() -> None:
    def never() -> cgroups.Found:
        raise AssertionError

    limits = Limits(never)
    assert limits.apply("web-1", Process(("true",))).limited_by == ""
    limits.adopt([("web-1", Process(("true",)))])
    limits.look({})
    assert limits.of_exit("web-1", 9, False) is None
    limits.close()


# --- where cgroups are: the texts of real machines, over folders of our own


class Tree:
    """A v2 tree in a folder: a `cgroup.procs` that a process can be moved to, as far as `find` can tell."""

    def __init__(self, root: Path, own: str, controllers: str = "cpu io memory pids") -> None:
        self.root, self.own = root, own
        folder = Path(f"{root}{own}")
        folder.mkdir(parents=True)
        for name in ("cgroup.procs", "cgroup.type", "cgroup.subtree_control"):
            (folder / name).touch()
        (folder / "cgroup.controllers").write_text(controllers)
        self.folder = folder

    def find(self, parents: dict[int, int] | None = None, options: str = "rw") -> cgroups.Found:
        line = f"31 23 0:28 / {self.root} {options},relatime - cgroup2 cgroup2 rw,nsdelegate\n"
        return cgroups.find(
            Path("/var/lib/triage"), 100, mountinfo=line, own=f"0::{self.own}\n", processes=lambda: parents or {}
        )


def test_a_service_that_is_not_delegated_is_left_alone(tmp_path: Path) -> None:
    tree = Tree(tmp_path, "/user.slice/session-3.scope")
    (tree.folder / "cgroup.procs").write_text("77\n100\n101\n")
    found = tree.find({77: 1, 100: 77, 101: 100})
    assert found.homes == ()
    assert "holds other processes too (pid 77); run under systemd with Delegate=yes" in found.why["memory"]
    assert not (tree.folder / "gateway").exists()


def test_a_read_only_mount_says_so(tmp_path: Path) -> None:
    found = Tree(tmp_path, "/docker/abc").find(options="ro")
    assert found.homes == ()
    assert found.why["cpu"].startswith("cgroup v2 is mounted read-only")


def test_where_nothing_is_mounted_it_says_so() -> None:
    found = cgroups.find(Path("/x"), 1, mountinfo="", own="")
    assert found.why == {one: f"no cgroup hierarchy with {one} is mounted" for one in ("memory", "cpu")}


REAL: list[tuple[str, str, dict[str, Any]]] = [
    (
        "systemd, v2 alone",
        "25 1 0:22 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate",
        {"": "/system.slice/triage.service"},
    ),
    (
        "docker on v1, the container sees its part",
        "745 735 0:33 /docker/1f2e /sys/fs/cgroup/cpu,cpuacct ro,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct",
        {"cpu": "/docker/1f2e", "cpuacct": "/docker/1f2e"},
    ),
]


@pytest.mark.parametrize(("what", "mountinfo", "own"), REAL)
def test_real_texts_are_understood(what: str, mountinfo: str, own: dict[str, str]) -> None:
    mount = cgroups.parse_mounts(mountinfo)[0]
    names = ",".join(own)
    assert cgroups.parse_own(f"4:{names}:{next(iter(own.values()))}\n") == own
    if what.startswith("systemd"):
        assert (mount.version, mount.root, mount.writable) == (2, "/", True)
    else:
        assert (mount.version, mount.root, mount.writable) == (1, "/docker/1f2e", False)
        assert mount.controllers >= {"cpu", "cpuacct"}
