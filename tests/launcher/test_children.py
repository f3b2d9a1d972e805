"""Children: how they start, how they end, and what they leave behind."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy.launcher import child as forking

SLEEP = "import time; time.sleep(600)"
GRANDCHILD = """
import subprocess, sys, time
one = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(one.pid, flush=True)
time.sleep(600)
"""
DAEMON = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        time.sleep(600)
    os._exit(0)
os.wait()
time.sleep(600)
"""


@pytest.mark.parametrize(
    ("code", "how"),
    [
        ("pass", (0, None)),
        ("raise SystemExit(7)", (7, None)),
        ("import os; os.kill(os.getpid(), 9)", (None, 9)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", (None, 15)),
    ],
)
def test_exit_is_told_with_code_or_signal(triage: Any, code: str, how: tuple[int | None, int | None]) -> None:
    control = triage.start()
    started = control.python("web-1", code, note={"port": 1})
    exit_ = control.exit_of("web-1")
    assert (exit_["code"], exit_["signal"]) == how
    assert exit_["pid"] == started["pid"] and exit_["start"] == started["start"]
    assert exit_["lasted"] > 0 and exit_["maxrss"] > 1 << 20 and exit_["utime"] + exit_["stime"] > 0
    assert exit_["kind"] == "instance" and exit_["note"] == {"port": 1} and exit_["sent"] == []


def test_signal_to_process_and_group(triage: Any) -> None:
    control = triage.start()
    control.python("web-1", GRANDCHILD, stdout="pipe")
    below = int(control.do("read", name="web-1.stdout", least=2)["text"])
    control.do("signal", args=["web-1", signal.SIGUSR1, "group"])
    exit_ = control.exit_of("web-1")
    assert exit_["signal"] == signal.SIGUSR1 and [row[0] for row in exit_["sent"]] == [signal.SIGUSR1]
    triage.gone(below)
    refused = control.do("signal", args=["web-1", signal.SIGTERM])
    assert refused["refused"] == "web-1 does not run" and refused["errno"] == errno.ESRCH
    control.python("web-2", SLEEP)
    control.do("signal", args=["web-2", signal.SIGTERM])
    assert control.exit_of("web-2")["signal"] == signal.SIGTERM


def test_what_is_wrong_with_a_command_is_said(triage: Any, tmp_path: Path) -> None:
    control = triage.start()
    script = tmp_path / "script"
    script.write_text("#!/no/such/ruby\n")
    script.chmod(0o755)
    plain = tmp_path / "plain"
    plain.write_text("hello\n")
    plain.chmod(0o644)
    noise = tmp_path / "noise"
    noise.write_bytes(b"\x01\x02")
    noise.chmod(0o755)
    said = {
        control.spawn("a", "uvicornn")["refused"]: f"uvicornn: not found in PATH {os.environ['PATH']}",
        control.spawn("a", "/no/such")["refused"]: "/no/such: no such file",
        control.spawn("a", "./no", cwd=str(tmp_path))["refused"]: f"./no: no such file in {tmp_path}",
        control.spawn("a", str(script))["refused"]: (
            f"{script}: its first line names /no/such/ruby, which is not there"
        ),
        control.spawn("a", str(plain))["refused"]: f"{plain}: may not be executed (mode 0644)",
        control.spawn("a", str(noise))["refused"]: (
            f"{noise}: neither a program for this machine nor a script with a #! line"
        ),
        control.spawn("a", "true", cwd="/no/such")["refused"]: "cwd /no/such: No such file or directory",
        control.spawn("a", "true", user="nobody-at-all")["refused"]: ("user nobody-at-all: not known on this machine"),
        control.spawn("a", "true", give={"5": "none"})["refused"]: "nothing is held by the name none",
    }
    assert list(said.keys()) == list(said.values())
    assert control.spawn("a", "/no/such")["step"] == "exec"
    assert control.python("a", SLEEP)["pid"]  # the name was free all the time
    assert control.python("a", SLEEP)["refused"] == "a runs already"
    control.do("signal", args=["a", signal.SIGKILL])
    control.exit_of("a")
    assert not [row for row in control.events if row["event"] == "exit"]  # a failed exec is no exit


def test_nonsense_is_refused_and_nothing_ends(triage: Any) -> None:
    control = triage.start()
    for message in (
        {"op": "nothing"},
        {"op": ["list"]},
        {"op": "spawn"},
        {"op": "spawn", "child": {"name": "x", "argv": []}},
        {"op": "spawn", "child": {"name": "x", "argv": ["true"], "give": {"3": 4}}},
        {"op": "spawn", "child": {"name": "x", "argv": ["true"], "env": "text"}},
        {"op": "spawn", "child": {"name": "x", "argv": ["true"], "env": {"A": 1}}},
        {"op": "spawn", "child": {"name": "x", "argv": ["tr\0ue"]}},
        {"op": "signal", "name": "x", "signal": "TERM"},
        {"op": "hold", "name": "x"},
        {"op": "slots", "count": 0},
        {"op": "listen", "address": {"name": "x"}},
        {"op": "drop", "name": "ledger"},
    ):
        assert "refused" in control.do("raw", message=message), message
    assert control.python("web-1", "pass")["pid"]
    assert not triage.logged("internal-error")


def test_environment_stdio_and_descriptors_given(triage: Any, tmp_path: Path) -> None:
    control = triage.start()
    control.do("file", name="given", path=str(tmp_path / "given"))
    control.do("hold", name="web-1.socket", fd="given")
    code = (
        "import os; print(sorted(os.listdir('/proc/self/fd')), os.environ, os.getpid(), os.getsid(0));os.write(3, b'x')"
    )
    env = {"PATH": "/bin", "LISTEN_FDS": "1", "TRIAGE_INSTANCE": "forged"}
    started = control.python("web-1", code, give={"3": "web-1.socket"}, env=env, stdout="pipe")
    text = control.do("read", name="web-1.stdout", least=1 << 20)["text"]
    pid = started["pid"]
    assert "['0', '1', '2', '3', '4']" in text  # 4 is the listing itself
    assert f"'LISTEN_PID': '{pid}'" in text and "'TRIAGE_INSTANCE': 'web-1'" in text
    assert text.endswith(f"{pid} {pid}\n")
    assert (tmp_path / "given").read_bytes() == b"x"


def test_signals_are_back_to_default(triage: Any) -> None:
    control = triage.start()
    control.spawn("web-1", "cat", "/proc/self/status", stdout="pipe")
    text = control.do("read", name="web-1.stdout", least=1 << 20)["text"]
    masks = dict(line.split(":\t") for line in text.splitlines() if line.startswith("Sig"))
    of_libc = 1 << 31 | 1 << 32  # 32 and 33: glibc keeps them to itself, and whom posix_spawn started ignores them
    assert {int(masks[name], 16) & ~of_libc for name in ("SigBlk", "SigIgn", "SigCgt")} == {0}


def test_the_original_descriptor_limit_is_given_back(triage: Any) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    code = "import resource; print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    low = 512
    assert low < before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (low, before[1]))
    try:
        triage.launch()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    control = triage.control()
    for kind, soft in (("instance", low), ("worker", before[1])):
        control.python(kind, code, kind=kind, stdout="pipe")
        assert control.do("read", name=f"{kind}.stdout", least=99)["text"] == f"{soft} {before[1]}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change user")
