"""Other listeners: IPv6, Unix sockets, and connections that begin with a PROXY header."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from proxy.link.messages import App, Instance, Settings
from tests.dataplane.client import Client, get, splits
from tests.dataplane.conftest import Serve
from tests.dataplane.harness import WorkerUnderTest, listening, worker

AUTHORITY = trustme.CA()
TRUSTED = ("127.0.0.1/32", "::1/128", "unix")


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="triage-") as made:
        yield Path(made)


@pytest.fixture(scope="module")
def gateway(folder: Path) -> Iterator[WorkerUnderTest]:
    """IPv4, IPv4 with TLS, IPv6, Unix."""
    certificate = AUTHORITY.issue_cert("a.example")
    chain, key = folder / "a.pem", folder / "a.key"
    chain.write_bytes(b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
    certificate.private_key_pem.write_to_path(str(key))
    unix = socket.socket(socket.AF_UNIX)
    unix.bind(str(folder / "listener.sock"))
    unix.listen()
    with worker((listening(), False), (listening(), True), (listening("::1"), False), (unix, False)) as under_test:
        under_test.settings = Settings(certificates=((str(chain), str(key)),))
        yield under_test


def port(gateway: WorkerUnderTest, number: int) -> int:
    return int(gateway.socks[number][0].getsockname()[1])


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    return context


def v2(source: str = "203.0.113.7", destination: str = "192.0.2.1", command: int = 0x21, tlvs: bytes = b"") -> bytes:
    one, two = ipaddress.ip_address(source), ipaddress.ip_address(destination)
    body = one.packed + two.packed + struct.pack("!HH", 5678, 443) + tlvs
    return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", command, 0x11 if one.version == 4 else 0x21, len(body)) + body


V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 5678 443\r\n"
HEADERS = {
    "v1": (V1, "203.0.113.7", "443"),
    "v1 over IPv6": (b"PROXY TCP6 2001:db8::7 2001:db8::1 5678 443\r\n", "2001:db8::7", "443"),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1", ""),
    "v2": (v2(), "203.0.113.7", "443"),
    "v2 over IPv6": (v2("2001:db8::7", "2001:db8::1"), "2001:db8::7", "443"),
    "v2 with more in it": (v2(tlvs=b"\x02\x00\x09a.example\x04\x00\x03abc"), "203.0.113.7", "443"),
    "v2 local": (v2(command=0x20), "127.0.0.1", ""),
}


def proxied(serve: Serve, trusted: tuple[str, ...] = TRUSTED, gateway: WorkerUnderTest | None = None):  # type: ignore[no-untyped-def]
    assert gateway is not None
    before = gateway.settings
    return serve(
        settings={
            "proxy_protocol": True,
            "trusted_proxies": trusted,
            "certificates": before.certificates,
            "head_timeout": 2.0,
        }
    )


@pytest.mark.parametrize("name", HEADERS)
def test_headers(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """The instance is told who the client is; however the header is cut, and with the request behind it."""
    header, source, to = HEADERS[name]
    origin = proxied(serve, gateway=gateway)
    request = get("/one")
    for how, pieces in splits(header, request):
        with Client(gateway.port) as client:
            client.send(*pieces)
            if "next" not in how:
                client.send(request)
            answer = client.response()
            assert (answer.status, answer.body) == (200, b"/one"), how
            seen = origin.requests[-1]
            assert seen["X-Forwarded-For"] == source, how
            assert seen["X-Forwarded-Port"] == (to or str(gateway.port))
            assert gateway.record(answer.id).client == source
            assert client.ask(get("/two")).body == b"/two"
    assert b"PROXY" not in origin.received and b"QUIT" not in origin.received


GARBAGE = {
    "no header": get(),
    "half the signature": b"\r\n\r\n\0\r\nQUIX\n" + b"\0" * 20,
    "another word": b"PROXI TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
    "no address": b"PROXY TCP4 a b 1 1\r\n",
    "a bad port": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
    "bare LF": b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n",
    "too long": b"PROXY UNKNOWN " + b"a" * 200 + b"\r\n",
    "version 3": b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x31, 0x11, 12) + b"\0" * 12,
    "too short": b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, 4) + b"\0" * 4,
    "too large": b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, 60000),
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    """Closed without an answer, and nothing of it is a request."""
    origin = proxied(serve, gateway=gateway)
    with Client(gateway.port) as client:
        client.send(GARBAGE[name] + get())
        assert client.rest() == b""
    with Client(gateway.port, first=V1) as client:
        assert client.ask(get("/after")).body == b"/after"
    assert len(origin.requests) == 1


@pytest.mark.slow
def test_half_a_header(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Not whole within the head's limit, or ended before: closed."""
    origin = serve(
        settings={
            "proxy_protocol": True,
            "trusted_proxies": TRUSTED,
            "certificates": gateway.settings.certificates,
            "head_timeout": 0.4,
        }
    )
    with Client(gateway.port) as client, Client(gateway.port) as silent:
        client.send(V1[:-2])
        assert client.rest() == b"" and silent.rest() == b""
    with Client(gateway.port) as client:
        client.send(V1[:-2])
        client.fin()
        assert client.rest() == b""
    assert origin.received == b""


