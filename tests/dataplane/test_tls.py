"""TLS towards clients and to instances: real certificates, real handshakes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import select
import socket
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from proxy.link.messages import Settings, Tls
from tests.dataplane.client import DEADLINE, Client, Reset, get, post
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest, listening, worker
from tests.dataplane.origins import Conn, echo, serve_ok

AUTHORITY = trustme.CA()


def trusting(authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def save(certificate: trustme.LeafCert, folder: Path, name: str) -> tuple[str, str]:
    chain, key = folder / f"{name}.pem", folder / f"{name}.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    return str(chain), str(key)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("certificates")


@pytest.fixture(scope="module")
def pairs(folder: Path) -> tuple[tuple[str, str], ...]:
    return (
        save(AUTHORITY.issue_cert("a.example"), folder, "a"),
        save(AUTHORITY.issue_cert("b.example", "*.wild.example"), folder, "b"),
    )


@pytest.fixture(scope="module")
def gateway(pairs: tuple[tuple[str, str], ...]) -> Iterator[WorkerUnderTest]:
    """A TLS listener, and a plain one behind it."""
    with worker((listening(), True), (listening(), False)) as under_test:
        under_test.settings = Settings(certificates=pairs)
        yield under_test


def names(client: Client) -> set[str]:
    assert isinstance(client.sock, ssl.SSLSocket)
    return {value for kind, value in client.sock.getpeercert()["subjectAltName"] if kind == "DNS"}  # type: ignore[index,misc]


def test_a_request(gateway: WorkerUnderTest, serve: Serve) -> None:
    origin = serve()
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        for number in range(3):
            answer = client.ask(get(f"/{number}"))
            assert (answer.status, answer.body, answer.keeps) == (200, b"/%d" % number, True)
        record = gateway.record(answer.id)
        assert (record.fault, record.status) == ("", 200)
        assert client.ask(get("/", "Connection: close")).status == 200
        assert client.is_closed() == "FIN"
    assert origin.requests[0]["X-Forwarded-Proto"] == "https"
    assert origin.requests[0]["Forwarded"].endswith("proto=https")
    assert len(origin.connections) == 1
    with Client(gateway.socks[1][0].getsockname()[1]) as plain:
        plain.ask(get())
        assert origin.requests[-1]["X-Forwarded-Proto"] == "http"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.example", "a.example"),
        ("b.example", "b.example"),
        ("x.wild.example", "b.example"),
        ("A.EXAMPLE", "a.example"),
        ("wild.example", "a.example"),
        ("x.y.wild.example", "a.example"),
        ("unknown.example", "a.example"),
        (None, "a.example"),
    ],
)
def test_server_names(gateway: WorkerUnderTest, serve: Serve, name: str | None, expected: str) -> None:
    """The certificate that fits; the first one for who names nobody, or somebody unknown."""
    serve()
    context = trusting()
    context.check_hostname = False
    with Client(gateway.port, tls=context, name=name) as client:
        assert expected in names(client)
        assert client.ask(get()).status == 200


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_versions(gateway: WorkerUnderTest, serve: Serve, version: str) -> None:
    serve()
    context = trusting()
    context.minimum_version = context.maximum_version = ssl.TLSVersion[version]
    context.set_alpn_protocols(["h2", "http/1.1"])
    with Client(gateway.port, tls=context, name="a.example") as client:
        assert isinstance(client.sock, ssl.SSLSocket)
        assert client.sock.version() == version.replace("_", ".")
        assert client.sock.selected_alpn_protocol() == "http/1.1"
        assert client.ask(get()).status == 200


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_old_versions(gateway: WorkerUnderTest, serve: Serve) -> None:
    """TLS 1.1 is refused in the handshake."""
    serve()
    context = trusting()
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Client(gateway.port, tls=context, name="a.example")


def test_plain_bytes(gateway: WorkerUnderTest, serve: Serve) -> None:
    """HTTP to the TLS listener is closed, and TLS to the plain one refused; neither reaches an instance."""
    origin = serve()
    with Client(gateway.port) as client:
        client.send(get())
        client.rest()
    plain = gateway.socks[1][0].getsockname()[1]
    with pytest.raises((ssl.SSLError, ConnectionError, Reset)):
        Client(plain, tls=trusting(), name="a.example")
    assert origin.received == b""
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        assert client.ask(get()).status == 200


@pytest.mark.slow
def test_no_handshake(gateway: WorkerUnderTest, serve: Serve, pairs: tuple[tuple[str, str], ...]) -> None:
    """Who never ends its handshake is closed within the head's limit."""
    with worker((listening(), True)) as under_test:
        under_test.table(certificates=pairs, head_timeout=0.5)
        with Client(under_test.port) as silent, Client(under_test.port) as half:
            half.send(b"\x16\x03\x01\x02\x00\x01")
            assert silent.rest() == b""
            half.rest()
    serve()


