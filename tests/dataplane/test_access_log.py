"""The access log, rotated: by several real workers under load, by others, on a full disk."""

import json
import os
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from proxy.dataplane import rotation
from proxy.dataplane.access_log import AccessLog
from proxy.link import messages
from proxy.link.messages import App, Record, Stats
from tests.dataplane.client import Client, get
from tests.dataplane.conftest import of
from tests.dataplane.harness import WorkerUnderTest, worker
from tests.dataplane.origins import Origin
from tests.dataplane.provoke import until


def record(number: int, at: float = 0.0, **more: object) -> Record:
    return Record(f"{number:016x}", at or time.time(), 0, target="/" + "x" * 80, **more)  # type: ignore[arg-type]


def ids(folder: Path, name: str = "a.log") -> list[str]:
    """Of all lines of all files; each line must be whole."""
    found = []
    for path in folder.glob(f"{name}*"):
        found += [str(json.loads(line)["id"]) for line in path.read_text().splitlines()]
    return found


def in_the_end(folder: Path) -> list[str]:
    """Sorted; [] while a file is renamed or written: it may be read twice then, or in the middle of a line."""
    try:
        return sorted(ids(folder))
    except (ValueError, FileNotFoundError):
        return []


def put(log: AccessLog, *records: Record) -> None:
    log.extend(list(records), msgspec.json.Encoder().encode_lines(records))


def write(log: AccessLog, records: list[Record]) -> None:
    """Through the thread, to the end."""
    for one in records:
        put(log, one)
    log.close()


# --- one writer -------------------------------------------------------------------------------------------------


def test_it_never_grows_beyond_its_size(tmp_path: Path) -> None:
    """The newest old one is PATH.1; at most `files` stay."""
    path = tmp_path / "a.log"
    for number in range(30):
        write(AccessLog(str(path), "json", size=1000, files=3), [record(number * 2), record(number * 2 + 1)])
    names = sorted(each.name for each in tmp_path.iterdir())
    assert names == ["a.log", "a.log.1", "a.log.2", "a.log.3"]
    assert all(each.stat().st_size <= 1000 for each in tmp_path.iterdir())
    order = [json.loads(line)["id"] for name in reversed(names) for line in (tmp_path / name).read_text().splitlines()]
    assert order == [f"{number:016x}" for number in range(60)][-len(order) :] and len(order) > 8