def test_untrusted(gateway: WorkerUnderTest, serve: Serve) -> None:
    """Who is not trusted is not believed: its header is no header, and so no valid request."""
    origin = proxied(serve, ("10.0.0.0/8",), gateway)
    with Client(gateway.port) as client:
        client.send(V1 + get())
        assert client.response().status == 400
    with Client(gateway.port) as client:
        assert client.ask(get("/plain")).body == b"/plain"
    assert origin.requests[0]["X-Forwarded-For"] == "127.0.0.1" and len(origin.requests) == 1


def test_not_enabled(gateway: WorkerUnderTest, serve: Serve) -> None:
    """From trusted proxies too, unless the setting says so."""
    origin = serve(settings={"trusted_proxies": TRUSTED, "certificates": gateway.settings.certificates})
    with Client(gateway.port) as client:
        client.send(V1 + get())
        assert client.response().status == 400
    assert origin.received == b""


@pytest.mark.parametrize("name", ["v1", "v2", "v2 over IPv6"])
def test_tls_behind_it(gateway: WorkerUnderTest, serve: Serve, name: str) -> None:
    header, source, _ = HEADERS[name]
    origin = proxied(serve, gateway=gateway)
    for _ in range(2):
        with Client(port(gateway, 1), tls=trusting(), name="a.example", first=header) as client:
            assert client.ask(get("/tls")).body == b"/tls"
            assert client.ask(get("/more")).body == b"/more"
        assert origin.requests[-1]["X-Forwarded-For"] == source
        assert origin.requests[-1]["X-Forwarded-Proto"] == "https"


def test_header_over_ipv6_and_unix(gateway: WorkerUnderTest, serve: Serve, folder: Path) -> None:
    origin = proxied(serve, gateway=gateway)
    for to in (("::1", port(gateway, 2)), str(folder / "listener.sock")):
        with Client(to, first=V1) as client:
            assert client.ask(get("/x")).body == b"/x"
        assert origin.requests[-1]["X-Forwarded-For"] == "203.0.113.7"


# --- without a header -----------------------------------------------------------------------------


def test_ipv6(gateway: WorkerUnderTest, serve: Serve) -> None:
    origin = serve()
    with Client(("::1", port(gateway, 2))) as client:
        answer = client.ask(get(host=f"[::1]:{port(gateway, 2)}"))
        assert answer.status == 200
        assert client.ask(b"GET /old HTTP/1.0\r\n\r\n").status == 200
    assert origin.requests[0]["X-Forwarded-For"] == "::1"
    assert origin.requests[0]["Forwarded"].startswith('for="[::1]"')
    assert origin.requests[1]["Host"] == f"[::1]:{port(gateway, 2)}"
    assert gateway.record(answer.id).client == "::1"


def test_unix(gateway: WorkerUnderTest, serve: Serve, folder: Path) -> None:
    origin = serve()
    with Client(str(folder / "listener.sock")) as client:
        answer = client.ask(get("/unix"))
        assert (answer.status, answer.body) == (200, b"/unix")
        client.send(b"garbage\r\n\r\n")
        assert client.response().status == 400
        assert client.is_closed() == "FIN"
    assert origin.requests[0]["X-Forwarded-For"] in ("unknown", "unix")
    assert gateway.record(answer.id).client in ("unix", "unknown")


def test_unix_trusted(gateway: WorkerUnderTest, serve: Serve, folder: Path) -> None:
    """A proxy on this machine that speaks over a Unix socket may be believed."""
    origin = serve(settings={"trusted_proxies": ("unix",), "certificates": gateway.settings.certificates})
    with Client(str(folder / "listener.sock")) as client:
        assert client.ask(get("/", "X-Forwarded-For: 203.0.113.7")).status == 200
    assert origin.requests[0]["X-Forwarded-For"].startswith("203.0.113.7")


def test_an_instance_on_a_unix_socket(gateway: WorkerUnderTest, serve: Serve, folder: Path) -> None:
    origin = serve(origin={"path": str(folder / "instance.sock")})
    with Client(gateway.port) as client:
        assert client.ask(get("/1")).body == b"/1"
        assert client.ask(get("/2")).body == b"/2"
    assert len(origin.connections) == 1


def test_an_instance_on_ipv6(gateway: WorkerUnderTest, serve: Serve) -> None:
    origin = serve(origin={"address": "::1"})
    six = Instance("six", 700, "address", host="::1", port=origin.port, resolved=("::1",))
    gateway.table(App("web", 0, instances=(six,)))
    with Client(gateway.port) as client:
        assert client.ask(get("/6")).body == b"/6"
