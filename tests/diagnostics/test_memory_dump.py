"""A memory dump of a process that runs on: what is in it, what it costs, and what is refused."""

from __future__ import annotations

import gzip
import io
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.diagnostics import core, forks, pages, proc
from proxy.diagnostics.artifacts import MemoryDump
from proxy.diagnostics.collectors.memory_dump import check_room
from proxy.diagnostics.core import Core, File, Registers, Segment
from proxy.diagnostics.subject import NoRoom
from tests.diagnostics.sessions import artifact, begin, instance, outcome, python, run, running, step, until

HOLDER = """
import random, threading, time
blob = [random.Random(seed).randbytes(24_000_000) for seed in range(TIMES)]
word = "-".join(["a word", "that nothing else", "has"]).encode()

def held():
    time.sleep(1000)

threading.Thread(target=held, name="holder", daemon=True).start()
print("ready", flush=True)
time.sleep(1000)
"""
pytestmark = pytest.mark.skipif(pages.MACHINE not in core.MACHINES, reason="not on this machine")


@pytest.fixture(scope="module")
def holder() -> Iterator[int]:
    with running(*python(HOLDER.replace("TIMES", "1"))) as (process, _):
        yield process.pid


def dump(folder: Path, pid: int) -> MemoryDump:
    found = run(folder, instance("web-1", pid), collectors=["memory_dump"], budget=60.0)
    assert step(found, "memory_dump").state == "done", found
    return artifact(folder, MemoryDump)


@pytest.mark.slow
def test_what_it_holds_is_in_it_and_read_back(tmp_path: Path, holder: int) -> None:
    before = (proc.PROC / str(holder) / "status").read_text()
    found = dump(tmp_path, holder)
    file = tmp_path / "web-1" / found.file
    assert stat.S_IMODE(file.stat().st_mode) == 0o600 and found.size == file.stat().st_size < found.holds
    assert found.holds > 24_000_000 and found.virtual > found.holds
    assert found.threads == 2 and found.pause is not None and found.pause < 0.25
    assert {thread.name for thread in found.stacks} == {"MainThread", "holder"}
    assert found.mappings[0].resident > 20_000_000 and found.mappings[0].name in ("", "[heap]")
    whole = gzip.decompress(file.read_bytes())
    assert whole.count(b"a word-that nothing else-has") >= 1
    read = core.read(io.BytesIO(whole).read)
    assert read.pid == holder and read.threads[0].thread == holder and read.machine == pages.MACHINE
    assert any(one.name.endswith("libc.so.6") for one in read.files)
    after = (proc.PROC / str(holder) / "status").read_text()
    sizes = [
        int(next(line for line in text.splitlines() if line.startswith("VmPTE")).split()[1]) for text in (before, after)
    ]
    assert sizes[1] - sizes[0] < 100, "no page was mapped by being read (kB of page tables)"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gdb") is None, reason="no gdb here")
def test_a_debugger_reads_it(tmp_path: Path, holder: int) -> None:
    found = dump(tmp_path, holder)
    plain = tmp_path / "core"
    plain.write_bytes(gzip.decompress((tmp_path / "web-1" / found.file).read_bytes()))
    program = str((proc.PROC / str(holder) / "exe").resolve())
    said = subprocess.run(
        ["gdb", "-nx", "-batch", "-ex", "info threads", "-ex", "thread 2", "-ex", "bt 3", program, str(plain)],
        capture_output=True, text=True, timeout=60, check=False, stdin=subprocess.DEVNULL,
    ).stdout  # fmt: skip
    assert f"LWP {holder}" in said and "nanosleep" in said, said


@pytest.mark.slow
def test_the_session_can_be_ended_in_its_middle(tmp_path: Path) -> None:
    code = HOLDER.replace("TIMES", "12")
    with running(*python(code)) as (process, _):
        one = instance("web-1", process.pid)
        with begin(tmp_path, one, collectors=["memory_dump"], budget=60.0) as session:
            part = tmp_path / "web-1/memory_dump.core.gz.part"
            until(lambda: part.exists() and part.stat().st_size > 1_000_000, "it is being written")
            session.terminate()
            assert session.wait(20) == 0
        assert process.poll() is None
    found = outcome(tmp_path)
    assert found.state == "cancelled" and not list((tmp_path / "web-1").iterdir())
    assert "ended before the dump was whole" in step(found, "memory_dump").why


@pytest.mark.slow
def test_a_process_that_dies_while_it_is_read(tmp_path: Path) -> None:
    code = HOLDER.replace("TIMES", "12")
    with running(*python(code)) as (process, _):
        one = instance("web-1", process.pid)
        with begin(tmp_path, one, collectors=["memory_dump"], budget=60.0) as session:
            part = tmp_path / "web-1/memory_dump.core.gz.part"
            until(lambda: part.exists() and part.stat().st_size > 1_000_000, "it is being written")
            process.kill()
            process.wait()
            assert session.wait(40) == 0
    told = step(outcome(tmp_path), "memory_dump")
    assert (told.state, told.files) == ("not there", []) and "ended" in told.why, told


def test_it_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoRoom, match=r"holds 500 MB, and the session has room for 100 MB"):
        check_room(500_000_000, 100_000_000, tmp_path)
    with pytest.raises(NoRoom, match=r"and the disk has .* free"):
        check_room(1 << 60, 0, tmp_path)
    check_room(1000, 0, tmp_path)
    assert forks.label(NoRoom("x")).state == "no room"


def written() -> tuple[Core, bytes]:
    whole = Core(
        machine="x86_64", pid=7, name="app", command="/bin/app", auxv=bytes(32),
        threads=[Registers(7, bytes(216)), Registers(9, bytes(216))],
        files=[File(0x1000, 0x3000, 0, "/bin/app")],
        segments=[Segment(0x1000, 0x2000, 5, 0x3000), Segment(0x8000, 0xA000, 6)],
    )  # fmt: skip
    return whole, core.head(whole) + bytes(4096) + b"x" * 8192


def test_a_core_file_is_read_as_it_was_written() -> None:
    whole, data = written()
    read = core.read(io.BytesIO(data).read)
    assert (read.pid, read.name, read.machine, read.auxv) == (7, "app", "x86_64", bytes(32))
    assert [one.thread for one in read.threads] == [7, 9] and read.files == whole.files
    assert [one[:3] for one in read.segments] == [one[:3] for one in whole.segments]


def test_a_damaged_one_is_not_taken_for_whole() -> None:
    _, data = written()
    for end in (0, 10, 63, 64, 300, 5000, len(data) - 1):
        with pytest.raises(core.Damaged):
            core.read(io.BytesIO(data[:end]).read)
    with pytest.raises(core.Damaged):
        core.read(io.BytesIO(b"\x7fELF\x02\x01\x01" + b"\xff" * 200).read)


def test_ranges_that_are_near_are_joined_only_where_they_may_be() -> None:
    near = [Segment(0, 4096, 6), Segment(4096, 8192, 6), Segment(8192, 12288, 4), Segment(20480, 24576, 4)]
    assert pages._joined(near, 0) == [Segment(0, 8192, 6), Segment(8192, 12288, 4), Segment(20480, 24576, 4)]
    assert pages._joined(near, 8192)[-1] == Segment(8192, 24576, 4)
