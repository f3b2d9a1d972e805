"""A small app: `python app.py PORT` or an inherited socket (LISTEN_FDS). Routes do what their names say."""

import http.server
import os
import signal
import socket
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path == "/crash":
            print("about to crash", flush=True)
            os._exit(3)
        if path == "/abort":
            os.abort()
        if path == "/slow":
            time.sleep(float(self.path.partition("?")[2] or 1))
        if path == "/hang" and os.environ.get("TRIAGE_INSTANCE") == self.path.partition("?")[2]:
            time.sleep(1000)
        if path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            while True:
                self.wfile.write(b": .\n\n")
                time.sleep(0.05)
        if path == "/leak":
            kept.extend(b"x" * (1 << 20) for _ in range(int(self.path.partition("?")[2])))
        if path == "/burn":
            end = time.monotonic() + float(self.path.partition("?")[2])
            while time.monotonic() < end:
                pass
        status = 500 if path == "/error" or (path == "/healthz" and os.path.exists(sick)) else 200
        body = f"{os.environ.get('TRIAGE_INSTANCE')} {os.getpid()} {os.environ.get('GREETING', '')}".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        self.socket.bind(self.server_address)
        self.server_name, self.server_port = "unix", 0

    def get_request(self):  # type: ignore[no-untyped-def]
        sock, _ = self.socket.accept()
        return sock, ("unix", 0)


kept: list[bytes] = []
sick = os.environ.get("SICK_FILE", "/nonexistent")
where = sys.argv[1] if len(sys.argv) > 1 else ""
print("hello from", os.environ.get("TRIAGE_INSTANCE"), flush=True)
if os.environ.get("IGNORE_TERM"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.environ.get("LISTEN_FDS"):
    assert os.environ["LISTEN_PID"] == str(os.getpid())
    server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=3)
elif where.startswith("/"):
    server = UnixServer(where, Handler)  # type: ignore[arg-type]
else:
    server = Server(("127.0.0.1", int(where)), Handler)
server.serve_forever()