@pytest.mark.slow
def test_renewed_certificates(gateway: WorkerUnderTest, serve: Serve, folder: Path) -> None:
    """Files that change are read again: new handshakes get the new one, connections stay."""
    authority = trustme.CA()
    pair = save(authority.issue_cert("old.example"), folder, "renewed")
    serve(settings={"certificates": (pair,)})
    with Client(gateway.port, tls=trusting(authority), name="old.example") as client:
        assert names(client) == {"old.example"}
        save(authority.issue_cert("old.example", "new.example"), folder, "renewed")
        future = time.time() + 10
        for path in pair:
            os.utime(path, (future, future))
        until = time.monotonic() + DEADLINE
        while True:
            with Client(gateway.port, tls=trusting(authority), name="old.example") as other:
                if "new.example" in names(other):
                    break
            assert time.monotonic() < until
            assert client.ask(get()).status == 200  # not closed, nor idle for so long that it would be
            time.sleep(0.1)
    Path(pair[0]).write_text("no certificate")
    gateway.table()
    with Client(gateway.port, tls=trusting(authority), name="new.example") as client:
        assert client.ask(get()).status == 200  # a pair that can't be read stays as it was


def send_and_read(client: Client, data: bytes) -> None:
    """Sends all, taking what comes meanwhile. In one thread: two may not use an SSL object at the same time."""
    sock, left, came = client.sock, memoryview(data), bytearray()
    sock.setblocking(False)
    while left:
        stuck = True
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            left, stuck = left[sock.send(left[:65536]) :], False
        with contextlib.suppress(ssl.SSLWantWriteError, ssl.SSLWantReadError):
            came += sock.recv(262144)
            stuck = False
        if stuck:
            readable, writable, _ = select.select([sock], [sock], [], DEADLINE)
            assert readable or writable
    sock.settimeout(DEADLINE)
    client.buffer += came
    client.taken += came


@pytest.mark.slow
def test_bodies(gateway: WorkerUnderTest, serve: Serve) -> None:
    """10 MiB up and down at once, through TLS, with a reader that takes its time."""
    serve(echo)
    content = os.urandom(10 << 20)
    with Client(gateway.port, tls=trusting(), name="a.example", receive_buffer=65536) as client:
        send_and_read(client, post(content))
        answer = client.response()
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(content).digest()
        assert client.ask(get()).status == 200
    record = gateway.record(answer.id)
    assert (record.fault, record.bytes_in, record.bytes_out) == ("", len(content), len(content))


def test_a_cut_body(gateway: WorkerUnderTest, serve: Serve) -> None:
    """A truncated content never ends cleanly: no close_notify, so that a strict client sees the cut."""

    def script(conn: Conn) -> None:
        conn.request()
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")

    serve(script)
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        client.send(get())
        head = client.response_head()
        assert client.exactly(5) == b"hello"
        client.rest()
        assert client.ended == "RST"
    assert gateway.record(head.id).fault == "body-truncated"


