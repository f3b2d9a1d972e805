"""An app with much to look into: `python app.py PORT FOLDER`. It forks children, one of which leaves its session and is
left by its parent; it has threads with names, files, a deleted one, a pipe, sockets, and a child that ignores TERM."""

import ctypes
import os
import signal
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

FOLDER = Path(sys.argv[2])
PR_SET_NAME = 15


def name(text: bytes) -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, text)


def sleep_on() -> None:
    while True:
        time.sleep(3600)


def child(comm: bytes, ignores: bool = False) -> int:
    pid = os.fork()
    if pid == 0:
        name(comm)
        if ignores:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        sleep_on()
    return pid


def daemon() -> None:
    """A grandchild in a session of its own, whose parent is gone."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            name(b"stray")
            sleep_on()
        os._exit(0)
    os.waitpid(pid, 0)


def hermit() -> None:
    """As the stray, and without Triage's marks in its environment: only a cgroup tells whose it is."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["hermit", "3600"], {})
        os._exit(0)
    os.waitpid(pid, 0)


def zombie() -> None:
    if os.fork() == 0:
        os._exit(0)


def burn() -> None:
    while True:
        sum(range(1000))


class App(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path == "/burn":
            threading.Thread(target=burn, name="burner", daemon=True).start()
        if self.path == "/wait":
            time.sleep(30)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


first = child(b"worker one")
child(b"\x1b[31mred\xff", ignores=True)
daemon()
hermit()
zombie()
threading.Thread(target=sleep_on, name="a waiting thread", daemon=True).start()
log = (FOLDER / "app.log").open("a")
log.write("x" * 100)
log.flush()
gone = (FOLDER / "gone.txt").open("w+")
(FOLDER / "gone.txt").unlink()
odd = os.open(bytes(FOLDER) + b"/odd\xff\x1b[2Jname", os.O_WRONLY | os.O_CREAT)
here, there = os.pipe()
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
taken, _ = listener.accept()
taken.send(b"unread")
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.bind(("127.0.0.1", 0))
local = socket.socket(socket.AF_UNIX)
(FOLDER / "own.sock").unlink(missing_ok=True)
local.bind(str(FOLDER / "own.sock"))
local.listen(3)
many = [os.open("/dev/null", os.O_RDONLY) for _ in range(300)]

ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), App).serve_forever()
