"""The admin API beyond loopback: with TLS, and not without an explicit word."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from proxy.admin import tls
from tests.access.conftest import CONFIG, Triage
from tests.e2e.support import LONG, environment, triage, until

pytestmark = pytest.mark.slow

WHOAMI = "/api/v1/whoami"


def write(folder: Path, authority: trustme.CA, name: str) -> None:
    pair = authority.issue_cert("127.0.0.1", name)
    pair.private_key_pem.write_to_path(str(folder / "key.pem"))
    (folder / "cert.pem").write_bytes(b"".join(blob.bytes() for blob in pair.cert_chain_pems))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def secure(authority: trustme.CA) -> Iterator[Triage]:
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    write(folder, authority, "first.example.com")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    listen = 'listen = "https://0.0.0.0:0"\ncertificate = { cert = "cert.pem", key = "key.pem" }'
    made = Triage(folder, CONFIG.replace('listen = "127.0.0.1:0"\nurl', f"{listen}\nurl"), authority)
    try:
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder, ignore_errors=True)


def names(secure: Triage) -> list[str]:
    assert secure.context is not None
    with (
        socket.create_connection(("127.0.0.1", secure.port), timeout=LONG) as plain,
        secure.context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        found = sock.getpeercert()
    assert found
    return [value for kind, value in found["subjectAltName"] if kind == "DNS"]


def test_it_speaks_tls_and_nothing_else(secure: Triage) -> None:
    assert secure.admin.startswith("https://")
    assert secure.call("GET", WHOAMI, secure.token).value["way"] == "token, from 127.0.0.1"
    assert secure.call("GET", WHOAMI).status == 401
    answer = b""
    with socket.create_connection(("127.0.0.1", secure.port), timeout=LONG) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        try:
            while part := sock.recv(4096):
                answer += part
        except ConnectionError:
            pass
    assert b"HTTP/1" not in answer
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname, old.verify_mode = False, ssl.CERT_NONE
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(("127.0.0.1", secure.port), timeout=LONG) as sock, pytest.raises(OSError):
        old.wrap_socket(sock)


def test_a_login_over_tls_has_a_cookie_for_tls_alone(secure: Triage) -> None:
    origin = f"https://127.0.0.1:{secure.port}"
    answer = secure.call("POST", "/login", None, {"token": secure.token}, Origin=origin)
    assert answer.status == 204 and "Secure" in answer.headers["Set-Cookie"]
    cookie = answer.headers["Set-Cookie"].partition(";")[0]
    assert secure.call("POST", "/api/v1/config/check", None, {}, Cookie=cookie, Origin=origin).status == 200
    plain = f"http://127.0.0.1:{secure.port}"
    assert secure.call("POST", "/api/v1/config/check", None, {}, Cookie=cookie, Origin=plain).kind == "foreign-origin"


def test_the_command_goes_over_it(secure: Triage) -> None:
    url = f"https://127.0.0.1:{secure.port}"
    env = environment("", TRIAGE_URL=url, TRIAGE_TOKEN=secure.token, SSL_CERT_FILE=str(secure.folder / "ca.pem"))
    done = triage("status", "--json", cwd=secure.folder, env=env)
    assert done.returncode == 0 and '"verdict"' in done.stdout, done
    strange = triage("status", cwd=secure.folder, env={**env, "SSL_CERT_FILE": "/dev/null"})
    assert strange.returncode == 3 and secure.token not in strange.stdout + strange.stderr
    curl = ["curl", "-sS", "--cacert", str(secure.folder / "ca.pem"), "-H", f"Authorization: Bearer {secure.token}"]
    if shutil.which("curl"):
        found = subprocess.run([*curl, url + WHOAMI], capture_output=True, text=True, timeout=LONG, check=False)
        assert found.returncode == 0 and '"role":"admin"' in found.stdout, found


def test_a_renewed_certificate_is_used_and_a_bad_one_is_not(secure: Triage, authority: trustme.CA) -> None:
    assert names(secure) == ["first.example.com"]
    write(secure.folder, authority, "second.example.com")
    until(lambda: names(secure) == ["second.example.com"], "the new certificate is shown")
    (secure.folder / "key.pem").write_text("nothing")

    def told() -> bool:
        found = secure.local("GET", "/api/v1/events?kind=certificate-not-read").value["items"]
        return bool(found) and "the one before is used" in found[0]["words"]

    until(told, "it is told")
    assert names(secure) == ["second.example.com"] and secure.call("GET", WHOAMI, secure.token).status == 200
    write(secure.folder, authority, "third.example.com")
    until(lambda: names(secure) == ["third.example.com"], "it recovers")


def over(sock: socket.socket) -> bool:
    """Whether the other side has closed by now."""
    sock.setblocking(False)
    try:
        return sock.recv(4096) == b""
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def test_handshakes_that_come_to_nothing_are_bounded(secure: Triage) -> None:
    """By number for each address, and by time: others are let in meanwhile."""
    attacker, began = secure.elsewhere(), time.monotonic()
    socks = [socket.create_connection(("127.0.0.1", secure.port), LONG, (attacker, 0)) for _ in range(100)]
    try:
        socks[0].sendall(b"\x16\x03\x01")
        until(lambda: sum(over(one) for one in socks) == len(socks) - tls.MOST_OF_ONE, "those too many are closed")
        assert secure.call("GET", WHOAMI, secure.token).status == 200
        until(lambda: all(over(one) for one in socks), "the others are given up")
        assert time.monotonic() - began < LONG
    finally:
        for sock in socks:
            sock.close()
    assert secure.call("GET", WHOAMI, secure.token, source=attacker).status == 200


def test_it_does_not_listen_beyond_loopback_in_the_clear(tmp_path: Path) -> None:
    text = '[admin]\nlisten = "0.0.0.0:0"\n[apps.web]\naddresses = ["http://127.0.0.1:9"]\n'
    (tmp_path / "config.toml").write_text(text)
    for verb in ("check", "serve"):
        done = triage(verb, "-c", "config.toml", cwd=tmp_path)
        assert done.returncode == 1, done
        said = done.stdout + done.stderr
        assert "config.toml:2: admin.listen: " in said and "admin.insecure" in said
    (tmp_path / "config.toml").write_text(text.replace("[apps", "insecure = true\n[apps"))
    done = triage("check", "-c", "config.toml", cwd=tmp_path)
    assert done.returncode == 0 and "open to the network without TLS" in done.stdout + done.stderr
