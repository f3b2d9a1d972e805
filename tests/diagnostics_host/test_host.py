"""The machine and what its kernel wrote: real counters, real kills, lines as kernels write them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.diagnostics import bounded, kernel_log, machine, proc
from proxy.diagnostics.artifacts import HostEvent
from proxy.diagnostics.collectors import host_events, host_report
from proxy.link.session import Instance
from tests.diagnostics.sessions import python, running, until
from tests.diagnostics_host.support import NOBODY, apart, group, of, subject

NOWHERE = Path("/nowhere")


@pytest.mark.slow
def test_the_machine_while_someone_uses_it(tmp_path: Path) -> None:
    with running(*python("print('ready', flush=True)\nwhile True: pass")) as (process, _):
        told = subject(seconds=2.0, app={"cwd": str(tmp_path)})
        told.input.data_dir = str(tmp_path)
        found = host_report.collect(told, NOWHERE)
        assert len(found.samples) == 2
        one = found.samples[-1]
        assert one.busy is not None and 0.1 < one.busy <= 1.0 and one.running >= 1
        assert one.steal is not None and one.iowait is not None and one.busy + one.steal + one.iowait <= 1.001
        assert found.memory_total and one.available and 0 < one.available < found.memory_total
        assert process.pid in [pid for _, pid, cores, rss in found.top if cores > 0.1 and rss > 1_000_000]
        free, size, inodes = found.disks[str(tmp_path)]
        assert 0 < free <= size and (inodes is None or inodes > 0)
        assert {"ListenOverflows", "ListenDrops", "TCPTimeouts", "RetransSegs", "lo drops"} <= set(found.network)
        assert all(value >= 0 for value in found.network.values())
        assert 0 < found.cores <= (os.cpu_count() or 1) and found.uptime > 0
        assert found.open_files and 0 < found.open_files[0] < found.open_files[1]
        assert abs(found.clock_step) < 0.5


@pytest.mark.slow
def test_connections_that_a_full_queue_drops_are_counted() -> None:
    before = machine.network()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        clients = [socket.socket() for _ in range(4)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        until(lambda: machine.network()["ListenOverflows"] > before["ListenOverflows"], "it is counted")
        for client in clients:
            client.close()


@pytest.mark.slow
def test_a_clock_that_was_set_is_seen_by_when_instances_began() -> None:
    """It was noted that it began an hour later than its age says: the clock went back meanwhile."""
    started = proc.stat(proc.PROC / str(os.getpid())).started
    right = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + started / proc.TICK
    for moved in (3600.0, -30.0):
        one = Instance(name="web-1", pid=os.getpid(), started=started, started_at=right + moved)
        found = host_report.collect(subject(one), NOWHERE)
        assert abs(found.clock_step + moved) < 0.5 and found.clock_since == one.started_at


@pytest.mark.slow
def test_names_that_the_app_connects_to_are_looked_up() -> None:
    env = {
        "DATABASE_URL": "postgres://app:hunter2@db.does-not-exist.invalid:5432/main", "CACHE_HOST": "localhost",
        "API_HOST": "10.0.0.1", "HOSTNAME": "me",
    }  # fmt: skip
    with running(*python("print('ready', flush=True); import time; time.sleep(1000)"), env=env) as (process, _):
        found = host_report.collect(subject(Instance(name="web-1", pid=process.pid)), NOWHERE)
    assert isinstance(found.resolver["db.does-not-exist.invalid"], str)
    assert not {"10.0.0.1", "me", "localhost"} & set(found.resolver)
    assert "hunter2" not in repr(found)


def test_which_variables_hold_hosts() -> None:
    assert host_report.hosts(
        [
            ("DATABASE_URL", "mysql+pymysql://u:p%40@db.internal:3306/x?ssl=1"), ("BROKER", "amqp://rabbit//"),
            ("REDIS_HOST", "cache.internal:6379"), ("SMTP_SERVER", "mail"), ("GREETING", "hello"), ("HOST", "0.0.0.0"),
            ("FILE", "file:///etc/passwd"), ("V6", "http://[::1]:80/"), ("BAD", "http://[oh"), ("HOSTNAME", "pod-1"),
            ("PEER_ADDR", "not a host!"), ("DATABASE_URL_2", "postgres://db.internal/y"),
        ]
    ) == ["db.internal", "rabbit", "cache.internal", "mail"]  # fmt: skip


def test_what_does_not_come_back_is_left_behind() -> None:
    reader, writer = os.pipe()
    began = time.monotonic()
    calls = {"quick": lambda: b"x", "stuck": lambda: os.read(reader, 1), "bad": lambda: os.read(-1, 1)}
    found = bounded.calls(calls, 0.2)
    assert time.monotonic() - began < 30
    os.write(writer, b"!")
    assert found["quick"][0] == b"x" and isinstance(found["bad"][0], OSError) and "stuck" not in found


def told(*lines: str, source: str = "kernel") -> list[HostEvent]:
    events: list[HostEvent] = []
    for number, line in enumerate(lines):
        kernel_log.told(100.0 + number / 1e6, line, source, events)
    return events


def test_a_kill_for_memory_is_one_event_with_victim_and_group() -> None:
    """Both lines of it, as Linux 5.10 and later write them."""
    (one,) = told(
        "python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/triage/web-7,"
        "task_memcg=/triage/web-7/inner,task=gunicorn: worke,pid=812,uid=33",
        "Memory cgroup out of memory: Killed process 812 (gunicorn: worke) total-vm:257036kB, anon-rss:93312kB, "
        "file-rss:10104kB, shmem-rss:8kB, UID:33 pgtables:280kB oom_score_adj:0",
        "oom_reaper: reaped process 812 (gunicorn: worke), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB",
    )
    assert (one.kind, one.pid, one.process, one.rss) == ("oom-kill", 812, "gunicorn: worke", (93312 + 10104 + 8) * 1024)
    assert (one.where, one.limited) == ("/triage/web-7/inner", "/triage/web-7")
    (whole,) = told(
        "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/a,task=java,"
        "pid=9,uid=0",
        "Out of memory: Killed process 9 (java) total-vm:1kB, anon-rss:2kB, file-rss:0kB, shmem-rss:0kB, UID:0",
    )
    assert (whole.pid, whole.limited, whole.where) == (9, "", "/a"), "the whole machine ran out"


@pytest.mark.parametrize(
    ("line", "kind", "where"),
    [
        ("python[77]: segfault at 0 ip 00007f sp 00007ffc error 4 in libfoo.so.1[7f0000+1000] likely on CPU 1",
         "segfault", "libfoo.so.1"),
        ("traps: node[77] trap invalid opcode ip:55 sp:7f error:0 in node[400000+1000]", "segfault", "node"),
        ("python[77]: segfault at 8 ip 0 sp 1 error 6 in _x.so[1000,7f0000+1000]", "segfault", "_x.so"),
        ("EXT4-fs error (device sda1): ext4_find_entry:1463: inode #2: comm ls: reading directory", "disk", "sda1"),
        ("EXT4-fs (sda1): Remounting filesystem read-only", "disk", "sda1"),
        ("blk_update_request: I/O error, dev nvme0n1, sector 0 op 0x0:(READ)", "disk", "nvme0n1"),
        ("INFO: task python:77 blocked for more than 120 seconds.", "hung", ""),
        ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [python:77]", "hung", ""),
        ("nf_conntrack: nf_conntrack: table full, dropping packet", "network", ""),
        ("TCP: request_sock_TCP: Possible SYN flooding on port 8000. Sending cookies.", "network", ""),
        ("eth0: Link is Down", "network", "eth0"),
        ("TCP: out of memory -- consider tuning tcp_mem", "network", ""),
        ("clocksource: Marking clocksource 'tsc' as unstable because the skew is too large", "clock", ""),
        ("cgroup: fork rejected by pids controller in /triage/web-1", "limit", ""),
        ("VFS: file-max limit 1000 reached", "limit", ""),
        ("mce: [Hardware Error]: Machine check events logged", "hardware", ""),
    ],
)  # fmt: skip
def test_lines_that_matter(line: str, kind: str, where: str) -> None:
    (one,) = told(line)
    assert (one.kind, one.where) == (kind, where)
    assert kind != "segfault" or (one.pid, one.process) == (77, line.partition("[77]")[0].removeprefix("traps: "))


@pytest.mark.parametrize(
    "line",
    [
        "EXT4-fs (sda1): mounted filesystem with ordered data mode. Opts: errors=remount-ro",
        "usb 1-1: new high-speed USB device number 2", "audit: type=1400 apparmor=ALLOWED",
        "systemd[1]: Started Session 12 of user root.", "docker0: port 1(veth1) entered blocking state",
        "EDAC MC: Ver: 3.0.0", "perf: interrupt took too long (2508 > 2500)",
    ],
)  # fmt: skip
def test_lines_that_do_not(line: str) -> None:
    assert told(line) == []


@pytest.mark.slow
def test_a_real_kill_for_memory_is_found_with_its_group() -> None:
    if os.geteuid():
        pytest.skip("the kernel's log takes root")
    code = "input(); held = [bytearray(1 << 20) for _ in range(400)]"
    try:
        with group("memory", memory__limit_in_bytes="33554432") as folder:
            process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE)
            (folder / "cgroup.procs").write_text(str(process.pid))
            process.communicate(b"\n")
            assert process.returncode == -signal.SIGKILL
    except OSError as error:
        pytest.skip(f"no cgroup can be made here: {error}")
    found = host_events.collect(of(os.getpid()), NOWHERE)
    (one,) = [event for event in found.events if event.pid == process.pid]
    assert one.kind == "oom-kill" and one.where.endswith(folder.name) and one.limited.endswith(folder.name)
    assert one.rss is not None and one.rss > 20_000_000 and abs(one.at - time.time()) < 30
    assert "/dev/kmsg" in found.sources


def test_what_a_program_wrote_into_the_kernels_log_is_not_believed() -> None:
    try:
        Path("/dev/kmsg").write_text("Out of memory: Killed process 4194304 (forged) total-vm:1kB, anon-rss:1kB\n")
    except OSError:
        pytest.skip("the kernel's log can't be written here")
    events = host_events.collect(of(os.getpid()), NOWHERE).events
    assert all(event.pid != 4194304 for event in events)


def test_a_user_who_may_read_neither_is_told_so() -> None:
    if os.geteuid() or machine.text("sys/kernel/dmesg_restrict").strip() != "1":
        pytest.skip("anyone may read the kernel's log here")

    def denied() -> None:
        if host_events.has_journal():
            assert "/dev/kmsg: " in host_events.collect(of(os.getpid()), NOWHERE).note
        else:
            with pytest.raises(PermissionError, match="/dev/kmsg: "):
                host_events.collect(of(os.getpid()), NOWHERE)

    apart(denied, user=NOBODY)
