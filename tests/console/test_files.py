"""Files and folders: what is served, what is not by any way of writing it, and who may replace what."""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.console.support import LONG, Triage, answer_of, exchange, until

pytestmark = pytest.mark.slow

SECRET = "nothing of this may come out"


@pytest.fixture(scope="module")
def outside(triage: Triage) -> str:
    """A file beside the root `site`, and ways to it."""
    path = triage.folder / "outside.txt"
    path.write_text(SECRET)
    (triage.site / "to-file").symlink_to(path)
    (triage.site / "to-folder").symlink_to(triage.folder)
    (triage.site / "to-passwd").symlink_to("/etc/passwd")
    (triage.site / "folder").mkdir()
    (triage.site / "folder" / "up").symlink_to("../..")
    return str(path)


@pytest.mark.parametrize(
    "path",
    [
        "site/../outside.txt", "site/%2e%2e/outside.txt", "site/%2E%2E%2Foutside.txt", "site/..%2foutside.txt",
        "site/.%2e/outside.txt", "site/folder/../../outside.txt", "site/./../outside.txt", "site//outside.txt",
        "site/%2fetc/passwd", "site//etc/passwd", "site/%00", "site/a%00.txt", "site/..%5coutside.txt",
        "site/..\\outside.txt", "site/to-file", "site/to-folder/outside.txt", "site/to-folder/", "site/to-passwd",
        "site/folder/up/outside.txt", "../site/outside.txt", "%2e%2e/outside.txt", "..%2f..%2fetc/passwd",
        "site/%252e%252e/outside.txt", "site/%c0%ae%c0%ae/outside.txt", "site/...//outside.txt",
        "nowhere/outside.txt", "site/" + "a/" * 200 + "x", "site/" + "a" * 300, "site/to-file/", "site/to-folder",
    ],
)  # fmt: skip
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_no_path_leads_out(triage: Triage, outside: str, method: str, path: str) -> None:
    if (method, path) == ("DELETE", "site/to-file") or (method, path.rstrip("/")[:12]) == ("DELETE", "site/to-pass"):
        pytest.skip("the link itself may be removed")
    answer = triage.vfs(method, path, b"taken over" if method == "PUT" and path[-1] != "/" else b"")
    assert 400 <= answer.status < 500, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert SECRET.encode() not in answer.body and b"root:" not in answer.body
    with open(outside) as file:
        assert file.read() == SECRET


def test_neither_do_zip_and_command(triage: Triage, outside: str) -> None:
    for path in ("site/..", "site/%2e%2e/", "site/to-folder/", "all/var", "all/var/", "site/folder/up/"):
        assert 400 <= triage.call("GET", f"/api/v1/zip/{path}").status < 500, path
        assert 400 <= triage.call("PUT", f"/api/v1/zip/{path}", b"PK").status < 500, path
    for folder in ("..", "to-folder", "folder/../..", "folder/up", "nope"):
        answer = triage.call(
            "POST", "/api/v1/command", f'{{"command": "ls", "root": "site", "dir": "{folder}"}}'.encode(),
            Content_Type="application/json",
        )  # fmt: skip
        assert 400 <= answer.status < 500, (folder, answer)


def test_tokens_are_never_served(triage: Triage) -> None:
    token = triage.token.encode()
    os.link(triage.data / "admin.token", triage.site / "harmless.txt")
    try:
        for path in (
            "all/var/admin.token", "all/var/", "all/var/logins.json", "all/var/run/", "all/var/logs/",
            "site/harmless.txt",
        ):  # fmt: skip
            for method in ("GET", "HEAD", "PUT", "DELETE"):
                answer = triage.vfs(method, path, If_Match="*")
                assert answer.status == 403, (method, path, answer)
                assert token not in answer.body
        assert triage.vfs("DELETE", "all/var/?recursive=true").status == 403
        for path in ("site/", "all/"):
            listed = triage.vfs("GET", path).json["items"]
            assert not {"var", "harmless.txt"} & {one["name"] for one in listed}
            packed = triage.call("GET", f"/api/v1/zip/{path}")
            assert packed.status == 200 and b"admin.token" not in packed.body
        assert (triage.data / "admin.token").read_bytes().strip() == token
    finally:
        (triage.site / "harmless.txt").unlink()


