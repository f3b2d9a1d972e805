"""Who may ask, and who may not."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import stat
from pathlib import Path

import pytest

from proxy.admin.guard import TOKEN_FILE, token

STATUS = "/api/v1/status"


async def test_without_a_token_nothing_but_health_is_told(api) -> None:
    for path in (STATUS, "/api/v1/config", "/metrics", "/api/v1/requests", "/api/v1/openapi.json", "/nothing"):
        status, problem = await api.over_tcp(path)
        assert status == 401, path
        assert problem["type"] == "urn:triage:no-token" and "admin.token" in problem["hint"]
    for path in ("/healthz", "/readyz"):
        assert (await api.over_tcp(path))[0] == 200


async def test_a_wrong_token_is_refused(api) -> None:
    for wrong in ("x", "", api.triage.token[:-1], api.triage.token + "x", "ü"):
        assert (await api.over_tcp(STATUS, token=wrong))[0] == 401
    status, _ = await api.over_tcp(STATUS, Authorization=f"Basic {api.triage.token}")
    assert status == 401


async def test_the_token_opens(api) -> None:
    status, answer = await api.over_tcp(STATUS, token=api.triage.token)
    assert status == 200 and answer["gateway"]["version"]
    status, text = await api.over_tcp("/metrics", token=api.triage.token)
    assert status == 200 and "triage_build_info" in text


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "localhost.evil.com", "[", "10.0.0.1"]
)
async def test_a_foreign_host_is_refused_even_with_the_token(api, host: str) -> None:
    for path in (STATUS, "/healthz"):
        status, problem = await api.over_tcp(path, token=api.triage.token, Host=host)
        assert status == 403 and problem["type"] == "urn:triage:foreign-host", host


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:9900", "[::1]:9900", "x.localhost", "ops.example.com"])
async def test_our_own_names_are_taken(api, host: str) -> None:
    assert (await api.over_tcp(STATUS, token=api.triage.token, Host=host))[0] == 200


async def test_a_foreign_origin_is_refused(api) -> None:
    token = api.triage.token
    for origin in ("https://evil.example.com", "null", "http://127.0.0.1:1", "http://localhost"):
        status, problem = await api.over_tcp(STATUS, token=token, Origin=origin)
        assert status == 403 and problem["type"] == "urn:triage:foreign-origin", origin
    assert (await api.over_tcp(STATUS, token=token, Origin=api.triage.admin))[0] == 200
    assert (await api.over_tcp(STATUS, token=token, Origin="https://ops.example.com"))[0] == 200
    cross = await api.over_tcp(STATUS, token=token, **{"Sec-Fetch-Site": "cross-site"})
    assert cross[0] == 403


async def test_the_unix_socket_needs_no_token_for_its_owner(api) -> None:
    assert (await api.get("status"))["apps"]
    mode = stat.S_IMODE(os.stat(api.triage.socket).st_mode)
    assert mode & 0o007 == 0


async def test_content_that_a_foreign_form_could_send_is_refused(api) -> None:
    url = f"{api.triage.admin}/api/v1/config/check"
    headers = {"Authorization": f"Bearer {api.triage.token}"}
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        async with api.tcp.post(url, data=b"{}", headers={**headers, "Content-Type": kind}) as answer:
            assert answer.status == 415, kind


async def test_too_much_content_is_refused(api) -> None:
    data = io.BytesIO(b'{"text": "' + b"#" * (1 << 20) + b'"}')
    headers = {"Content-Type": "application/json"}
    async with api.unix.post("http://localhost/api/v1/config/check", data=data, headers=headers) as answer:
        problem = await answer.json(content_type="application/problem+json")
        assert answer.status == 413 and problem["type"] == "urn:triage:too-large"


async def test_answers_are_not_kept_and_not_framed(api) -> None:
    async with api.unix.get("http://localhost/api/v1/status") as answer:
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


async def test_the_token_file_is_for_its_owner_alone(api) -> None:
    path = api.triage.data / TOKEN_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(api.triage.token) >= 32


async def test_clients_never_reach_the_apps_by_the_admin_address(api) -> None:
    for _ in range(20):  # each on a new connection: workers must not accept there
        host, _, port = api.triage.admin.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=30) as sock:
            sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            data = b""
            while part := sock.recv(65536):
                data += part
        assert b'{"status":"ok"}' in data


def test_a_token_is_made_once(tmp_path: Path) -> None:
    first = token(tmp_path)
    assert token(tmp_path) == first
    os.chmod(tmp_path / TOKEN_FILE, 0o644)
    assert token(tmp_path) == first
    assert stat.S_IMODE((tmp_path / TOKEN_FILE).stat().st_mode) == 0o600  # put right
    (tmp_path / TOKEN_FILE).write_text("")
    assert token(tmp_path) not in ("", first)
    assert [path.name for path in tmp_path.iterdir()] == [TOKEN_FILE]


def test_a_token_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("known-to-others")
    os.symlink(tmp_path / "elsewhere", tmp_path / TOKEN_FILE)
    with pytest.raises(OSError):
        token(tmp_path)


async def raw(api, *lines: bytes) -> bytes:
    """The status line of a call over TCP that no client would make."""
    host, port = api.triage.admin.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    call = [b"GET /healthz HTTP/1.1", f"Host: {host}:{port}".encode(), b"Connection: close", *lines, b"", b""]
    writer.write(b"\r\n".join(call))
    answer = await reader.read()
    writer.close()
    return answer


async def test_bytes_that_are_no_text_are_refused_as_what_they_are(api) -> None:
    """Without a token nobody makes Triage fail, nor fills its log with tracebacks."""
    for lines in (
        (b"Authorization: Bearer \xff",),
        (b"Origin: http://[",),
        (b"Origin: http://\xff",),
        (b"Sec-Fetch-Site: \xff",),
    ):
        answer = await raw(api, *lines)
        assert answer.split(b" ")[1] in (b"200", b"401", b"403"), (lines, answer)
    status = await raw(api, b"Authorization: Bearer \xff")
    assert status.split(b" ")[1] == b"200"  # /healthz is open all the same
    assert "UnicodeEncodeError" not in api.triage.said() and "Invalid IPv6 URL" not in api.triage.said()
    text = b"GET /api/v1/status HTTP/1.1"
    host, port = api.triage.admin.removeprefix("http://").rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        text + f"\r\nHost: {host}:{port}\r\nConnection: close\r\n".encode() + b"Authorization: Bearer \xff\r\n\r\n"
    )
    assert (await reader.read()).split(b" ")[1] == b"401"
    writer.close()


async def test_checking_a_text_tells_no_secret_of_the_environment(api) -> None:
    """What /environment masks is not to be had by naming it in a config that is only checked."""
    text = '[apps.web]\nhosts = ["no host: ${SOME_API_TOKEN}"]\naddresses = ["http://127.0.0.1:1"]\n'
    status, answer = await api.call("POST", "config/check", body={"text": text})
    assert status == 200 and any("hosts[0]" in problem for problem in answer["problems"])
    assert "geheim" not in str(answer)
    file = api.triage.folder / "other.toml"
    file.write_text(text)
    status, answer = await api.call("POST", "config/check", body={"path": str(file)})
    assert status == 200 and answer["problems"] and "geheim" not in str(answer)


async def test_only_a_plain_file_of_some_size_is_read_to_be_checked(api) -> None:
    fifo = api.triage.folder / "fifo"
    if not fifo.exists():
        os.mkfifo(fifo)
    large = api.triage.folder / "large.toml"
    with large.open("wb") as file:
        file.truncate(1 << 30)
    for path in ("/dev/zero", str(fifo), str(large), "/dev/stdin", "/nowhere", "\0"):
        status, answer = await api.call("POST", "config/check", body={"path": path})
        assert status == 200 and answer["ok"] is False and len(answer["problems"]) == 1, (path, answer)
    assert (await api.call("GET", "/healthz"))[0] == 200


async def test_a_limit_with_leading_zeros_is_a_limit(api) -> None:
    status, _ = await api.call("GET", "requests", limit="000000001999999")
    assert status == 400
    assert (await api.call("GET", "requests", limit="0007"))[0] == 200
