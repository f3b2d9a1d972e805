"""A driver for a database that answers a line with a line, and a pool of its connections."""

import queue
import socket
from collections.abc import Iterator
from contextlib import contextmanager


class Connection:
    def __init__(self, address: str) -> None:
        host, port = address.split(":")
        self.socket = socket.create_connection((host, int(port)), 5)
        self.socket.settimeout(None)

    def query(self, statement: str) -> str:
        self.socket.sendall(statement.encode() + b"\n")
        answer = b""
        while not answer.endswith(b"\n"):
            part = self.socket.recv(4096)
            if not part:
                raise ConnectionError("server closed the connection unexpectedly")
            answer += part
        return answer.decode().strip()


class Pool:
    """`size` connections, made when first needed."""

    def __init__(self, address: str, size: int) -> None:
        self.address = address
        self.free: queue.Queue[Connection | None] = queue.Queue()
        for _ in range(size):
            self.free.put(None)

    def acquire(self) -> Connection:
        connection = self.free.get()
        return connection or Connection(self.address)

    def release(self, connection: Connection) -> None:
        self.free.put(connection)

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        connection = self.acquire()
        try:
            yield connection
        finally:
            self.release(connection)
