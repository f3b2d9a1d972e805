"""A small app that is asked by nobody: threads that wait for a peer that never answers, one that computes, a log."""

from __future__ import annotations

import socket
import sys
import threading


def wait_for_prices(connection: socket.socket) -> None:
    """Ask, and read what does not come."""
    connection.sendall(b"prices?\n")
    connection.recv(100)


def compute() -> None:
    """Spend CPU."""
    total = 0
    while True:
        total = sum_up(total)


def sum_up(total: int) -> int:
    """A part of it, to have a stack."""
    return sum(number * number for number in range(2000)) + total % 7


def main(port: int, threads: int) -> None:
    """Say that it runs, then wait."""
    for _ in range(threads):
        connection = socket.create_connection(("127.0.0.1", port))
        threading.Thread(target=wait_for_prices, args=(connection,), daemon=True).start()
    threading.Thread(target=compute, daemon=True, name="computes").start()
    print("ready, token=abcdef0123456789", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