def test_user_is_changed_and_still_dies_with_the_launcher(triage: Any) -> None:
    control = triage.start()
    started = control.spawn("web-1", "sh", "-c", "id -u; id -G; exec sleep 600", user="nobody", stdout="pipe")
    uid, groups = control.do("read", name="web-1.stdout", least=8)["text"].splitlines()
    assert uid == "65534" and groups == "65534"
    triage.kill()
    triage.gone(started["pid"])


def test_grandchildren_and_daemons_end_with_their_instance_only(triage: Any) -> None:
    control = triage.start()
    below = {}
    for name, code in (("web-1", GRANDCHILD), ("web-2", DAEMON), ("web-3", DAEMON)):
        control.python(name, code, stdout="pipe")
        below[name] = int(control.do("read", name=f"{name}.stdout", least=2)["text"])
    control.do("signal", args=["web-1", signal.SIGTERM])
    control.do("signal", args=["web-2", signal.SIGTERM])
    triage.gone(below["web-1"], below["web-2"])
    assert triage.alive(below["web-3"])
    control.do("signal", args=["web-3", signal.SIGTERM])
    triage.gone(below["web-3"])


@pytest.mark.slow
def test_no_zombie_and_no_descriptor_is_left_after_fifty(triage: Any) -> None:
    control = triage.start()

    def cycle(number: int) -> None:
        control.python(f"web-{number}", "import os; os.fork() and os._exit(0)", stdout="pipe", stderr="pipe")
        control.do("ack", exits=[control.exit_of(f"web-{number}")["exit"]])
        control.do("close")
        assert "refused" in control.spawn(f"bad-{number}", "/no/such", stdout="pipe")

    def descriptors() -> tuple[int, int]:
        """Without the files that the launcher opens for a moment: /proc, its record."""
        held = 0
        for name in os.listdir(f"/proc/{triage.pid}/fd"):
            with contextlib.suppress(FileNotFoundError):
                where = os.readlink(f"/proc/{triage.pid}/fd/{name}")
                held += not where.startswith("/proc/") and "launcher.json" not in where
        return held, control.do("descriptors")["count"]

    cycle(0)
    before = descriptors()
    for number in range(1, 51):
        cycle(number)
    assert descriptors() == before

    def only_control() -> bool:
        with open(f"/proc/{triage.pid}/task/{triage.pid}/children") as file:
            return file.read().split() == [str(control.pid)]

    triage.until(only_control)


