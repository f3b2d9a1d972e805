"""An admin API that answers with the examples of the route table: shapes without a gateway."""

from __future__ import annotations

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class Api:
    """`answers` maps "GET /path" to (status, JSON); `calls` has every request line, its token and its content.

    `coming` has, for the same keys, answers that are given once each, before that. `streams` has what each of the next
    ones who follow is sent, before the connection ends; `asked` the Last-Event-ID that each of them came with.
    """

    def __init__(self, answers: dict[str, tuple[int, Any]]) -> None:
        self.answers = answers
        self.coming: dict[str, list[tuple[int, Any]]] = {}
        self.streams: dict[str, list[list[bytes]]] = {}
        self.asked: list[str] = []
        self.calls: list[tuple[str, str, str]] = []
        self.address = ""

    @property
    def lines(self) -> list[str]:
        return [line for line, _, _ in self.calls]

    def handler(api) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
                api.calls.append((f"{self.command} {self.path}", self.headers.get("Authorization", ""), body))
                missing = (
                    404,
                    {"title": "Not found", "detail": self.path, "hint": "look at the list", "status": 404},
                )
                key = f"{self.command} {self.path.partition('?')[0]}"
                if api.streams.get(key) and "follow=true" in self.path:
                    self.stream(api.streams[key].pop(0))
                    return
                status, answer = api.coming[key].pop(0) if api.coming.get(key) else api.answers.get(key, missing)
                data = b"" if status == 204 else json.dumps(answer).encode()
                self.send_response(status)
                kind = "application/json" if status < 400 else "application/problem+json"
                self.send_header("Content-Type", kind)
                if status != 204:
                    self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def stream(self, parts: list[bytes]) -> None:
                api.asked.append(self.headers.get("Last-Event-ID", ""))
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.end_headers()
                for part in parts:
                    self.wfile.write(part)
                    self.wfile.flush()
                self.close_connection = True

            do_POST = do_PUT = do_DELETE = do_HEAD = do_GET

            def address_string(self) -> str:
                return "local"

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


def message(kind: str, data: Any, id: int | None = None) -> bytes:
    """As a stream has it."""
    return (f"id: {id}\n" if id is not None else "").encode() + f"event: {kind}\ndata: {json.dumps(data)}\n\n".encode()


class UnixServer(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True


class TcpServer(socketserver.ThreadingTCPServer):
    daemon_threads = True
    address_family = socket.AF_INET


@contextmanager
def serving(api: Api, path: Path | None = None) -> Iterator[Api]:
    """Serve it on a Unix socket, or on a free port of loopback."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        server: socketserver.BaseServer = UnixServer(str(path), api.handler())
        api.address = f"unix:{path}"
    else:
        server = TcpServer(("127.0.0.1", 0), api.handler())
        api.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
