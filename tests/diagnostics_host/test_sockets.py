"""Who waits for whom, with real sockets: full queues, questions without an answer, clients that do not read."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.diagnostics import net, netlink, proc
from proxy.diagnostics.artifacts import Activity, Peer, Sockets, SocketSample
from proxy.diagnostics.collectors import sockets
from tests.diagnostics.sessions import artifact, begin, instance, outcome, python, running, step, until
from tests.diagnostics_host.support import NOBODY, WITH_SOCKETS, apart, of

pytestmark = pytest.mark.slow

SLOW = WITH_SOCKETS + """
listening = socket.create_server(("127.0.0.1", 0), backlog=64)
print("ready", listening.getsockname()[1], flush=True)
held = []
while True:
    one, _ = listening.accept()
    held.append(one)
    if one.recv(100) == b"quick":
        time.sleep(0.05)
        one.sendall(b"here")
"""
ASKS = WITH_SOCKETS + """
def ask(wait):
    one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    one.settimeout(1000 if wait == "poll" else None)
    one.sendall(b"slow")
    if wait == "select":
        select.select([one], [], [])
    one.recv(10)

idle = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
idle.sendall(b"quick")
idle.recv(10)
for wait in ("recv", "recv", "poll", "select"):
    threading.Thread(target=ask, args=(wait,), daemon=True).start()
print("ready", flush=True)
time.sleep(1000)
"""


def test_of_more_sockets_than_are_kept_its_own_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(net, "ROWS", 2)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        for _ in range(5):  # each leaves one in TIME_WAIT, which is nobody's
            with socket.create_connection(server.getsockname()) as one, server.accept()[0] as other:
                one.shutdown(socket.SHUT_WR)
                assert other.recv(1) == b""
        held = [socket.create_connection(server.getsockname()) for _ in range(4)]
        mine = {os.fstat(one.fileno()).st_ino for one in (server, *held)}
        view = net.View(os.getpid())
        for how in ("sock_diag", "proc"):
            assert mine <= {row.inode for row in view.tcp(mine)}, how
            assert view.cut >= 3 and f"{view.cut:,} more of the machine" in view.note()
            view._give_up(PermissionError(errno.EPERM, "not permitted"))
        for one in held:
            one.close()


def look(pid: int, **more: object) -> Sockets:
    return sockets.collect(of(pid, **more), Path("/nowhere"))


def sample(pid: int) -> SocketSample:
    found = look(pid)
    assert found.how == "sock_diag" and found.note == "", found.note
    (one,) = found.samples
    return one


def peer(one: SocketSample, by: str, address: str = "") -> Peer:
    (found,) = [each for each in one.peers if each.by == by and each.address.endswith(address)]
    return found


def wait_for(pid: int, by: str, seen: Callable[[Peer], object], why: str) -> Peer:
    """Until its one peer of that side is as it should be."""
    found: Peer = until(lambda: next((one for one in sample(pid).peers if one.by == by and seen(one)), None), why)
    return found


@pytest.fixture
def slow() -> Iterator[tuple[int, int]]:
    """A server that answers one word and no other: pid, port."""
    with running(*python(SLOW)) as (process, words):
        yield process.pid, int(words[0])


def test_threads_that_wait_for_a_slow_server_are_counted_by_its_address(slow: tuple[int, int]) -> None:
    server, port = slow
    with running(*python(ASKS), str(port)) as (process, _):
        found = wait_for(process.pid, "server", lambda one: one.threads == 4, "all four wait")
        assert found.address == f"127.0.0.1:{port}"
        assert (found.established, found.asked, found.connecting) == (5, 4, 0), "the idle one was answered"
        assert found.process == f"python (pid {server})" and found.name == "python"
        assert set(found.waiters) == {int(name) for name in os.listdir(f"/proc/{process.pid}/task")} - {process.pid}
        assert found.asked_for is not None and found.idle is not None and found.idle >= found.asked_for >= 0
        other_side = peer(sample(server), "client")
        assert (other_side.address, other_side.owed, other_side.asked) == ("127.0.0.1", 4, None)


def test_a_question_sent_in_the_tick_of_the_answer_before_it() -> None:
    """As in a transaction; and nobody sleeps reading, as in an event loop. Keep-alive does not look like an answer."""
    answers = WITH_SOCKETS + """
listening = socket.create_server(("127.0.0.1", 0), backlog=64)
def serve(one):
    while word := one.recv(100):
        if word != b"slow":
            one.sendall(b"here")
print("ready", listening.getsockname()[1], flush=True)
while True:
    threading.Thread(target=serve, args=(listening.accept()[0],), daemon=True).start()
"""
    asks = WITH_SOCKETS + """
held = []
for number in range(20):
    one = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 2)
    for _ in range(number % 4 + 1):
        one.sendall(b"quick")
        one.recv(10)
    if number % 2:
        one.sendall(b"slow")
    held.append(one)