def test_a_socket_is_shut_down_when_its_instance_ends(triage: Any) -> None:
    control = triage.start()
    address = {"name": "x", "kind": "tcp", "host": "127.0.0.1", "port": 0}
    listener = control.do("listen", args=[address])["result"]
    control.do("fetch", name=listener["sockets"][0])
    control.do("hold", name="web-1.socket", fd=listener["sockets"][0])
    control.do("fetch", name=listener["sockets"][1])
    control.do("hold", name="web-1.other", fd=listener["sockets"][1])
    socket.create_connection(("127.0.0.1", listener["port"])).close()
    control.python("web-1", "pass", shut=["web-1.socket", "web-1.other"])
    control.exit_of("web-1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", listener["port"]))


def test_pipe_sizes_stay_within_the_quota() -> None:
    assert [forking.pipe_size(n) for n in (0, 1, 16, 17, 32, 100, 256, 1000)] == [
        1 << 20, 1 << 20, 1 << 20, 1 << 19, 1 << 19, 1 << 17, 1 << 16, 1 << 16,
    ]  # fmt: skip


ESCAPED = """
import os, sys, time
if os.fork() == 0:
    os.setsid()
    code = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    os.execve(sys.executable, [sys.executable, "-c", code], {})
time.sleep(600)
"""


def cgroup_root(kind: str) -> str | None:
    """Of v2, or of v1's cpu hierarchy, where there is no process of ours to speak of."""
    with open("/proc/mounts") as file:
        for fields in map(str.split, file):
            fits = fields[2] == kind and (kind == "cgroup2" or "cpu" in fields[3].split(","))
            if fits and os.geteuid() == 0 and os.access(fields[1], os.W_OK):
                return fields[1]
    return None


@pytest.mark.parametrize("kind", ["cgroup2", "cgroup"])
def test_all_in_the_cgroup_ends_with_the_instance(triage: Any, kind: str) -> None:
    """Also what left its session, and its environment: v2 kills at once, in v1 they are killed one by one."""
    root = cgroup_root(kind)
    if root is None:
        pytest.skip(f"no writable {kind} hierarchy")
    folder = Path(root) / f"triage-test-{os.getpid()}"
    folder.mkdir()
    try:
        control = triage.start()
        control.python("web-1", ESCAPED, stdout="pipe", cgroup=[str(folder)], affinity=[min(os.sched_getaffinity(0))])
        below = int(control.do("read", name="web-1.stdout", least=2)["text"])
        assert os.sched_getaffinity(below) == {min(os.sched_getaffinity(0))}
        control.do("signal", args=["web-1", signal.SIGTERM])
        triage.gone(below)
        assert "refused" in control.python("web-2", "pass", cgroup=str(folder / "none"))
    finally:
        triage.kill()
        triage.until(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()


UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]


def may_unshare() -> bool:
    try:
        return subprocess.run([*UNSHARE, "true"], capture_output=True).returncode == 0
    except OSError:
        return False


@pytest.mark.skipif(not may_unshare(), reason="no pid namespace may be made")
def test_as_pid_1_it_ends_its_own_and_reaps_all(triage: Any) -> None:
    triage.launch(UNSHARE)
    control = triage.control()
    assert control.state["pid"] == 1
    control.python("web-1", DAEMON, stdout="pipe")
    below = int(control.do("read", name="web-1.stdout", least=2)["text"])
    control.python("web-2", ESCAPED, stdout="pipe")
    stranger = int(control.do("read", name="web-2.stdout", least=2)["text"])
    for name in ("web-1", "web-2"):
        control.do("signal", args=[name, signal.SIGTERM])
        control.exit_of(name)
    count = 0

    def there(pid: int) -> bool:
        nonlocal count
        count += 1
        control.spawn(f"test-{count}", "test", "-e", f"/proc/{pid}", kind="helper")
        return bool(control.exit_of(f"test-{count}")["code"] == 0)

    triage.until(lambda: not there(below))
    assert there(stranger)  # it hid: nothing tells whose it was
    control.spawn("kill", "kill", "-9", str(stranger))
    triage.until(lambda: not there(stranger))  # reaped
    control.bye(3)
    assert triage.wait() == 3
