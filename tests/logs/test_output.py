"""What instances print, through real pipes and real files."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from proxy.control.logs.book import LogBook
from proxy.control.logs.capture import CUT, LINE, LINES, OutputCapture
from proxy.control.logs.writer import GONE_LOGS, QUEUE, LogWriter


async def until(condition: Callable[[], object], limit: float = 30.0) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.005)


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[LogWriter]:
    made = LogWriter(tmp_path / "logs", size=100_000, files=3)
    yield made
    made.close()


def book_of(writer: LogWriter) -> LogBook:
    return LogBook(writer, {}, lambda *said, **more: None, lambda: None, lambda row: None)


class Pipes:
    """A capture with the write ends of its pipes."""

    def __init__(self, capture: OutputCapture) -> None:
        self.capture = capture
        out, self.out = os.pipe()
        err, self.err = os.pipe()
        capture.attach(out, err)

    def close(self) -> None:
        for fd in (self.out, self.err):
            if fd >= 0:
                os.close(fd)
        self.out = self.err = -1


@pytest.fixture
async def pipes(writer: LogWriter) -> AsyncIterator[Pipes]:
    made = Pipes(OutputCapture("web-1", book_of(writer)))
    yield made
    made.close()
    made.capture.close()


def texts(capture: OutputCapture) -> list[str]:
    return [line.text for line in capture.last()]


async def test_lines_of_both_streams_in_memory_and_in_the_file(pipes: Pipes, writer: LogWriter) -> None:
    os.write(pipes.out, b"one\ntwo\nhal")
    await until(lambda: len(pipes.capture.lines) == 2)
    os.write(pipes.err, "grüß\n".encode())
    await until(lambda: len(pipes.capture.lines) == 3)
    assert texts(pipes.capture) == ["one", "two", "grüß", "hal"]  # what is not whole yet is shown too
    assert [line.stream for line in pipes.capture.last()] == ["out", "out", "err", "out"]
    os.write(pipes.out, b"f\n")
    await until(lambda: "half" in texts(pipes.capture))
    assert writer.flush()
    lines = writer.path("web-1").read_text().splitlines()
    assert [line.split(" ", 2)[1:] for line in lines] == [
        ["out", "one"], ["out", "two"], ["err", "grüß"], ["out", "half"],
    ]  # fmt: skip
    assert lines[0].split(" ")[0].endswith("Z")


async def test_the_last_words_without_a_newline_are_kept(pipes: Pipes, writer: LogWriter) -> None:
    os.write(pipes.err, b"Fatal: no newl")
    os.write(pipes.out, b"x\n")
    pipes.close()
    assert await pipes.capture.ended(30)
    assert sorted(texts(pipes.capture)) == ["Fatal: no newl", "x"]
    assert writer.flush()
    assert "err Fatal: no newl\n" in writer.path("web-1").read_text()


async def test_read_now_takes_what_is_there_at_an_exit(pipes: Pipes) -> None:
    os.write(pipes.err, b"last words\n")
    pipes.capture.read_now()
    assert texts(pipes.capture) == ["last words"]
    assert not await pipes.capture.ended(0.01)  # somebody still holds the pipe


async def test_memory_has_the_last_lines_only(pipes: Pipes) -> None:
    for start in range(0, 1000, 100):
        os.write(pipes.out, b"".join(b"line %d\n" % n for n in range(start, start + 100)))
    await until(lambda: pipes.capture.lines and pipes.capture.lines[-1].text == "line 999")
    assert len(pipes.capture.lines) == LINES
    assert pipes.capture.lines[0].text == f"line {1000 - LINES}"


async def test_an_overlong_line_is_cut_and_marked(pipes: Pipes, writer: LogWriter) -> None:
    long = b"a" * 300_000
    sending = asyncio.to_thread(os.write, pipes.out, long + b"\nnext\n")
    await sending
    await until(lambda: "next" in texts(pipes.capture))
    first = pipes.capture.last()[0].text
    assert len(first) == LINE + len(CUT) and first.endswith(CUT.decode())
    assert pipes.capture.dropped == 300_000 - LINE
    assert writer.flush()
    assert "bytes of output were dropped" in writer.path("web-1").read_text()


async def test_binary_output_is_fine(pipes: Pipes, writer: LogWriter) -> None:
    data = bytes(range(256)) * 8 + b"\n"
    os.write(pipes.out, data)
    await until(lambda: pipes.capture.total == len(data))
    assert writer.flush()
    assert bytes(range(128, 256)) in writer.path("web-1").read_bytes()
    assert all(isinstance(line.text, str) for line in pipes.capture.last())


async def test_a_flood_is_read_and_dropped_and_the_loop_stays_free(writer: LogWriter) -> None:
    capture = OutputCapture("flood-1", book_of(writer))
    code = "import sys\nfor _ in range(600): sys.stdout.buffer.write(b'x' * 99 + b'\\n' + b'y' * 65000 + b'\\n')"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=(pipe := os.pipe())[1], stderr=asyncio.subprocess.DEVNULL
    )
    os.close(pipe[1])
    capture.attach(pipe[0], -1)
    assert await process.wait() == 0  # it was never blocked for good
    assert await capture.ended(30)
    assert capture.total == 600 * (100 + 65001)
    assert capture.dropped > 0
    assert writer.lost == 0 or writer.lost <= capture.total
    capture.close()


async def test_each_line_is_told(writer: LogWriter) -> None:
    told: list[tuple[str, str, str]] = []
    pipes = Pipes(OutputCapture("web-2", None, lambda *line: told.append(line)))
    os.write(pipes.out, b"hello\r\n")
    await until(lambda: told)
    assert told == [("web-2", "out", "hello")]
    pipes.close()
    pipes.capture.close()


async def test_both_streams_may_be_one_pipe(writer: LogWriter) -> None:
    capture = OutputCapture("web-3", book_of(writer))
    read, write = os.pipe()
    capture.attach(read, read)
    os.write(write, b"both\n")
    await until(lambda: texts(capture) == ["both"])
    os.close(write)
    assert await capture.ended(30)
    capture.close()


def test_files_rotate_by_size_and_count(writer: LogWriter) -> None:
    for number in range(50):
        writer.write("web-1", b"%05d " % number + b"x" * 9_994 + b"\n")
    assert writer.flush(30)
    folder = writer.directory
    assert sorted(path.name for path in folder.iterdir()) == ["web-1.log", "web-1.log.1", "web-1.log.2"]
    assert all(path.stat().st_size <= 100_000 for path in folder.iterdir())
    assert writer.path("web-1").read_bytes().splitlines()[-1].startswith(b"00049")
    assert (folder / "web-1.log.2").read_bytes().startswith(b"00027")  # in order, none missing


def test_one_file_alone_begins_anew(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path, size=1000, files=1)
    for _ in range(30):
        writer.write("a", b"y" * 99 + b"\n")
    assert writer.flush()
    assert [path.name for path in tmp_path.iterdir()] == ["a.log"]
    assert writer.path("a").stat().st_size <= 1000
    writer.close()


def test_a_full_disk_is_counted_said_and_survived(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path)
    os.symlink("/dev/full", writer.path("web-1"))
    writer.write("web-1", b"a" * 500 + b"\n")
    assert writer.flush()
    assert writer.lost == 501
    assert "No space" in writer.error
    writer.release("web-1")
    writer.flush()
    writer.path("web-1").unlink()
    writer.write("web-1", b"again\n")
    assert writer.flush()
    assert writer.error == ""
    assert writer.path("web-1").read_text() == "again\n"
    writer.close()


def test_after_a_loss_the_file_says_how_much(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path / "logs")
    (tmp_path / "logs").write_text("in the way")  # a file where the folder should be
    writer.write("web-1", b"lost\n")
    assert writer.flush()
    assert writer.lost == 5 and writer.error
    (tmp_path / "logs").unlink()
    writer.write("web-1", b"kept\n")
    assert writer.flush()
    assert "5 bytes of output were lost" in writer.path("web-1").read_text()
    assert writer.path("web-1").read_text().endswith("kept\n")
    assert writer.error == ""
    writer.close()


def test_a_slow_disk_bounds_memory(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path)
    os.mkfifo(writer.path("web-1"))  # opening it for writing waits for a reader: the slowest disk there is
    chunk = b"z" * 65535 + b"\n"
    refused = [writer.write("web-1", chunk) for _ in range(QUEUE // len(chunk) + 10)].count(False)
    assert refused == 10
    assert writer.lost == 10 * len(chunk)
    with open(writer.path("web-1"), "rb") as reader:
        while b"lost" not in reader.read1() and writer.error:
            pass
        os.set_blocking(reader.fileno(), False)
        while not writer.flush(0.05):
            while reader.read(1 << 20):
                pass
        writer.close()


def test_logs_of_instances_long_gone_are_removed(tmp_path: Path) -> None:
    writer = LogWriter(tmp_path)
    for number in range(GONE_LOGS + 30):
        path = tmp_path / f"old-{number}.log"
        path.write_text("x")
        os.utime(path, (number, number))
    writer.write("web-1", b"here\n")
    writer.write("web-2", b"there\n")
    writer.release("web-2")
    assert writer.flush()
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == GONE_LOGS + 1  # and the one that is open
    assert "web-1.log" in left and "web-2.log" in left and "old-0.log" not in left
    writer.close()


def test_an_address_makes_a_plain_file_name(writer: LogWriter) -> None:
    assert writer.path("10.0.0.5:8000").name == "10.0.0.5_8000.log"
    assert writer.path("../../etc/passwd").parent == writer.directory