print("ready", flush=True)
time.sleep(1000)
"""
    with running(*python(answers)) as (_, words), running(*python(asks), words[0]) as (process, _):
        samples = sockets.collect(of(process.pid, 4.0), Path("/nowhere")).samples
        assert len(samples) >= 3
        for one in samples[1:]:
            found = peer(one, "server")
            assert found.established == 20 and found.asked is not None and found.threads == 0
            assert found.asked <= 10, "of those that were answered none is said to wait"
            assert found.asked + found.unsure >= 10 and found.asked >= 5
        assert (found.asked_for or 0) > 3


def test_a_thread_that_was_stopped_meanwhile_still_waits(slow: tuple[int, int]) -> None:
    """Its system call is another one then."""
    with running(*python(ASKS), str(slow[1])) as (process, _):
        wait_for(process.pid, "server", lambda one: one.threads == 4, "all four wait")
        os.kill(process.pid, signal.SIGSTOP)
        until(lambda: proc.stat(proc.PROC / str(process.pid)).state == "T", "it stands still")
        os.kill(process.pid, signal.SIGCONT)
        wait_for(process.pid, "server", lambda one: one.threads == 4, "all four wait again")


def test_a_full_accept_queue() -> None:
    code = WITH_SOCKETS + """
listening = socket.create_server(("127.0.0.1", 0), backlog=2)
print("ready", listening.getsockname()[1], flush=True)
time.sleep(1000)
"""
    with running(*python(code)) as (process, words):
        clients = [socket.socket() for _ in range(6)]
        try:
            for client in clients:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", int(words[0])))
            (listener,) = until(lambda: [one for one in sample(process.pid).listeners if one.waiting == 3], "full")
            assert (listener.address, listener.backlog) == (f"127.0.0.1:{words[0]}", 2), "full with one more than this"
            assert listener.accepting == 0 and listener.pid == process.pid
            ours = peer(sample(os.getpid()), "server", f":{words[0]}")
            assert (ours.established, ours.connecting) == (3, 3)
        finally:
            for client in clients:
                client.close()


def test_who_accepts_is_told_and_not_guessed_of_event_loops() -> None:
    code = WITH_SOCKETS + """
listening = socket.create_server(("127.0.0.1", 0))
if sys.argv[1] == "loop":
    poll = select.epoll()
    poll.register(listening, select.EPOLLIN)
    wait = poll.poll
else:
    threading.Thread(target=listening.accept, daemon=True).start()
    wait = listening.accept
print("ready", flush=True)
wait()
"""
    for kind, accepting in (("threads", 2), ("loop", None)):
        with running(*python(code), kind) as (process, _):
            until(lambda p=process, a=accepting: sample(p.pid).listeners[0].accepting == a, f"{kind}: {accepting}")


def test_a_client_that_never_reads_holds_a_thread() -> None:
    code = WITH_SOCKETS + """
listening = socket.create_server(("127.0.0.1", 0))
print("ready", listening.getsockname()[1], flush=True)
one, _ = listening.accept()
one.sendall(bytes(64 << 20))
"""
    with running(*python(code)) as (process, words):
        with socket.create_connection(("127.0.0.1", int(words[0]))) as client:
            found = wait_for(process.pid, "client", lambda one: one.senders and one.unsent, "it is stuck")
            assert (found.senders, found.unsent, found.threads, found.waiters) == (1, 1, 0, [process.pid])
            assert client.fileno() > 0


def test_connections_that_the_other_side_closed() -> None:
    code = WITH_SOCKETS + """
port = int(sys.argv[1])
held = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
print("ready", flush=True)
time.sleep(1000)
"""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        with running(*python(code), str(server.getsockname()[1])) as (process, _):
            for number in range(5):
                one, _ = server.accept()
                if number < 3:
                    one.close()
                else:
                    one.detach()
            found = wait_for(process.pid, "server", lambda one: one.close_wait == 3, "three closed")
            assert (found.established, found.closing) == (2, 3)


def test_unix_servers_are_named_by_path_also_before_they_accept(tmp_path: Path) -> None:
    code = WITH_SOCKETS + """
one = socket.socket(socket.AF_UNIX)
one.connect(sys.argv[1])
one.sendall(b"?")
print("ready", flush=True)
one.recv(1)
"""
    path = str(tmp_path / ".s.PGSQL.5432")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(4)
        with running(*python(code), path) as (process, _):
            found = wait_for(process.pid, "server", lambda one: one.threads, "it reads")
            assert (found.address, found.name, found.kind) == (f"unix:{path}", "PostgreSQL", "unix")
            assert found.process == f"{net.comm(os.getpid())} (pid {os.getpid()})"
            accepted, _ = server.accept()
            with accepted:
                found = peer(sample(process.pid), "server")
                assert (found.address, found.established, found.asked) == (f"unix:{path}", 1, None)


def test_connections_left_behind_and_local_ports() -> None:
    code = WITH_SOCKETS + """
port = int(sys.argv[1])
held = socket.create_connection(("127.0.0.1", port))
for _ in range(7):
    socket.create_connection(("127.0.0.1", port)).close()
