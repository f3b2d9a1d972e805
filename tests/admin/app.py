"""A small app, sick on request: `python app.py PORT`. Standard library only."""

import os
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def hang_here() -> None:
    time.sleep(60)


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/crash":
            print("RuntimeError: the price list is gone", file=sys.stderr, flush=True)
            os._exit(3)
        if self.path == "/hang":
            hang_here()
        if self.path == "/close":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if self.path == "/garbage":
            self.wfile.write(b"220 mail.example.com ESMTP\r\n\r\n")
            self.close_connection = True
            return
        self.answer(500 if self.path.startswith("/raise") else 200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        if self.path.startswith("/crash"):
            os._exit(3)
        self.answer(201)

    def answer(self, status: int) -> None:
        if status == 500:
            print("LookupError: no price for product 4", file=sys.stderr, flush=True)
        self.send_response(status)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, format: str, *args: object) -> None:
        print(f"{self.command} {self.path}", flush=True)


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
