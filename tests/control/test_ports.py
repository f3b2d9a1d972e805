import os
import socket
from pathlib import Path

import pytest

from proxy.control import ports
from proxy.control.ports import free_port, listening


def test_a_free_port_is_free_and_not_given_twice() -> None:
    taken: set[int] = set()
    for _ in range(20):
        port = free_port(taken)
        assert port not in taken
        taken.add(port)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", port))


def test_a_free_port_is_none_that_an_outgoing_connection_may_take(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local = tmp_path / "range"
    monkeypatch.setattr(ports, "LOCAL_RANGE", local)
    for text, wanted in (
        ("32768\t60999\n", range(61000, 65536)),
        ("32768 65535", range(20000, 32768)),
        ("1024 65535", range(1024, 65536)),
        ("what", range(1024, 65536)),
    ):
        local.write_text(text)
        assert {free_port(()) in wanted for _ in range(30)} == {True}, text
    local.unlink()
    assert free_port(())


def test_who_listens_where(tmp_path: Path) -> None:
    with socket.socket() as four, socket.socket(socket.AF_INET6) as six, socket.socket(socket.AF_UNIX) as unix:
        four.bind(("127.0.0.1", 0))
        six.bind(("::1", 0))
        unix.bind(str(tmp_path / "x.sock"))
        assert f"127.0.0.1:{four.getsockname()[1]}" not in listening([os.getpid()])
        for sock in (four, six, unix):
            sock.listen()
        found = listening([os.getpid()])
        assert f"127.0.0.1:{four.getsockname()[1]}" in found
        assert f"[::1]:{six.getsockname()[1]}" in found
        assert f"unix:{tmp_path / 'x.sock'}" in found


def test_a_process_that_is_gone_listens_nowhere() -> None:
    assert listening([2**22 + 1]) == []