print("ready", flush=True)
time.sleep(1000)
"""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as server:
        port = server.getsockname()[1]
        with running(*python(code), str(port)) as (process, _):
            first, _ = server.accept()
            with first:
                for _ in range(7):
                    server.accept()[0].close()
                found = until(lambda: (one := look(process.pid)).samples[0].time_wait and one, "they are left behind")
                assert peer(found.samples[0], "server").time_wait == 7
                most = found.samples[0].time_wait
                assert most.get(f"127.0.0.1:{port}") == 7 or (len(most) == 10 and min(most.values()) >= 7)
                assert found.ports_range and found.ports_used and found.ports_most
                assert found.ports_used >= 8 and found.ports_most[1] >= 8


def test_other_users_processes_may_not_be_looked_into(slow: tuple[int, int]) -> None:
    if os.geteuid():
        pytest.skip("to be another user takes root")

    def denied() -> None:
        with pytest.raises(PermissionError, match="root or their user only"):
            look(slow[0])

    apart(denied, user=NOBODY)


def test_in_a_network_namespace_of_its_own() -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-n", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no namespace can be made here")
    code = WITH_SOCKETS + """
import subprocess
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
listening = socket.create_server(("127.0.0.1", 4321))
waiting = [socket.create_connection(("127.0.0.1", 4321)) for _ in range(2)]
print("ready", flush=True)
time.sleep(1000)
"""
    with running(unshare, "-n", *python(code)) as (process, _):

        def look_there() -> None:
            ours = net.namespace(os.getpid())
            one = sample(process.pid)
            assert [(each.address, each.waiting) for each in one.listeners] == [("127.0.0.1:4321", 2)]
            assert peer(one, "server").established == 2
            assert os.readlink("/proc/thread-self/ns/net") == ours, "it came back"

        apart(look_there)


def test_proc_tells_the_same_as_sock_diag() -> None:
    """Where the kernel has no sock_diag."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server, socket.socket() as client:
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        with accepted, netlink.Link() as link:
            accepted.sendall(b"unread")
            mine = {os.fstat(one.fileno()).st_ino for one in (server, client, accepted)}
            told = {row.inode: row for row in link.tcp(set()) if row.inode in mine}
            read = {row.inode: row for row in net.table(os.getpid(), "tcp") if row.inode in mine}
            assert read[os.fstat(server.fileno()).st_ino].send == -1, "the backlog is not known"
            assert {key: row._replace(send=0) for key, row in told.items()} == {
                key: row._replace(send=0) for key, row in read.items()
            }
            assert told[os.fstat(client.fileno()).st_ino].receive == 6


def test_a_process_that_is_gone() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
        with pytest.raises(ProcessLookupError):
            look(process.pid)


@pytest.mark.parametrize("waited_for", [True, False])
@pytest.mark.parametrize("samples", [0, 1])
def test_one_that_ends_while_it_is_looked_at_is_gone(
    samples: int, waited_for: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its sockets come from /proc, whose files go with it."""

    def none() -> netlink.Link:
        raise OSError(errno.EPROTONOSUPPORT, "no sock_diag")

    monkeypatch.setattr(netlink, "Link", none)
    table, seen = net.unix_table, []
    with running(*python("import time; print('ready', flush=True); time.sleep(1000)")) as (process, _):

        def ends(pid: int) -> Iterator[netlink.Unix]:
            seen.append(pid)
            if len(seen) > samples:
                process.kill()
                if waited_for:
                    process.wait()
                else:
                    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
            return table(pid)

        monkeypatch.setattr(net, "unix_table", ends)
        if samples:
            found = sockets.collect(of(process.pid, 5.0), Path("/nowhere"))
            assert len(found.samples) == 1 and "ended during the session" in found.note
        else:
            with pytest.raises(ProcessLookupError, match="ended during the session"):
                sockets.collect(of(process.pid), Path("/nowhere"))


def test_a_session_samples_until_it_is_told_to_end(tmp_path: Path, slow: tuple[int, int]) -> None:
    with running(*python(ASKS), str(slow[1])) as (process, _):
        chosen = ["sockets", "activity", "host_report"]
        with begin(tmp_path, instance("web-1", process.pid), collectors=chosen, seconds=60.0) as session:
            until((tmp_path / "outcome.json").exists, "it has begun")
            until(lambda: step(outcome(tmp_path), "sockets").state == "running", "it looks")
            until(lambda: time.time() - outcome(tmp_path).began > 2.5, "it has looked more than once")
            session.terminate()
            assert session.wait(40) == 0
    found = outcome(tmp_path)
    assert {name: step(found, name).state for name in chosen} == dict.fromkeys(chosen, "done")
    assert len(artifact(tmp_path, Sockets).samples) >= 1
    assert artifact(tmp_path, Sockets).samples[-1].peers[0].asked == 4
    assert 1 <= len(artifact(tmp_path, Activity).samples) < 20
