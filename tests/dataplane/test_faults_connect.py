"""Faults on the way to an instance: names, connections, handshakes."""

from __future__ import annotations

import itertools
import os
import resource
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trustme

from proxy import faults
from proxy.control.ports import free_port
from proxy.dataplane.wheel import TICK
from proxy.link.messages import Cut, Tls
from tests.dataplane.harness import listening, worker
from tests.dataplane.provoke import Asked, Gate, Gateway, answers, app, origin, place, provokes, until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def nobody() -> int:
    """A port on which nobody listens."""
    return free_port(())


@provokes(faults.DNS_ERROR, faults.DNS_TIMEOUT)
@pytest.mark.parametrize(("why", "fault"), [("error", faults.DNS_ERROR), ("timeout", faults.DNS_TIMEOUT)])
def test_a_name_without_an_address(gateway: Gateway, why: str, fault: faults.Fault) -> None:
    spec = gateway.serve(app(place(80, host="nowhere.example", resolved=(), dns=why)))
    with gateway.connect() as client:
        record = gateway.shown(spec, client.ask("/", "POST", b"x"), fault)
        assert "nowhere.example" in record.detail and record.attempts is not None and record.attempts[0].sent == 0
        with origin(answers()) as good:
            gateway.serve(app(good.instance()))
            assert client.ask().status == 200, "the client's connection stays"


@provokes(faults.CONNECT_REFUSED)
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_connect_refused(gateway: Gateway, kind: str, tmp_path: Path) -> None:
    where = place(nobody()) if kind == "tcp" else place(0, path=str(tmp_path / "none.sock"), name="unix")
    spec = gateway.serve(app(where))
    gateway.shown(spec, gateway.ask("/", "POST", b"x"), faults.CONNECT_REFUSED)
    assert any(each.refused for each in gateway.learned(spec.name)), "control looks at once"


@pytest.mark.slow
def test_who_refused_is_left_alone_for_a_second(gateway: Gateway) -> None:
    """The second request does not try it, and says that it is out."""
    spec = gateway.serve(app(place(nobody()), queue_timeout=0.1))
    with gateway.connect() as client:
        assert client.ask().fault == "connect-refused"
        assert client.ask().fault == "all-ejected"
        assert gateway.record_of(spec).tries == 0
        until(lambda: client.ask().fault == "connect-refused")
        assert client.ask().fault == "all-ejected"
        gateway.serve(spec)
        assert client.ask().fault == "connect-refused", "a new table: control has looked"


@provokes(faults.CONNECT_UNREACHABLE)
def test_connect_unreachable(gateway: Gateway) -> None:
    """240.0.0.1 is reserved: the kernel has no route to it, and nothing leaves this machine."""
    spec = gateway.serve(app(place(80, host="240.0.0.1", resolved=("255.255.255.255",), name="unreachable")))
    gateway.shown(spec, gateway.ask("/", "POST", b"x"), faults.CONNECT_UNREACHABLE)


@contextmanager
def full_backlog() -> Iterator[int]:
    """A listening socket that nobody accepts on and whose backlog is full: a SYN gets no answer."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        fillers = []
        try:
            while True:
                filler = socket.socket()
                fillers.append(filler)
                filler.settimeout(0.2)
                try:
                    filler.connect(sock.getsockname())
                except TimeoutError:
                    break
            yield sock.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


@provokes(faults.CONNECT_TIMEOUT)
@pytest.mark.slow
def test_connect_timeout(gateway: Gateway) -> None:
    with full_backlog() as port:
        spec = gateway.serve(app(place(port), connect=0.3))
        answer = gateway.ask("/", "POST", b"x")
        record = gateway.shown(spec, answer, faults.CONNECT_TIMEOUT)
        assert answer.seconds >= 0.3 - TICK / 10
        assert record.sent == 0


@pytest.mark.slow
def test_a_full_backlog_of_a_unix_socket(gateway: Gateway, tmp_path: Path) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen(0)
        with socket.socket(socket.AF_UNIX) as filler:
            filler.connect(path)
            spec = gateway.serve(app(place(0, path=path, name="full"), connect=0.5))
            gateway.shown(spec, gateway.ask(), faults.CONNECT_TIMEOUT)


def test_a_client_that_leaves_while_connecting_frees_the_slot(gateway: Gateway) -> None:
    with full_backlog() as port:
        spec = gateway.serve(app(place(port), connect=20.0))
        with gateway.connect() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: gateway.in_flight(spec) == 1)
        until(lambda: gateway.in_flight(spec) == 0)
        assert gateway.record_of(spec).fault == "client-left"


def test_a_request_that_is_connecting_is_cut_too(gateway: Gateway) -> None:
    with full_backlog() as port:
        spec = gateway.serve(app(place(port), connect=20.0))
        waiting = gateway.later()
        until(lambda: gateway.in_flight(spec) == 1)
        gateway.worker.tell(Cut(spec.instances[0].row, "instance-recycled"))
        assert (waiting.answer.status, waiting.answer.fault) == (502, "instance-recycled")
        assert waiting.answer.seconds < 20.0


def test_the_next_address_of_a_name_is_tried(gateway: Gateway) -> None:
    with origin(answers()) as good:
        spec = gateway.serve(app(place(good.port, host="two.example", resolved=("127.0.0.2", "127.0.0.1"))))
        assert gateway.ask().status == 200
        assert gateway.record_of(spec).fault == ""


_IN_A_NARROW_NETWORK = """
import ctypes, os, socket, struct, sys, threading, fcntl
os._exit(77) if ctypes.CDLL(None).unshare(0x40000000 | (0 if os.getuid() == 0 else 0x10000000)) else None
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    fcntl.ioctl(sock, 0x8914, struct.pack("16sH14x", b"lo", 0x49))
with open("/proc/sys/net/ipv4/ip_local_port_range", "w") as file:
    file.write("40000 40001")