def test_refused_requests(gateway: WorkerUnderTest, serve: Serve) -> None:
    origin = serve()
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        client.send(get("/", "Content-Length: x"))
        answer = client.response()
        assert answer.status == 400 and not answer.keeps
        client.rest()
    assert origin.received == b""


# --- to instances ---------------------------------------------------------------------------------


def serving(*names: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


@pytest.fixture(scope="module")
def ca(folder: Path) -> str:
    path = folder / "ca.pem"
    AUTHORITY.cert_pem.write_to_path(str(path))
    return str(path)


def test_to_an_instance(gateway: WorkerUnderTest, serve: Serve, ca: str) -> None:
    """Verified against the given authority and name; the record has the handshake's time."""
    origin = serve(
        serve_ok, origin={"tls": serving("app.example")}, instance={"tls": Tls(ca=ca, server_name="app.example")}
    )
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        first = client.ask(get("/1"))
        assert (first.status, first.body) == (200, b"/1")
        assert client.ask(get("/2")).body == b"/2"
    record = gateway.record(first.id)
    assert record.tls_us is not None and record.tls_us > 0 and record.connect_us is not None
    assert len(origin.connections) == 1


def test_large_to_an_instance(gateway: WorkerUnderTest, serve: Serve, ca: str) -> None:
    serve(echo, origin={"tls": serving("app.example")}, instance={"tls": Tls(ca=ca, server_name="app.example")})
    content = os.urandom(3 << 20)
    with Client(gateway.socks[1][0].getsockname()[1]) as client:
        assert client.ask(post(content)).body == content


CASES = {
    "unknown authority": (True, Tls(server_name="app.example"), "app.example", "tls-certificate"),
    "another name": (True, Tls(ca="CA", server_name="app.example"), "other.example", "tls-certificate"),
    "no TLS there": (False, Tls(ca="CA", server_name="app.example"), "", "tls-error"),
    "not verified": (True, Tls(verify=False), "other.example", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_not_to_an_instance(gateway: WorkerUnderTest, serve: Serve, ca: str, case: str) -> None:
    """What can't be verified gets no byte of the request."""
    tls, wanted, name, fault = CASES[case]
    if wanted.ca:
        wanted = Tls(ca=ca, verify=wanted.verify, server_name=wanted.server_name)

    def not_tls(conn: Conn) -> None:
        conn.more()
        conn.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    origin = serve(
        serve_ok if tls else not_tls,
        origin={"tls": serving(name) if tls else None},
        instance={"tls": wanted},
        attempts=0,
    )
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        answer = client.ask(get())
        if not fault:
            assert answer.status == 200
            return
        assert (answer.status, answer.fault, answer.keeps) == (502, fault, True), answer.body
    record = gateway.record(answer.id)
    assert (record.fault, record.status) == (fault, 502)
    assert b"HTTP/1.1\r\n" not in origin.received


def test_an_instance_that_never_shakes_hands(gateway: WorkerUnderTest, serve: Serve, ca: str) -> None:
    """`connect` holds for both together."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    try:
        serve(lambda conn: conn.until_closed(), instance={"tls": Tls(ca=ca)}, connect=0.3)
        with Client(gateway.port, tls=trusting(), name="a.example") as client:
            answer = client.ask(get())
            assert (answer.status, answer.fault) == (504, "connect-timeout")
    finally:
        listener.close()


def test_an_early_answer_is_not_lost(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Who is still sending content that was refused gets the answer whole, and can go on sending for a while."""
    serve(max_body=1000)
    with Client(gateway.port, tls=trusting(), name="a.example") as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 500000\r\n\r\n" + bytes(100_000))
        client.send(bytes(200_000))
        answer = client.response()
        assert (answer.status, answer.keeps) == (413, False)
        client.send(bytes(200_000))
        client.rest()
