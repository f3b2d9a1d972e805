"""An app for whole stories: answers, fails, breaks off, and takes its time, by path."""

from __future__ import annotations

import http.server
import sys
import threading
import time


class Handler(http.server.BaseHTTPRequestHandler):
    """Each path is a story."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/break":
            self.close_connection = True
            return
        if path == "/once" and sys.argv[2] == "web-1":
            self.close_connection = True
            return
        if path == "/slow":
            time.sleep(0.4)
        self.answer(503 if path == "/busy" else 200, path)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.answer(200, self.path)

    def answer(self, status: int, path: str) -> None:
        body = b"hello"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Set-Cookie", "sid=topsecretvalue; Path=/")
        self.send_header("Location", "/next?token=topsecretvalue&page=2")
        if path == "/large":
            for number in range(60):
                self.send_header(f"X-Large-{number}", "v" * 300)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
threading.Thread(target=server.serve_forever).start()
