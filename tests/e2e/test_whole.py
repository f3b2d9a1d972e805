"""A gateway started from the whole config block of the tests: every key at once, on free ports of this machine."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests.e2e.client import ask
from tests.e2e.support import MARKER, ROOT, SHOP, Triage, serve, triage, until

pytestmark = pytest.mark.slow

WEB = {"Host": "example.com"}


def adapted(refusing: int) -> str:
    """The block with addresses, programs and user of this machine; every other line is as it stands."""
    user = "root" if os.geteuid() == 0 else ""
    changes = [
        ('listen = ["127.0.0.1:8080"]', 'listen = ["127.0.0.1:0", "https://127.0.0.1:0"]'),
        ('listen = "127.0.0.1:9900"', 'listen = "127.0.0.1:0"'),
        ("console = false ", "console = true "),
        ("uvicorn app:app --port {port}", f"{sys.executable} {SHOP} --port {{port}}"),
        ('"LANG", "TZ"]', f'"LANG", "TZ", "{MARKER}"]'),
        ('user = "root"', f'user = "{user}"' if user else "#"),
        ("http://10.0.0.5:8000", f"http://127.0.0.1:{refusing}"),
        ("http://10.0.0.6:8000", f"https://127.0.0.1:{refusing}"),
    ]
    text = (ROOT / "tests" / "config" / "whole.toml").read_text()
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@pytest.fixture
def refusing() -> Iterator[int]:
    """A port that is taken and where nobody listens: it refuses."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield int(taken.getsockname()[1])


@pytest.fixture
def whole(folder: Path, refusing: int) -> Iterator[Triage]:
    authority = trustme.CA()
    issued = authority.issue_cert("example.com")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    (folder / "errors").mkdir()
    (folder / "errors" / "502.html").write_text("<h1>a page of our own</h1>\n")
    running = serve(folder, adapted(refusing), GIT_SHA="a1b2c3")
    try:
        yield running.await_ready()
    finally:
        running.end()


def test_the_whole_block_serves(whole: Triage) -> None:
    plain, secure = (int(url.rpartition(":")[2]) for url in whole.api("status")["gateway"]["listen"])
    until(lambda: len(whole.ready("web")) == 2, "both instances")
    answer = ask(plain, "/products", fields=WEB)
    assert answer.status == 200, answer
    assert answer.fields["set-cookie"].startswith("triage=")  # sticky
    assert ask(plain, "/products").status == 404  # hosts
    assert ask(plain, "/products", fields={"Host": "shop.example.com"}).status == 200
    assert {instance["version"] for instance in whole.instances("web")} == {"a1b2c3"}

    given = ask(plain, "/given", fields={"Accept": "text/html"})
    assert (given.status, given.body) == (502, "<h1>a page of our own</h1>\n")
    assert whole.instances("given")[1]["id"] == "b"

    context = ssl.create_default_context(cafile=str(whole.folder / "ca.pem"))
    with (
        socket.create_connection(("127.0.0.1", secure)) as connection,
        context.wrap_socket(connection, server_hostname="example.com") as client,
    ):
        client.sendall(b"GET /products HTTP/1.1\r\nHost: example.com\r\nConnection: close\r\n\r\n")
        assert client.recv(16).startswith(b"HTTP/1.1 200 ")


def test_what_may_surprise_is_said(whole: Triage) -> None:
    """Each key of the file does something, and one that opens a door says so."""
    checked = triage("check", "-c", str(whole.folder / "config.toml"), cwd=whole.folder, env=whole.env)
    said = checked.stdout + checked.stderr
    assert checked.returncode == 0, said
    assert "admin.console: true, so whoever has a token of the role admin has a shell" in said