def test_a_folder_swapped_for_a_link_while_it_is_used(triage: Triage, outside: str) -> None:
    """A thread swaps folder and link as fast as it can; none of many reads may ever see the other side."""
    inner, link = triage.site / "swap", triage.site / "swap.link"
    inner.mkdir()
    (inner / "outside.txt").write_text("inside")
    link.symlink_to(triage.folder)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(inner, link)
            exchange(inner, link)

    swapping = threading.Thread(target=swap)
    swapping.start()
    seen: set[bytes] = set()

    def look() -> bool:
        with triage.socket() as sock:
            one = b"GET /api/v1/vfs/site/swap/outside.txt HTTP/1.1\r\nHost: localhost\r\n\r\n"
            sock.sendall(one * 100 + one.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
            data = b""
            while piece := sock.recv(1 << 16):
                data += piece
        assert SECRET.encode() not in data
        seen.update(line.split()[1] for line in data.split(b"\r\n") if line.startswith(b"HTTP/1.1 "))
        return {b"200", b"409"} <= seen

    try:
        until(look, "both sides of the swap were met")
    finally:
        stop.set()
        swapping.join()
        link.unlink()
    assert seen <= {b"200", b"404", b"409", b"429"}


def test_only_plain_files_are_opened(triage: Triage) -> None:
    """A pipe nobody writes to would wait for ever; a device may do something when it is opened."""
    os.mkfifo(triage.site / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(triage.site / "sock"))
    names = ["pipe", "sock"]
    if os.geteuid() == 0:
        os.mknod(triage.site / "zero", stat.S_IFCHR | 0o666, os.makedev(1, 5))
        names.append("zero")
    for name in names:
        for method, body in (("GET", b""), ("PUT", b"x")):
            answer = triage.vfs(method, f"site/{name}", body, If_Match="*")
            assert (answer.status, answer.kind) == (409, "not-plain"), (name, method)
    kinds = {one["name"]: one["kind"] for one in triage.vfs("GET", "site/").json["items"]}
    assert all(kinds[name] == "other" for name in names)
    for name in names:
        (triage.site / name).unlink()


def test_ranges(triage: Triage) -> None:
    data = bytes(range(256)) * 4096  # more than one piece
    (triage.site / "range.bin").write_bytes(data)
    size = len(data)
    for text, first, end in (
        ("bytes=0-0", 0, 1), ("bytes=5-9", 5, 10), ("bytes=-3", size - 3, size), (f"bytes={size - 1}-", size - 1, size),
        ("bytes=262140-262150", 262140, 262151), (f"bytes=7-{size * 2}", 7, size), (f"bytes=-{size * 2}", 0, size),
    ):  # fmt: skip
        answer = triage.vfs("GET", "site/range.bin", Range=text)
        assert (answer.status, answer.body) == (206, data[first:end]), text
        assert answer.headers["content-range"] == f"bytes {first}-{end - 1}/{size}"
    for text in (f"bytes={size}-", "bytes=-0", f"bytes={size + 5}-{size + 9}"):
        answer = triage.vfs("GET", "site/range.bin", Range=text)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}"), text
    for text in ("bytes=9-5", "a-b", "bytes=0-1,4-5", "lines=0-1", "bytes=", "bytes=-", f"bytes={'9' * 400}-"):
        answer = triage.vfs("GET", "site/range.bin", Range=text)
        assert answer.status == 200 and answer.body == data, text
    tag = answer.headers["etag"]
    assert triage.vfs("GET", "site/range.bin", Range="bytes=0-0", If_Range=tag).status == 206
    assert triage.vfs("GET", "site/range.bin", Range="bytes=0-0", If_Range='"old"').status == 200
    assert triage.vfs("GET", "site/range.bin", If_None_Match=f'"old", W/{tag}').status == 304
    head = triage.vfs("HEAD", "site/range.bin")
    assert (head.status, head.headers["content-length"], head.body) == (200, str(size), b"")
    (triage.site / "empty").write_bytes(b"")
    assert triage.vfs("GET", "site/empty", Range="bytes=0-").status == 416


