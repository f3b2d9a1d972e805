"""What the small apps share: routes over the standard library's threaded HTTP server."""

import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")


class Failed(Exception):
    """Answered with a status, as frameworks do for an error that the app expects."""

    def __init__(self, status: int, text: str = "") -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class Request:
    def __init__(self, handler: BaseHTTPRequestHandler) -> None:
        self.handler = handler
        parts = urlsplit(handler.path)
        self.path = parts.path
        self.query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        self.body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Web:
    """Routes of one app. A handler returns text, bytes, or anything that JSON can hold."""

    def __init__(self, name: str) -> None:
        self.log = logging.getLogger(name)
        self.routes: dict[tuple[str, str], Callable[[Request], Any]] = {("GET", "/healthz"): lambda _: "ok"}

    def get(self, path: str) -> Callable[..., Any]:
        return self._route("GET", path)

    def post(self, path: str) -> Callable[..., Any]:
        return self._route("POST", path)

    def _route(self, method: str, path: str) -> Callable[..., Any]:
        def keep(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
            self.routes[method, path] = handler
            return handler

        return keep

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        request = Request(handler)
        serve = self.routes.get((handler.command, request.path))
        status, found = 200, None
        try:
            if serve is None:
                raise Failed(404, "not found")
            found = serve(request)
        except Failed as error:
            status, found = error.status, error.text
        except Exception:
            self.log.exception("%s %s", handler.command, request.path)
            status, found = 500, "internal server error"
        self.send(handler, status, found)

    def send(self, handler: BaseHTTPRequestHandler, status: int, found: Any) -> None:
        if not isinstance(found, str | bytes):
            found = json.dumps(found)
        data = found if isinstance(found, bytes) else found.encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def server(self, host: str = "127.0.0.1", port: int = 0, kind: type[Server] = Server) -> Server:
        web = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                web.answer(self)

            do_POST = do_GET

            def log_message(self, form: str, *args: object) -> None:
                pass

        return kind((host, port or int(os.environ["PORT"])), Handler)

    def run(self, host: str = "127.0.0.1", port: int = 0) -> None:
        server = self.server(host, port)
        self.log.info("listening on %s:%d", *server.server_address[:2])
        server.serve_forever()

    def start(self) -> None:
        """Serve in a thread; the caller has other things to do."""
        threading.Thread(target=self.run, name="server", daemon=True).start()
        time.sleep(0.1)
