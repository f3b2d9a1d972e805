"""An app that lets its secrets out wherever it can: variables, arguments, output, exceptions, fields, bad responses."""

from __future__ import annotations

import socket
import sys
import threading
import traceback

LINES = (
    "starting with password=secret-01",
    '{"event": "login", "password": "secret-02"}',
    "connecting to redis://:secret-03@cache:6379/0",
    "Authorization: Bearer secret-04",
    "Authorization: Token secret-05",
    "Cookie: theme=dark; sid=secret-06",
    'Set-Cookie: sid="secret-07"; HttpOnly',
    "X-Api-Key: secret-08",
    "GET /reset?token=secret-09&x=1 HTTP/1.1",
)
BAD = b"HTTP/1.1 200 OK\r\nSet-Cookie: sid=secret-10\r\nbad field\x01: x\r\nContent-Length: 2\r\n\r\nno"
FAILED = (
    b"HTTP/1.1 500 No\r\nSet-Cookie: sid=secret-11\r\nLocation: /x?code=secret-12\r\nContent-Length: 2\r\n"
    b"Connection: close\r\n\r\nno"
)
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


def answer(connection: socket.socket) -> None:
    with connection:
        data = b""
        while b"\r\n\r\n" not in data:
            more = connection.recv(65536)
            if not more:
                return
            data += more
        path = data.split(b" ")[1].partition(b"?")[0]
        if path == b"/failed":
            try:
                raise ValueError("no way to postgres://app:secret-13@db/x: password=secret-14")
            except ValueError:
                traceback.print_exc()
        connection.sendall({b"/bad": BAD, b"/failed": FAILED}.get(path, GOOD))


def main() -> None:
    listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
    for line in LINES:
        print(line, flush=True)
    while True:
        threading.Thread(target=answer, args=listener.accept()[:1], daemon=True).start()


if __name__ == "__main__":
    main()