def test_a_file_is_replaced_only_by_who_knows_it(triage: Triage) -> None:
    made = triage.vfs("PUT", "site/doc.txt", b"one")
    assert (made.status, made.json["size"], made.json["etag"]) == (201, 3, made.headers["etag"])
    os.chmod(triage.site / "doc.txt", 0o640)
    os.chown(triage.site / "doc.txt", 4711 if os.geteuid() == 0 else -1, -1)
    stale = made.headers["etag"]
    tag = triage.vfs("HEAD", "site/doc.txt").headers["etag"]
    assert tag != stale
    for headers, kind in (
        ({}, "which-one"), ({"If_Match": stale}, "changed"), ({"If_Match": f"W/{tag}"}, "changed"),
        ({"If_Match": tag, "If_None_Match": "*"}, "there-already"), ({"If_Match": tag.strip('"')}, "changed"),
    ):  # fmt: skip
        for method in ("PUT", "DELETE"):
            answer = triage.vfs(method, "site/doc.txt", b"two" if method == "PUT" else b"", **headers)
            assert (answer.status, answer.kind) == (412, kind), (method, headers)
    assert triage.vfs("PUT", "site/doc.txt", b"two", If_Match=tag).status == 200
    found = os.stat(triage.site / "doc.txt")
    assert stat.S_IMODE(found.st_mode) == 0o640 and found.st_uid == (4711 if os.geteuid() == 0 else os.geteuid())
    assert triage.vfs("PUT", "site/new.txt", b"x", If_Match="*").status == 412
    assert triage.vfs("DELETE", "site/doc.txt", If_Match="*").status == 204
    assert triage.vfs("DELETE", "site/doc.txt", If_Match="*").status == 404
    assert triage.vfs("DELETE", "site/doc.txt").status == 404