def test_fewer_files_than_before(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    for name in ("a.log", *(f"a.log.{number}" for number in range(1, 9)), "a.log.x", "b.log.9", "a.log.01"):
        (tmp_path / name).write_text(name)
    rotation.rotate(str(path), 2)
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {
        "a.log.1": "a.log", "a.log.2": "a.log.1", "a.log.x": "a.log.x", "b.log.9": "b.log.9", "a.log.01": "a.log.01",
    }  # fmt: skip


@pytest.mark.parametrize("format", ["json", "combined"])
def test_an_old_file_is_rotated_by_its_first_line(tmp_path: Path, format: str) -> None:
    """That outlives a restart, and says the same on every file system."""
    path = tmp_path / "a.log"
    hour = 3600.0
    write(AccessLog(str(path), format, age=hour), [record(1, time.time() - 2 * hour), record(2)])
    assert abs(rotation.first_line_at(str(path)) - (time.time() - 2 * hour)) < 60
    assert not (tmp_path / "a.log.1").exists(), "what is being written is not rotated away from under itself"
    write(AccessLog(str(path), format, age=hour), [record(3)])
    assert len(path.read_text().splitlines()) == 1 and len((tmp_path / "a.log.1").read_text().splitlines()) == 2
    write(AccessLog(str(path), format, age=hour), [record(4)])
    assert len(path.read_text().splitlines()) == 2, "a young one is not"


def test_what_says_no_time_is_not_taken_for_old(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text("something else\n")
    assert rotation.first_line_at(str(path)) == 0.0
    write(AccessLog(str(path), "json", age=60), [record(1)])
    assert not (tmp_path / "a.log.1").exists()


def test_cut_to_nothing_by_others(tmp_path: Path) -> None:
    """logrotate's copytruncate: lines go on at the new end, with no hole before them."""
    path = tmp_path / "a.log"
    log = AccessLog(str(path), "json")
    for number in range(3):
        put(log, record(number))
    log.flush()
    until(lambda: path.exists() and path.stat().st_size)
    os.truncate(path, 0)
    write(log, [record(9)])
    assert ids(tmp_path) == [f"{9:016x}"] and b"\0" not in path.read_bytes()


def test_a_folder_that_cannot_be_written_to_costs_no_line(tmp_path: Path) -> None:
    """A file that can't be rotated grows, and that is said."""
    path = tmp_path / "a.log"
    (tmp_path / "a.log.1").mkdir()
    (tmp_path / "a.log.1" / "full").write_text("")
    (tmp_path / "a.log.2").mkdir()
    (tmp_path / "a.log.2" / "full").write_text("")
    log = AccessLog(str(path), "json", size=300, files=2)
    for number in range(5):
        put(log, record(number))
        log.flush()
    log.close()
    assert len(path.read_text().splitlines()) == 5 and log.lost == 0
    assert "cannot be rotated" in log.error


# --- a full disk ------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    mounted = subprocess.run(mount, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_tears_no_line(small_disk: Path) -> None:
    """What did not fit is counted exactly, and when there is room again all goes on."""
    path = small_disk / "a.log"
    log = AccessLog(str(path), "json", size=0)
    for number in range(2000):
        put(log, record(number))
    log.flush()
    log.close()
    kept = ids(small_disk)
    assert 0 < len(kept) < 2000 and len(kept) + log.lost == 2000, (len(kept), log.lost)
    assert "No space left" in log.error
    full = path.read_bytes()
    again = AccessLog(str(path), "json", size=20_000, files=1)
    write(again, [record(number) for number in range(3000, 3200)])
    assert (small_disk / "a.log.1").read_bytes() == full, "renaming takes no room"
    assert again.lost + path.read_bytes().count(b"\n") == 200
    (small_disk / "a.log.1").unlink()
    last = AccessLog(str(path), "json", size=20_000, files=1)
    write(last, [record(4000)])
    assert last.lost == 0 and last.error == "" and f"{4000:016x}" in ids(small_disk)


# --- real workers -----------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_several_workers_rotate_one_file_under_load(tmp_path: Path) -> None:
    """Every request stands in exactly one line of exactly one file, whoever rotated it."""
    asked: list[list[str]] = [[], [], []]
    with Origin() as origin, worker() as one, worker() as two, worker() as three:
        workers = (one, two, three)
        app = App("web", 0, instances=(of(origin),))
        settings = {
            "access_log": str(tmp_path / "a.log"), "access_log_size": 60_000, "access_log_files": 1000,
        }  # fmt: skip
        for each in workers:
            each.table(app, **settings)
        began = time.monotonic()

        def load(number: int) -> None:
            with Client(workers[number].port) as client:
                while time.monotonic() < began + 4 or len(asked[number]) < 1000:
                    asked[number].append(client.ask(get(f"/{'x' * 200}")).id)

        threads = [threading.Thread(target=load, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        wanted = sorted(id for each in asked for id in each)
        until(lambda: in_the_end(tmp_path) == wanted, "each line once")
        sizes = [each.stat().st_size for each in tmp_path.iterdir()]
        assert len(sizes) > 8 and max(sizes) < 60_000 + 512 * 700, sizes
        old = (re.search(r"\.log\.(\d+)$", each.name) for each in tmp_path.iterdir())
        numbers = sorted(int(found[1]) for found in old if found)
        assert numbers == list(range(1, len(numbers) + 1)), "none is missing"
        assert all(_lost(each) == 0 for each in workers)


def _lost(gateway: WorkerUnderTest) -> int:
    return gateway.wait(Stats).log_lost


@pytest.mark.slow
def test_others_may_rename_it_under_load(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    asked = []
    with Origin() as origin, worker() as gateway:
        gateway.table(App("web", 0, instances=(of(origin),)), access_log=str(path))
        with Client(gateway.port) as client:
            for turn in range(1, 6):
                before = len(asked)
                while not path.exists() or len(asked) < before + 50:
                    asked.append(client.ask(get("/")).id)
                path.rename(tmp_path / f"a.log.old{turn}")
                gateway.tell(messages.Reopen())
        until(lambda: in_the_end(tmp_path) == sorted(asked), "each line once")
