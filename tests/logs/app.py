"""An app that prints what a request tells it to: `python app.py PORT`.

POST /print?to=out|err|PATH: the content, as it is. GET /storm?seconds=N&line=LENGTH: as fast as it can; the answer says
how many bytes. GET /count?to=N: a line each millisecond. GET /raise: a traceback on the error stream. GET /healthz.
"""

import os
import sys
import threading
import time
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


def price(item: str) -> float:
    return {}[item]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        data = self.rfile.read(int(self.headers["Content-Length"]))
        to = asked.get("to", "out")
        if to in ("out", "err"):
            os.write(1 if to == "out" else 2, data)
        else:
            with open(to, "ab") as file:
                file.write(data)
        self.answer("printed")

    def do_GET(self) -> None:
        where = urlsplit(self.path)
        asked = {name: values[0] for name, values in parse_qs(where.query).items()}
        if where.path == "/raise":
            try:
                price(asked.get("item", "tea"))
            except KeyError:
                traceback.print_exc()
            self.answer("raised")
        elif where.path == "/count":

            def count() -> None:
                for number in range(int(asked["to"])):
                    print(f"foxtrot {number}", flush=True)
                    time.sleep(0.001)

            threading.Thread(target=count, daemon=True).start()
            self.answer("counting")
        elif where.path == "/storm":
            line = b"x" * (int(asked["line"]) - 1) + b"\n"
            block = line * max(1, 65536 // len(line))
            until, size = time.monotonic() + float(asked["seconds"]), 0

            def storm() -> None:
                nonlocal size
                while time.monotonic() < until:
                    size += os.write(1, block)

            thread = threading.Thread(target=storm)
            thread.start()
            thread.join()
            self.answer(str(size))
        else:
            self.answer("fine")

    def log_message(self, *args: object) -> None:
        pass


if __name__ == "__main__":
    print("listening", flush=True)
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler)
    server.serve_forever()