def test_of_many_who_know_it_one_wins(triage: Triage) -> None:
    tag = triage.vfs("PUT", "site/race.txt", b"start").headers["etag"]
    found: list[int] = []
    bodies = [f"writer {number}".encode() * 5000 for number in range(8)]

    def write(body: bytes) -> None:
        found.append(triage.vfs("PUT", "site/race.txt", body, If_Match=tag).status)

    threads = [threading.Thread(target=write, args=(body,)) for body in bodies]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(found) == [200] + [412] * 7
    assert (triage.site / "race.txt").read_bytes() in bodies
    found.clear()
    threads = [
        threading.Thread(target=lambda body=body: found.append(triage.vfs("PUT", "site/fresh.txt", body).status))
        for body in bodies
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert sorted(found) == [201] + [412] * 7


def test_uploads_are_bounded_and_leave_nothing(triage: Triage) -> None:
    before = sorted(os.listdir(triage.site))
    answer = triage.vfs("PUT", "site/large", b"", Content_Length=str(9_000_000))
    assert (answer.status, answer.kind) == (413, "too-large")
    head = "PUT /api/v1/vfs/site/large HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    answer = triage.raw(head.encode() + b"Connection: close\r\n\r\n" + (b"100000\r\n" + b"x" * 0x100000 + b"\r\n") * 12)
    assert (answer.status, answer.kind) == (413, "too-large")
    for header, status in (
        ({"Content_Encoding": "gzip"}, 415), ({"Content_Range": "bytes 0-1/2"}, 400), ({"Expect": "miracles"}, 417),
    ):  # fmt: skip
        assert triage.vfs("PUT", "site/large", b"xy", **header).status == status
    with triage.socket() as sock:  # its client leaves in the middle
        sock.sendall(head.encode() + b"\r\n100000\r\n" + b"x" * 0x100000 + b"\r\n")
    answer = triage.raw(head.encode() + b"Connection: close\r\n\r\n5\r\nhello\r\nnot a size\r\n")
    assert answer.status == 400
    until(lambda: sorted(os.listdir(triage.site)) == before, "nothing of them is left")
    control = f"/proc/{triage.control}/fd"
    until(lambda: not any("site" in os.readlink(f"{control}/{fd}") for fd in _fds(control)), "nothing stays open")
    assert triage.vfs("PUT", "site/large", b"x" * 8_000_000).status == 201
    assert triage.vfs("GET", "site/large").body == b"x" * 8_000_000


def _fds(folder: str) -> list[str]:
    return [fd for fd in os.listdir(folder) if os.path.lexists(f"{folder}/{fd}")]


def test_names_are_what_they_are_and_act_on_nothing(triage: Triage) -> None:
    odd = [b"caf\xe9", b"new\nline", b'quo"te;x=1', b"\xff\xfe", "üñí".encode(), b"a b%20c", b"\x1b[31mred", b"<b>&#"]
    folder = triage.site / "odd"
    folder.mkdir()
    for name in odd:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(name)
    items = triage.vfs("GET", "site/odd/").json["items"]
    assert len(items) == len(odd)
    for item in items:
        assert item["name"].isprintable()
        path = item["href"].removeprefix("/api/v1/vfs/")
        answer = triage.vfs("GET", path)
        assert answer.status == 200 and answer.body in odd
        assert quote(answer.body, safe="") == item["id"]
        field = answer.headers["content-disposition"]
        assert field.startswith('attachment; filename="') and field.count('"') == 2
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; sandbox")
        assert triage.vfs("DELETE", path, If_Match=answer.headers["etag"]).status == 204
    for name in ("new%0aline", "%1b%5b31m", "back%5cslash", "%7f"):
        assert triage.vfs("PUT", f"site/odd/{name}", b"x").status == 400
        assert triage.vfs("PUT", f"site/odd/{name}/").status == 400
    (folder / "page.html").write_text("<script>alert(1)</script>")
    assert triage.vfs("GET", "site/odd/page.html").headers["content-type"].startswith("text/plain")
    assert triage.vfs("GET", "site/odd/%0d%0aSet-Cookie:x").status == 404


def test_large_folders_come_in_pages(triage: Triage) -> None:
    folder = triage.site / "many"
    folder.mkdir()
    names = sorted(f"file {number:04}" for number in range(2500))
    for name in names:
        (folder / name).touch()
    found, cursor = [], ""
    while True:
        page = triage.vfs("GET", f"site/many/?limit=1000{cursor}").json
        found += [one["name"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={quote(page['next'])}"
    assert found == names
    for query in ("limit=0", "limit=1001", "cursor=..", "cursor=a/b", "cursor=%00", "nope=1"):
        assert triage.vfs("GET", f"site/many/?{query}").status == 400, query
    assert triage.vfs("DELETE", "site/many/").status == 409
    (triage.folder / "elsewhere").mkdir()
    (triage.folder / "elsewhere" / "stays").touch()
    (folder / "link").symlink_to(triage.folder / "elsewhere")
    assert triage.vfs("DELETE", "site/many/?recursive=true").status == 204
    assert not folder.exists() and (triage.folder / "elsewhere" / "stays").exists()


def test_folders(triage: Triage) -> None:
    assert triage.vfs("PUT", "site/made/").status == 201
    assert triage.vfs("PUT", "site/made/").status == 200
    assert triage.vfs("PUT", "site/made/", b"x").status == 400
    assert triage.vfs("PUT", "site/no/deeper/").status == 404
    assert triage.vfs("PUT", "site/no/file.txt", b"x").status == 404
    assert triage.vfs("PUT", "site/made", b"x", If_Match="*").kind == "is-folder"
    assert triage.vfs("DELETE", "site/made", If_Match="*").kind == "is-folder"
    assert triage.vfs("DELETE", "site/").kind == "is-root"
    assert triage.vfs("PUT", "site/").kind == "is-root"
    assert triage.vfs("DELETE", "site/made/").status == 204
    assert triage.vfs("GET", "site/made/").status == 404
    names = {one["name"]: one["writable"] for one in triage.vfs("GET", "").json["items"]}
    assert names == {"all": True, "site": True}


def test_a_reader_that_stops_holds_nothing_up(triage: Triage) -> None:
    """A large file to one who does not read it: others are answered, and the file is not in memory."""
    with open(triage.site / "huge", "wb") as file:
        file.truncate(400_000_000)
    with triage.socket() as sock:
        sock.sendall(b"GET /api/v1/vfs/site/huge HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert sock.recv(100)
        began = time.monotonic()
        assert triage.vfs("GET", "site/").status == 200
        assert time.monotonic() - began < LONG / 4
        used = int(Path(f"/proc/{triage.control}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        assert used < 300_000_000
    answer = triage.vfs("GET", "site/huge", Range="bytes=399999999-")
    assert (answer.status, answer.body) == (206, b"\0")
    (triage.site / "huge").unlink()


def test_what_was_done_is_written_down(triage: Triage) -> None:
    triage.vfs("PUT", "site/noted.txt", b"12345")
    triage.vfs("GET", "site/noted.txt")
    triage.vfs("GET", "site/noted.txt")
    triage.vfs("DELETE", "site/noted.txt", If_Match="*")
    words = [one["words"] for one in triage.noted() if "noted.txt" in one["words"]]
    assert [" ".join(one.split()[-len(rest.split()):]) for one, rest in zip(
        words, ("removed site/noted.txt", "read site/noted.txt, 5 bytes", "wrote site/noted.txt, 5 bytes"), strict=True
    )] == ["removed site/noted.txt", "read site/noted.txt, 5 bytes", "wrote site/noted.txt, 5 bytes"]


def test_without_a_role_or_where_it_is_off(triage: Triage) -> None:
    for method, path in (("GET", "vfs/"), ("GET", "vfs/site/"), ("PUT", "zip/site/"), ("GET", "console")):
        with socket.create_connection(("127.0.0.1", triage.port), LONG) as sock:
            sock.sendall(f"{method} /api/v1/{path} HTTP/1.1\r\nHost: 127.0.0.1:{triage.port}\r\nConnection: close\r\n"
                         "Content-Length: 0\r\n\r\n".encode())  # fmt: skip
            assert answer_of(sock).status == 401
    config = triage.folder / "config.toml"
    text = config.read_text()
    try:
        config.write_text(text.replace("console = true", "console = false"))
        assert triage.call("POST", "/api/v1/config/reload", b"{}", Content_Type="application/json").status == 202
        answer = triage.vfs("GET", "")
        assert (answer.status, answer.kind) == (403, "console-off")
        for method, path in (("GET", "vfs/site/"), ("PUT", "vfs/site/x"), ("GET", "zip/site/"),
                             ("GET", "console"), ("GET", "consoles"), ("DELETE", "consoles/c-1")):  # fmt: skip
            answer = triage.call(method, f"/api/v1/{path}")
            assert (answer.status, answer.kind) == (403, "console-off"), path
            assert "admin.console = true" in answer.json["hint"]
    finally:
        config.write_text(text)
        assert triage.call("POST", "/api/v1/config/reload", b"{}", Content_Type="application/json").status == 202


def test_the_roots_that_are_there_by_themselves(triage: Triage) -> None:
    config = triage.folder / "config.toml"
    text = config.read_text()
    try:
        config.write_text(re.sub(r"roots = .*\n", "", text))
        assert triage.call("POST", "/api/v1/config/reload", b"{}", Content_Type="application/json").status == 202
        found = {one["name"]: (one["folder"], one["writable"]) for one in triage.vfs("GET", "").json["items"]}
        assert found == {
            "web": (str(triage.site), True), "other": ("/", True), "logs": (str(triage.data / "logs"), False),
            "diagnostics": (str(triage.data / "diagnostics"), False),
        }  # fmt: skip
        listed = triage.vfs("GET", "logs/").json
        assert listed["items"] and listed["writable"] is False
        name = next(one["name"] for one in listed["items"] if one["kind"] == "folder")
        for method, path in (("PUT", "logs/x"), ("PUT", "logs/x/"), ("DELETE", f"logs/{name}/?recursive=true")):
            assert triage.vfs(method, path).kind == "read-only"
        assert triage.call("PUT", "/api/v1/zip/logs/", b"PK").kind == "read-only"
        for path in ("logs/../admin.token", f"other{triage.data}/admin.token", f"other{triage.data}/logs/"):
            assert triage.vfs("GET", path).status in (400, 403), path
    finally:
        config.write_text(text)
        assert triage.call("POST", "/api/v1/config/reload", b"{}", Content_Type="application/json").status == 202
