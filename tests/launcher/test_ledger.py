"""The ledger and the channel: whole, or as before."""

from __future__ import annotations

import os
import socket

import pytest

from proxy.link.spawn import Channel, read_ledger, write_ledger


def image(fd: int) -> bytes:
    return os.pread(fd, os.fstat(fd).st_size, 0)


def reread(data: bytes) -> bytes | None:
    fd = os.memfd_create("test")
    try:
        os.write(fd, data)
        return read_ledger(fd)
    finally:
        os.close(fd)


@pytest.fixture
def ledger() -> object:
    fd = os.memfd_create("test")
    yield fd
    os.close(fd)


def test_what_is_written_is_read(ledger: int) -> None:
    assert read_ledger(ledger) is None
    for size in (0, 1, 100, 5000, 10, 100_000, 3, 3):
        text = os.urandom(size)
        write_ledger(ledger, text)
        assert read_ledger(ledger) == text


def test_it_stays_bounded(ledger: int) -> None:
    for number in range(500):
        write_ledger(ledger, b"x" * (1000 + number * 37 % 1000))
    assert os.fstat(ledger).st_size < 10_000


@pytest.mark.parametrize("sizes", [(50, 50), (50, 200), (200, 50), (0, 90), (90, 0)])
def test_torn_at_any_byte_it_is_the_new_text_or_the_old(ledger: int, sizes: tuple[int, int]) -> None:
    write_ledger(ledger, b"first of all")
    old, new = b"o" * sizes[0], b"n" * sizes[1]
    write_ledger(ledger, old)
    before = image(ledger)
    write_ledger(ledger, new)
    after = image(ledger)
    before += bytes(max(0, len(after) - len(before)))
    after += before[len(after) :]
    for at in range(len(after) + 1):
        assert reread(before[:at] + after[at:]) in (old, new)  # as it is written: text, then entry
        assert reread(after[:at] + before[at:]) in (old, new)
        assert reread(after[:at]) in (None, b"first of all", old, new)
    for at in range(len(after)):
        broken = bytearray(after)
        broken[at] ^= 0x41
        assert reread(bytes(broken)) in (None, b"first of all", old, new)


def test_large_messages_and_descriptors_go_through_a_full_socket() -> None:
    ours, theirs = Channel.pair()
    other = Channel(theirs)
    try:
        texts = ["x" * 3_000_000, "é" * 40_000, "", "y" * 32_768]
        for text in texts:
            ours.send({"text": text}, (0,))
        got = []
        while len(got) < len(texts):
            while (received := other.receive()) is None:
                ours.flush()
            message, fds = received
            assert len(fds) == 1 and not os.get_inheritable(fds[0])
            os.close(fds[0])
            got.append(message["text"])
        assert got == texts and not ours.waiting
    finally:
        ours.close()
        other.close()


def test_the_other_end_gone_is_told() -> None:
    ours, theirs = Channel.pair()
    theirs.close()
    with pytest.raises(EOFError):
        ours.receive()
    with pytest.raises(OSError):
        ours.send({})
    ours.close()


def test_nonsense_is_a_value_error_and_the_channel_goes_on() -> None:
    ours, theirs = Channel.pair()
    with theirs:
        for packet in (b".{", b".[]", b".\xff\xfe", b"."):
            theirs.send(packet)
            with pytest.raises(ValueError):
                ours.receive()
        socket.send_fds(theirs, [b".nonsense"], [0])
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(ValueError):
            ours.receive()
        assert len(os.listdir("/proc/self/fd")) == before
        theirs.send(b'.{"op": "beat"}')
        assert ours.receive() == ({"op": "beat"}, [])
    ours.close()
