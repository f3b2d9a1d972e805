"""An app that raises what its paths name, before and after a fork, and says what it was started with."""

from __future__ import annotations

import http.server
import json
import os
import sys


class Refused(Exception):
    """Of this app's own."""


def tolerated() -> None:
    try:
        raise Refused("token=topsecretvalue")
    except Refused:
        pass


class Handler(http.server.BaseHTTPRequestHandler):
    """Each path raises."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/tolerated":
            tolerated()
        elif self.path == "/memory":
            try:
                raise MemoryError("as if")
            except MemoryError:
                pass
        elif self.path == "/breaks":
            raise Refused("it breaks")
        names = ("PYTHONPATH", "TRIAGE_AGENT")
        body = json.dumps({"pid": os.getpid(), **{name: os.environ.get(name) for name in names}}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Nothing."""


server = http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
workers = []
for _ in range(2 if "fork" in sys.argv else 0):
    if not (pid := os.fork()):
        server.serve_forever()
    workers.append(pid)
for pid in workers:
    os.waitpid(pid, 0)
if not workers:
    server.serve_forever()