listening = socket.create_server(("127.0.0.1", 8000))
held = []
def hold():
    while True:
        held.append(listening.accept())
threading.Thread(target=hold, daemon=True).start()
from proxy.dataplane.run import main
main(int(sys.argv[1]))
"""


@provokes(faults.PORTS_EXHAUSTED)
@pytest.mark.slow
def test_ports_exhausted() -> None:
    """A worker in a network of its own, with two local ports: the third connection finds none."""
    allowed = subprocess.run(["unshare", *([] if os.getuid() == 0 else ["-r"]), "-n", "true"], check=False)
    if allowed.returncode:
        pytest.skip("this system lets nobody make a network namespace")
    with worker(program=("-c", _IN_A_NARROW_NETWORK)) as under_test:
        gateway = Gateway(under_test)
        spec = gateway.serve(app(place(8000)))
        waiting = [gateway.later() for _ in range(2)]
        until(lambda: gateway.in_flight(spec) == 2)
        answers_ = []
        until(lambda: answers_.append(gateway.ask("/", "POST", b"x")) or answers_)
        gateway.worker.tell(Cut(spec.instances[0].row, "instance-recycled"))
        assert [each.answer.status for each in waiting] == [502, 502]
        gateway.shown(spec, answers_[0], faults.PORTS_EXHAUSTED)


@provokes(faults.DESCRIPTORS_EXHAUSTED)
def test_descriptors_exhausted() -> None:
    """The worker's own limit is reached: told as ours, never blamed on the instance; and it recovers."""
    gate = Gate()

    def holding(sock: socket.socket, asked: Asked) -> bool:
        return gate(sock, asked) if asked.target == "/hold" else answers()(sock, asked)

    with worker() as under_test, origin(holding) as good:
        gateway = Gateway(under_test)
        spec = gateway.serve(app(good.instance()))
        pid = under_test.process.pid
        with gateway.connect() as client:
            assert client.ask("/none").status == 200
            idle = good.connections
            busy = gateway.later("/hold")
            until(lambda: len(good.requests) == 2)
            before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (lowest_free(pid), before[1]))
            answer = client.ask("/", "POST", b"x")
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)
            gate.open()
            assert busy.answer.status == 200 and idle == 1
            gateway.shown(spec, answer, faults.DESCRIPTORS_EXHAUSTED)
            assert client.ask().status == 200, "and it recovers"


def lowest_free(pid: int) -> int:
    """The descriptor that the process would get next; as its limit, it gets none."""
    used = {int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir()}
    return next(number for number in itertools.count() if number not in used)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextmanager
def tls_origin(authority: trustme.CA, *names: str) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*names).configure_cert(context)

    opened = []

    def serve() -> None:
        while True:
            try:
                plain, _ = sock.accept()
            except OSError:
                return
            opened.append(plain.dup())
            try:
                with context.wrap_socket(plain, server_side=True) as tls:
                    while data := tls.recv(65536):
                        if data.endswith(b"\r\n\r\n"):
                            tls.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwell\n")
            except OSError:
                plain.close()

    with listening() as sock:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield sock.getsockname()[1]
        sock.shutdown(socket.SHUT_RDWR)
        for each in opened:
            with each, suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        thread.join(30)


@provokes(faults.TLS_CERTIFICATE)
def test_tls_certificate(gateway: Gateway, authority: trustme.CA, tmp_path: Path) -> None:
    ca = str(tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(ca)
    with tls_origin(authority, "good.example") as port:
        spec = gateway.serve(app(place(port, tls=Tls(ca=ca, server_name="other.example"))))
        record = gateway.shown(spec, gateway.ask("/", "POST", b"x"), faults.TLS_CERTIFICATE)
        assert "other.example" in record.detail
        spec = gateway.serve(app(place(port, tls=Tls(server_name="good.example"))))
        gateway.shown(spec, gateway.ask(), faults.TLS_CERTIFICATE)
        gateway.serve(app(place(port, tls=Tls(ca=ca, server_name="good.example"))))
        answer = gateway.ask()
        assert answer.status == 200
        assert gateway.worker.record(answer.id).tls_us


@provokes(faults.TLS_ERROR)
def test_tls_error(gateway: Gateway) -> None:
    """It speaks plain HTTP at that port."""

    def plain(sock: socket.socket) -> None:
        conn, _ = sock.accept()
        with conn:
            conn.recv(65536)
            conn.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with listening() as sock:
        thread = threading.Thread(target=plain, args=(sock,), daemon=True)
        thread.start()
        spec = gateway.serve(app(place(sock.getsockname()[1], tls=Tls(verify=False))))
        gateway.shown(spec, gateway.ask("/", "POST", b"x"), faults.TLS_ERROR)
        thread.join(30)


@pytest.mark.slow
def test_a_handshake_that_does_not_come_is_a_connect_timeout(gateway: Gateway) -> None:
    with listening() as sock:
        spec = gateway.serve(app(place(sock.getsockname()[1], tls=Tls(verify=False)), connect=0.3))
        gateway.shown(spec, gateway.ask(), faults.CONNECT_TIMEOUT)

