"""Listening sockets: one per worker slot, kept whatever happens to the worker."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path
from typing import Any

TCP = {"name": "http", "kind": "tcp", "host": "127.0.0.1", "port": 0}


def test_backlogs_wait_for_the_next_worker_and_control(triage: Any) -> None:
    control = triage.start(listen=[TCP])
    listener = control.state["listeners"][0]
    assert listener["sockets"] == ["http/0", "http/1"] and listener["port"] > 0
    clients = [socket.create_connection(("127.0.0.1", listener["port"]), timeout=30) for _ in range(50)]
    os.kill(control.pid, signal.SIGKILL)
    after = triage.control()
    assert after.state["listeners"] == [listener]
    counts = []
    for name in listener["sockets"]:
        after.do("fetch", name=name)
        counts.append(after.do("accept", name=name)["count"])
    assert sum(counts) == 50 and min(counts) > 0
    for client in clients:
        assert client.recv(5) == b"hello"
        client.close()


def test_sockets_are_never_given_up(triage: Any) -> None:
    """Whoever closed one would reset what connected to it a moment before."""
    control = triage.start(listen=[TCP])
    port = control.state["listeners"][0]["port"]
    four = [f"http/{slot}" for slot in range(4)]
    for count in (4, 1):
        (listener,) = control.do("slots", args=[count])["result"]
        assert listener["sockets"] == four and listener["port"] == port
    control.do("steer", args=[1])
    (other,) = [control.do("listen", args=[{**TCP, "name": "other"}])["result"]]
    assert other["sockets"] == [f"other/{slot}" for slot in range(4)]
    assert places(control, "other", other["port"]) == {0}


def places(control: Any, name: str, port: int) -> set[int]:
    """Which of an address's sockets a hundred connections come to."""
    clients = [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(100)]
    got = set()
    for slot in range(4):
        control.do("fetch", name=f"{name}/{slot}")
        if control.do("accept", name=f"{name}/{slot}")["count"]:
            got.add(slot)
    for client in clients:
        client.close()
    return got


def test_connections_go_where_they_are_steered(triage: Any) -> None:
    control = triage.start(listen=[TCP])
    port = control.state["listeners"][0]["port"]
    control.do("slots", args=[4])
    assert places(control, "http", port) == {0, 1}  # the new ones have nobody who accepts
    for count in (1, 2, 4):
        control.do("steer", args=[count])
        assert places(control, "http", port) == set(range(count))


def test_addresses_come_and_go(triage: Any) -> None:
    control = triage.start()
    listener = control.do("listen", args=[TCP])["result"]
    socket.create_connection(("127.0.0.1", listener["port"])).close()
    again = {**TCP, "name": "two", "port": listener["port"]}
    said = control.do("listen", args=[again])["refused"]
    assert said == f"127.0.0.1:{listener['port']} is in use by triage (pid {triage.pid})"
    assert "is taken" in control.do("listen", args=[TCP])["refused"]
    control.do("unlisten", args=["http"])
    with socket.socket() as sock:
        assert sock.connect_ex(("127.0.0.1", listener["port"])) != 0
    assert "no listener" in control.do("unlisten", args=["http"])["refused"]
    far = {**TCP, "host": "192.0.2.1", "port": 80}
    said = control.do("listen", args=[far])["refused"]
    assert said == "192.0.2.1:80: no interface of this machine has the address 192.0.2.1"


def test_ipv6_takes_ipv4_along_unless_that_is_named(triage: Any) -> None:
    control = triage.start()
    wide = control.do("listen", args=[{"name": "six", "kind": "tcp", "host": "[::]", "port": 0}])["result"]
    assert wide["host"] == "::"
    socket.create_connection(("127.0.0.1", wide["port"])).close()
    control.do("unlisten", args=["six"])
    four = {"name": "four", "kind": "tcp", "host": "0.0.0.0", "port": wide["port"]}
    six = {"name": "six", "kind": "tcp", "host": "::", "port": wide["port"]}
    assert control.do("listen", args=[four])["result"]["port"] == wide["port"]
    assert control.do("listen", args=[six])["result"]["port"] == wide["port"]


def test_unix_sockets_replace_a_stale_file_only(triage: Any, tmp_path: Path) -> None:
    path = tmp_path / "g.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    control = triage.start(listen=[{"name": "unix", "kind": "unix", "path": str(path)}])
    assert stat.S_IMODE(path.stat().st_mode) == 0o666
    assert control.state["listeners"][0]["sockets"] == ["unix", "unix"]
    first = triage.pid
    same = {"name": "unix", "kind": "unix", "path": str(path)}
    assert triage.launch(listen=[same], data_dir=str(tmp_path / "other")).wait(30) == 1
    assert triage.log.read_text().splitlines()[-1] == f"unix:{path} is in use by triage (pid {first})"
    (tmp_path / "file").write_text("mine")
    other = {"name": "f", "kind": "unix", "path": str(tmp_path / "file")}
    said = control.do("listen", args=[other])["refused"]
    assert "it is not a socket" in said and (tmp_path / "file").read_text() == "mine"
    other["path"] = str(tmp_path / ("x" * 120))
    assert "107 bytes" in control.do("listen", args=[other])["refused"]
    control.bye()
    triage.until(lambda: not path.exists())


def test_the_admin_listener_waits_while_control_restarts(triage: Any, tmp_path: Path) -> None:
    path = tmp_path / "run" / "admin.sock"
    admin = {"listen": {"name": "any", "kind": "tcp", "host": "127.0.0.1", "port": 0}, "socket": str(path)}
    control = triage.start(admin=admin)
    listeners = {row["name"]: row for row in control.state["listeners"]}
    port = listeners["admin"]["port"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    assert set(listeners["admin"]["sockets"]) == {"admin"}
    os.kill(control.pid, signal.SIGKILL)
    triage.gone(control.pid)
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        after = triage.control()
        after.do("fetch", name="admin")
        assert after.do("accept", name="admin")["count"] == 1
        assert client.recv(5) == b"hello"
