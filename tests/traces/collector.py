"""A small OTLP receiver on a real socket: it reads what is posted, keeps the spans, and answers as it is told."""

from __future__ import annotations

import gzip
import json
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Span:
    """A span as it was posted; `attributes` as plain values."""

    raw: dict[str, Any]
    resource: dict[str, Any]
    attributes: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self.attributes = plain(self.raw["attributes"])

    def __getitem__(self, name: str) -> Any:
        return self.raw.get(name)


def plain(attributes: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in attributes:
        ((kind, value),) = one["value"].items()
        found[one["key"]] = int(value) if kind == "intValue" else value
    return found


class Collector:
    """`answers`: status and fields of the next answers, in turn; 200 when none is left. `hang`: it never answers."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.posts: list[tuple[float, dict[str, str], int]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.hang = threading.Event()
        self.ended = threading.Event()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["Content-Length"]))
                if collector.hang.is_set():
                    collector.posts.append((time.monotonic(), dict(self.headers), 0))
                    collector.ended.wait(60)
                    self.close_connection = True
                    return
                status, fields, said = collector.answers.pop(0) if collector.answers else (200, {}, b"{}")
                if status == 200:
                    collector.take(json.loads(gzip.decompress(content)))
                collector.posts.append((time.monotonic(), dict(self.headers), status))
                self.send_response(status)
                for name, value in fields.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1/traces"

    def take(self, posted: dict[str, Any]) -> None:
        for resource in posted["resourceSpans"]:
            about = plain(resource["resource"]["attributes"])
            for scope in resource["scopeSpans"]:
                self.spans += [Span(span, about) for span in scope["spans"]]

    def of(self, request: str) -> list[Span]:
        """A request's span and those of its attempts, in order."""
        mine = [span for span in self.spans if span["spanId"] == request or span["parentSpanId"] == request]
        return sorted(mine, key=lambda span: (span["kind"], int(span["startTimeUnixNano"])))

    def close(self) -> None:
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
