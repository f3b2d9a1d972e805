"""Folders out as zips, and zips in: what is left out and said, and zips that were made to do harm."""

from __future__ import annotations

import io
import os
import shutil
import stat
import struct
import threading
import zipfile
from pathlib import Path

import pytest

from tests.console.support import Answer, Triage, exchange, until

pytestmark = pytest.mark.slow


def made(*entries: tuple[str | zipfile.ZipInfo, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in entries:
            file.writestr(name, content)
    return out.getvalue()


def unpack(triage: Triage, data: bytes, folder: str = "site/zip/") -> Answer:
    return triage.call("PUT", f"/api/v1/zip/{folder}", data, Content_Type="application/zip")


@pytest.fixture(scope="module", autouse=True)
def folder(triage: Triage) -> Path:
    """What is unpacked into."""
    path = triage.site / "zip"
    path.mkdir()
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """All files below it."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_there_and_back(triage: Triage) -> None:
    source = triage.site / "source"
    (source / "deep" / "er").mkdir(parents=True)
    (source / "a.txt").write_bytes(b"x" * 1_000_000)
    (source / "deep" / "er" / "run.sh").write_text("#!/bin/sh\n")
    (source / "deep" / "er" / "run.sh").chmod(0o755)
    (source / "deep" / "empty").mkdir()
    (source / "old").write_text("1970")
    os.utime(source / "old", (0, 0))
    (source / "link").symlink_to("/etc/passwd")
    os.mkfifo(source / "pipe")
    with open(os.fsencode(source) + b"/caf\xe9", "wb") as file:
        file.write(b"latin")
    answer = triage.call("GET", "/api/v1/zip/site/source/")
    assert answer.status == 200
    assert answer.headers["content-disposition"].startswith('attachment; filename="source.zip"')
    with zipfile.ZipFile(io.BytesIO(answer.body)) as file:
        assert file.testzip() is None
        names = set(file.namelist())
        left_out = file.read("source/triage-left-out.txt").decode()
    assert {"source/a.txt", "source/deep/er/run.sh", "source/deep/empty/", "source/old", "source/caf\\xe9"} <= names
    assert "link: a link" in left_out and "pipe: a device, a pipe" in left_out
    assert b"root:" not in answer.body
    back = unpack(triage, answer.body)
    assert back.status == 200 and (triage.site / "zip" / "source" / "caf" / "xe9").read_bytes() == b"latin"
    shutil.rmtree(triage.site / "zip" / "source")
    (source / "link").unlink()
    (source / "pipe").unlink()
    os.unlink(os.fsencode(source) + b"/caf\xe9")
    answer = triage.call("GET", "/api/v1/zip/site/source")
    back = unpack(triage, answer.body)
    assert (back.status, back.json["files"], back.json["replaced"]) == (200, 3, 0)
    assert tree(triage.site / "zip" / "source") == tree(source)
    assert stat.S_IMODE((triage.site / "zip" / "source" / "deep" / "er" / "run.sh").stat().st_mode) == 0o755
    head = triage.call("HEAD", "/api/v1/zip/site/source/")
    assert (head.status, head.body) == (200, b"")


def test_over_what_is_there(triage: Triage, folder: Path) -> None:
    (folder / "over").mkdir()
    (folder / "over" / "kept").write_text("kept")
    (folder / "over" / "mine").write_text("old")
    (folder / "over" / "mine").chmod(0o600)
    if os.geteuid() == 0:
        os.chown(folder / "over" / "mine", 4711, 4711)
    answer = unpack(triage, made(("over/mine", "new"), ("over/fresh/x", "1"), ("over/", "")))
    assert answer.status == 200, answer.body
    assert (answer.json["files"], answer.json["replaced"], answer.json["folders"]) == (2, 1, 1)
    assert tree(folder / "over") == {"kept": b"kept", "mine": b"new", "fresh/x": b"1"}
    found = (folder / "over" / "mine").stat()
    assert stat.S_IMODE(found.st_mode) == 0o600
    assert os.geteuid() or found.st_uid == 4711


def link(name: str, kind: int = stat.S_IFLNK) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


def renamed(data: bytes, name: bytes, other: bytes) -> bytes:
    """A name in it as no tool would write it."""
    assert len(name) == len(other) and data.count(name) == 2
    return data.replace(name, other)


def encrypted() -> bytes:
    data = bytearray(made(("a", "b")))
    data[6] |= 1
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


def lying(size: int) -> bytes:
    """It says another size than its content has."""
    data = bytearray(made(("a", b"x" * 5000)))
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, size)
    return bytes(data)


def endless_list() -> bytes:
    """Its end says that its list is almost 4 GB long."""
    return b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFF0, 0, 0)


def overlapping() -> bytes:
    """Entries that share one content, as the smallest zip bombs have them."""
    data = made(("a", b"\0" * 3_000_000))
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    row = data[at:end]
    rows = b"".join(row[:46] + bytes([97 + number]) + row[47:] for number in range(20))
    return data[:at] + rows + b"PK\x05\x06" + struct.pack("<4H2LH", 0, 0, 20, 20, len(rows), at, 0)


HARMFUL = {
    "up": (made(("../evil", "x")), 422), "up inside": (made(("a/../../evil", "x")), 422),
    "absolute": (made(("/tmp/evil-from-zip", "x")), 422), "drive": (made(("C:\\evil", "x")), 422),
    "backslashes": (made(("..\\..\\evil", "x")), 422), "dots": (made(("a/../b", "x")), 422),
    "empty step": (made(("a//b", "x")), 422), "nul": (renamed(made(("evilX", "x")), b"evilX", b"evil\0"), 422),
    "escape": (renamed(made(("evilX", "x")), b"evilX", b"\x1b[31m"), 422), "long": (made(("a" * 300, "x")), 422),
    "deep": (made(("a/" * 40 + "b", "x")), 422), "link": (made((link("l"), "/etc/passwd")), 422),
    "through a link": (made((link("l"), "/tmp"), ("l/evil", "x")), 422),
    "device": (made((link("d", stat.S_IFCHR), "")), 422), "pipe": (made((link("d", stat.S_IFIFO), "")), 422),
    "twice": (b"", 422), "file and folder": (made(("a", "x"), ("a/b", "x")), 422),
    "encrypted": (encrypted(), 422), "smaller": (lying(10), 422), "larger": (lying(6000), 422),
    "bzip2": (made(("a", b"\0" * 1000), method=zipfile.ZIP_BZIP2), 422),
    "lzma": (made(("a", b"\0" * 1000), method=zipfile.ZIP_LZMA), 422), "no zip": (b"hello", 422), "nothing": (b"", 422),
    "cut": (made(("a", b"x" * 5000))[:-10], 422), "endless list": (endless_list(), 422),
    "large": (made(("a", b"\0" * 9_000_000)), 413), "overlapping": (overlapping(), 413),
    "many": (made(*((f"{number}", b"") for number in range(20_001)), method=zipfile.ZIP_STORED), 413),
}  # fmt: skip


def twice() -> bytes:
    with pytest.warns(UserWarning, match="Duplicate"):
        return made(("a", "x"), ("a", "y"))


@pytest.mark.parametrize("what", HARMFUL)
def test_harmful_ones_change_nothing(triage: Triage, folder: Path, what: str) -> None:
    data, status = HARMFUL[what]
    before, outside = tree(folder), sorted(os.listdir(triage.folder))
    answer = unpack(triage, twice() if what == "twice" else data)
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json" and answer.json["detail"]
    assert tree(folder) == before
    assert not [name for name in os.listdir(folder) if name.startswith(".triage")]
    assert sorted(os.listdir(triage.folder)) == outside and not Path("/tmp/evil-from-zip").exists()


def test_nothing_is_unpacked_through_a_link_or_over_other_things(triage: Triage, folder: Path) -> None:
    (folder / "out").symlink_to(triage.folder)
    (folder / "is-link").symlink_to(triage.folder / "target")
    (folder / "is-folder").mkdir()
    os.mkfifo(folder / "is-pipe")
    os.link(triage.data / "admin.token", folder / "hard")
    (folder / "plain").write_text("plain")
    before = tree(folder)
    try:
        for name in ("out/evil", "is-link", "is-folder", "is-pipe", "is-link/", "plain/x", "plain/", "hard"):
            answer = unpack(triage, made(("first", "1"), (name, "" if name[-1] == "/" else "x")))
            assert answer.status == (403 if name == "hard" else 409), (name, answer.body)
            assert tree(folder) == before
        answer = unpack(triage, made(("var/admin.token", "mine now")), "all/")
        assert (answer.status, answer.kind) == (403, "closed")
        assert triage.token != "mine now" and not (triage.folder / "evil").exists()
    finally:
        for name in ("out", "is-link", "is-pipe", "hard"):
            (folder / name).unlink()


def test_a_link_set_while_it_is_unpacked(triage: Triage, folder: Path) -> None:
    """A folder that becomes a link again and again: no file of any zip ever gets to the other side."""
    elsewhere = triage.folder / "other-side"
    elsewhere.mkdir()
    inner, way = folder / "inner", folder / "inner.link"
    inner.mkdir()
    way.symlink_to(elsewhere)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            exchange(inner, way)
            exchange(inner, way)

    swapping = threading.Thread(target=swap)
    data = made(*((f"inner/{number}", "x") for number in range(300)))
    swapping.start()
    try:
        found = {unpack(triage, data).status for _ in range(2)}
    finally:
        stop.set()
        swapping.join()
    assert found <= {200, 409}
    assert os.listdir(elsewhere) == []


def test_who_leaves_while_it_is_unpacked_leaves_nothing(triage: Triage, folder: Path) -> None:
    data = made(*((f"leaving/{number}", os.urandom(2000)) for number in range(2000)))
    with triage.socket() as sock:
        sock.sendall(
            f"PUT /api/v1/zip/site/zip/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(data)}\r\n\r\n".encode()
            + data[: len(data) // 2]
        )
    until(lambda: not any(name.startswith(".triage") for name in os.listdir(folder)), "nothing is left")
    assert not (folder / "leaving").exists()
