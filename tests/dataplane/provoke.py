"""What the tests of faults share: origins that do as they are told, instances that are real processes, a plain
client, and a view of what the worker told control.

An origin's script is called with each request it has read whole: `script(sock, request)`; True means that the
connection goes on. Nothing here waits by the clock but an origin that is slow on purpose.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.faults import Blame, Fault
from proxy.link import messages
from proxy.link.messages import App, Instance, Learned, Record, Row
from tests.dataplane.harness import DEADLINE, WorkerUnderTest, listening

_rows = itertools.count(1)
_apps = itertools.count(1)
RST: Final = struct.pack("ii", 1, 0)


def provokes(*those: Fault) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Marks a test as one that provokes these faults; a test asks that every fault has one."""

    def mark(test: Callable[..., None]) -> Callable[..., None]:
        test.provokes = [fault.name for fault in those]  # type: ignore[attr-defined]
        return test

    return mark


def until(holds: Callable[[], Any], what: str = "the condition") -> Any:
    """The first true value of `holds`."""
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        if value := holds():
            return value
        time.sleep(0.005)
    raise AssertionError(f"{what} did not come about within {DEADLINE} s")


# --- origins ---------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Asked:
    """A request as an origin read it. `again` counts the requests of its connection, from 0."""

    head: bytes
    body: bytes
    again: int

    @property
    def method(self) -> str:
        return self.head.split(b" ", 1)[0].decode()

    @property
    def target(self) -> str:
        return self.head.split(b" ", 2)[1].decode()

    def field(self, name: str) -> str:
        found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*([^\r\n]*)", self.head)
        return found[1].decode() if found else ""


Script = Callable[[socket.socket, Asked], bool]


class Origin:
    """A server of one script, a thread for each connection. Counts how many requests it had at once."""

    def __init__(self, script: Script, *, read_body: bool = True) -> None:
        self.script = script
        self.read_body = read_body
        self.requests: list[Asked] = []
        self.connections = 0
        self.now = 0
        self.most = 0
        self.ending = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._sock = listening()
        self.port: int = self._sock.getsockname()[1]
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def instance(self, **more: Any) -> Instance:
        return place(self.port, **more)

    def close(self) -> None:
        self.ending.set()
        if isinstance(self.script, Gate):
            self.script.open()
        with suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        for each in tuple(self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)

    def _accept(self) -> None:
        while not self.ending.is_set():
            try:
                sock, _ = self._sock.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
            self._open.add(sock)
            thread = threading.Thread(target=self._serve, args=(sock,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, sock: socket.socket) -> None:
        with sock, suppress(OSError):
            rest = b""
            for again in itertools.count():
                head, rest = _read_head(sock, rest)
                if not head:
                    break
                body = b""
                if self.read_body:
                    body, rest = _read_body(sock, head, rest)
                asked = Asked(head, body, again)
                with self._lock:
                    self.requests.append(asked)
                    self.now += 1
                    self.most = max(self.most, self.now)
                try:
                    if not self.script(sock, asked):
                        break
                finally:
                    with self._lock:
                        self.now -= 1
        self._open.discard(sock)


@contextmanager
def origin(script: Script, **more: Any) -> Iterator[Origin]:
    made = Origin(script, **more)
    try:
        yield made
    finally:
        made.close()


def _read_head(sock: socket.socket, rest: bytes) -> tuple[bytes, bytes]:
    while b"\r\n\r\n" not in rest:
        data = sock.recv(65536)
        if not data:
            return b"", b""
        rest += data
    head, _, rest = rest.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", rest


def _read_body(sock: socket.socket, head: bytes, rest: bytes) -> tuple[bytes, bytes]:
    if re.search(rb"(?im)^transfer-encoding:", head):
        while not rest.endswith(b"0\r\n\r\n"):
            data = sock.recv(65536)
            if not data:
                raise ConnectionError("cut short")
            rest += data
        return rest, b""
    found = re.search(rb"(?im)^content-length:[ \t]*(\d+)", head)
    length = int(found[1]) if found else 0
    while len(rest) < length:
        data = sock.recv(65536)
        if not data:
            raise ConnectionError("cut short")
        rest += data
    return rest[:length], rest[length:]


def response(body: bytes = b"well\n", status: str = "200 OK", fields: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{fields}\r\n".encode() + body


def answers(body: bytes = b"well\n", status: str = "200 OK", fields: str = "", after: float = 0.0) -> Script:
    """Answers, `after` seconds later."""
    data = response(body, status, fields)

    def script(sock: socket.socket, asked: Asked) -> bool:
        if after:
            time.sleep(after)  # it is a slow origin
        sock.sendall(data)
        return True

    return script


def says(data: bytes, then: str = "close") -> Script:
    """Sends these bytes, then "close", "reset" or "wait" until the other side has closed."""

    def script(sock: socket.socket, asked: Asked) -> bool:
        if data:
            sock.sendall(data)
        if then == "wait":
            wait_for_end(sock)
        elif then == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
        return False

    return script


def wait_for_end(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(65536):
            pass


class Gate:
    """A script that answers when the test says so: `open()` for all, `let(n)` for n of them."""

    def __init__(self, body: bytes = b"well\n") -> None:
        self.body = body
        self._tickets = threading.Semaphore(0)
        self._all = False

    def __call__(self, sock: socket.socket, asked: Asked) -> bool:
        if not self._all:
            self._tickets.acquire(timeout=DEADLINE)
        sock.sendall(response(self.body))
        return True

    def let(self, count: int) -> None:
        self._tickets.release(count)

    def open(self) -> None:
        self._all = True
        self._tickets.release(1000)


# --- instances that are processes ----------------------------------------------------------------------------

_PROCESS: Final = """
import os, socket, sys, threading
def serve(sock):
    rest = b""
    while True:
        while b"\\r\\n\\r\\n" not in rest:
            data = sock.recv(65536)
            if not data:
                return
            rest += data
        head, _, rest = rest.partition(b"\\r\\n\\r\\n")
        line = head.split(b"\\r\\n")[0].decode()
        os.write(1, line.encode() + b"\\n")  # one write: print of several threads would mix
        target = line.split()[1]
        if target.startswith("/crash"):
            os._exit(3)
        if target.startswith("/hold"):
            threading.Event().wait()
        if target.startswith("/half"):
            sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100\\r\\n\\r\\nhalf of it")
            threading.Event().wait()
        sock.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 5\\r\\n\\r\\nwell\\n")
def orders():
    for line in sys.stdin:
        os._exit(int(line))
threading.Thread(target=orders, daemon=True).start()
listening = socket.create_server(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
while True:
    sock, _ = listening.accept()
    threading.Thread(target=serve, args=(sock,), daemon=True).start()
"""


class Process:
    """An instance that is a process: /hold never ends, /crash ends it with code 3, `exit(code)` too."""

    def __init__(self) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-c", _PROCESS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.popen.stdout is not None and self.popen.stdin is not None
        self.port = int(self.popen.stdout.readline())
        self.row = next(_rows)
        self.name = f"web-{self.row}"
        self.seen: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.popen.stdout or ():
            self.seen.append(line.strip())

    def instance(self, **more: Any) -> Instance:
        return place(self.port, name=self.name, row=self.row, kind="process", pid=self.popen.pid, **more)

    def exit(self, code: int) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(f"{code}\n")
        self.popen.stdin.flush()
        self.popen.wait(DEADLINE)

    def kill(self, number: int = signal.SIGKILL) -> None:
        self.popen.send_signal(number)
        self.popen.wait(DEADLINE)

    def close(self) -> None:
        self.popen.kill()
        self.popen.wait()
        self._reader.join(DEADLINE)
        for pipe in (self.popen.stdin, self.popen.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()


@contextmanager
def processes(count: int) -> Iterator[list[Process]]:
    made: list[Process] = []
    try:
        for _ in range(count):
            made.append(Process())
        yield made
    finally:
        for each in made:
            each.close()


# --- the client ------------------------------------------------------------------------------------------------


class Cut(Exception):
    """The connection ended in the middle of an answer, or before it; `got` is what came."""

    def __init__(self, got: bytes, reset: bool) -> None:
        super().__init__(f"{'reset' if reset else 'closed'} after {got!r}")
        self.got = got
        self.reset = reset


@dataclass(slots=True)
class Answer:
    status: int
    fields: dict[str, str]
    body: bytes
    seconds: float = 0.0
    closes: bool = False

    @property
    def id(self) -> str:
        return self.fields.get("x-request-id", "")

    @property
    def fault(self) -> str:
        found = re.search(r'details="([^"]*)"', self.fields.get("proxy-status", ""))
        return found[1] if found else ""


@dataclass(slots=True)
class Client:
    """One connection to the gateway."""

    sock: socket.socket
    rest: bytes = b""
    began: float = field(default_factory=time.monotonic)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.began = time.monotonic()
        self.sock.sendall(data)

    def ask(self, target: str = "/", method: str = "GET", body: bytes | None = None, **fields: str) -> Answer:
        self.send(request(target, method, body, **fields))
        return self.read(method)

    def read(self, method: str = "GET") -> Answer:
        """One answer; 1xx are passed over. Raises Cut."""
        got = self.rest
        try:
            while b"\r\n\r\n" not in got:
                got += self._some(got)
            head, _, rest = got.partition(b"\r\n\r\n")
            lines = head.decode("latin-1").split("\r\n")
            status = int(lines[0].split()[1])
            fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
            if 100 <= status < 200 and status != 101:
                self.rest = rest
                return self.read(method)
            closes = "close" in fields.get("connection", "")
            if method == "HEAD" or status in (101, 204, 304):
                body = b""
            elif "content-length" in fields:
                length = int(fields["content-length"])
                while len(rest) < length:
                    rest += self._some(got + rest)
                body, rest = rest[:length], rest[length:]
            elif "transfer-encoding" in fields:
                body = b""
                while True:
                    while b"\r\n" not in rest:
                        rest += self._some(got + rest)
                    line, _, rest = rest.partition(b"\r\n")
                    size = int(line, 16)
                    while len(rest) < size + 2:
                        rest += self._some(got + rest)
                    body, rest = body + rest[:size], rest[size + 2 :]
                    if not size:
                        break
            else:
                while data := self.sock.recv(65536):
                    rest += data
                body, rest, closes = rest, b"", True
        except ConnectionError:
            raise Cut(got, True) from None
        self.rest = rest
        return Answer(status, fields, body, time.monotonic() - self.began, closes)

    def _some(self, got: bytes) -> bytes:
        data = self.sock.recv(65536)
        if not data:
            raise Cut(got, False)
        return data

    def at_end(self) -> bool:
        """Waits for the other side to close; True if it did without another byte."""
        try:
            return self.sock.recv(1) == b""
        except ConnectionResetError:
            return True


def request(target: str = "/", method: str = "GET", body: bytes | None = None, **fields: str) -> bytes:
    """Names of fields with `_` for `-`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: a.example"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in fields.items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")


def connect(port: int, source: str = "127.0.0.1", *, receive: int = 0) -> Client:
    sock = socket.socket()
    sock.settimeout(DEADLINE)
    if receive:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    if source != "127.0.0.1":
        sock.bind((source, 0))
    sock.connect(("127.0.0.1", port))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Client(sock)


class Asking(threading.Thread):
    """A request of a client of its own, asked in the background; `answer` waits for what became of it."""

    def __init__(
        self, port: int, target: str = "/", method: str = "GET", body: bytes | None = None, **fields: str
    ) -> None:
        super().__init__(daemon=True)
        self._port, self._how = port, (target, method, body)
        self._fields = fields
        self._answer: Answer | None = None
        self._error: Exception | None = None
        self.start()

    def run(self) -> None:
        try:
            with connect(self._port) as client:
                self._answer = client.ask(*self._how, **self._fields)
        except Exception as error:
            self._error = error

    @property
    def answer(self) -> Answer:
        self.join(DEADLINE)
        if self._error is not None:
            raise self._error
        assert self._answer is not None, "no answer in time"
        return self._answer


# --- the gateway -----------------------------------------------------------------------------------------------


def place(port: int, **more: Any) -> Instance:
    """An instance at a port of this machine, on a row of its own."""
    given = {"kind": "address", "host": "127.0.0.1", "resolved": ("127.0.0.1",), "row": 0, "name": f"127.0.0.1:{port}"}
    given |= more
    given["row"] = given["row"] or next(_rows)
    return Instance(port=port, **given)


def app(*instances: Instance, **more: Any) -> App:
    """An app with a name and row of its own: what is counted for it is this test's alone."""
    number = next(_apps)
    given: dict[str, Any] = {"slow_start": 0.0, "wanted": max(len(instances), 1), "row": number % 500}
    return App(name=more.pop("name", f"app{number}"), instances=instances, **(given | more))


class Gateway:
    """A worker, and what it told."""

    def __init__(self, worker: WorkerUnderTest) -> None:
        self.worker = worker
        self.port = worker.port
        self._told = 0

    def serve(self, *apps: App, **settings: Any) -> App:
        self.worker.table(*apps, **settings)
        self.apps = apps
        return apps[0]

    def connect(self, **more: Any) -> Client:
        return connect(self.port, **more)

    def ask(self, *how: Any, **fields: str) -> Answer:
        """One request on a connection of its own."""
        with self.connect() as client:
            return client.ask(*how, **fields)

    def later(self, *how: Any, **fields: str) -> Asking:
        return Asking(self.port, *how, **fields)

    def all(self, kind: type) -> list[Any]:
        return [each for each in tuple(self.worker.received) if isinstance(each, kind)]

    def rows(self, name: str) -> dict[str, Row]:
        """The present counts of each instance of an app: `Start` has the worker tell everything at once."""
        before = len(self.worker.received)
        self.worker.tell(messages.Start(messages.PROTOCOL, 0, "", []))
        until(lambda: any(isinstance(each, messages.Ready) for each in self.worker.received[before:]), "Ready")
        rows: dict[str, Row] = {}
        for stats in self.all(messages.Stats):
            for row in stats.rows:
                if row.app == name:
                    rows[row.instance] = row
        return rows

    def counted(self, name: str, fault: str) -> int:
        return sum(row.faults.get(fault, 0) for row in self.rows(name).values())

    def learned(self, name: str, instance: str = "") -> list[Learned]:
        return [each for each in self.all(Learned) if each.app == name and instance in ("", each.instance)]

    def blamed(self, name: str) -> dict[str, int]:
        """Faults that control heard of at once, by name."""
        sums: dict[str, int] = {}
        for learned in self.learned(name):
            for fault, count in learned.faults.items():
                sums[fault] = sums.get(fault, 0) + count
        return sums

    def record_of(self, spec: App) -> Record:
        """The newest record of an app."""
        return until(lambda: self.worker.find(app=spec.name, limit=1), f"a record of {spec.name}")[0]

    def in_flight(self, spec: App) -> int:
        return sum(self.worker.board.total(each.row) for each in spec.instances)

    def shown(self, spec: App, answer: Answer | None, fault: Fault, *, status: int = 0, name: str = "") -> Record:
        """Asserts all that follows from a fault: answer, record, counts, blame, and that nothing is held."""
        app_name = name or spec.name
        status = status or fault.status or 0
        if answer is not None:
            assert answer.status == status, answer
            assert answer.id, answer
            if fault.error is not None:
                assert answer.fields["proxy-status"] == f'triage; error={fault.error}; details="{fault.name}"'
            if status in (503, 429):
                assert 1 <= int(answer.fields["retry-after"]) <= 30 or status == 429, answer
            else:
                assert "retry-after" not in answer.fields
            if answer.body:
                assert fault.name.encode() in answer.body and answer.id.encode() in answer.body
            record = self.worker.record(answer.id)
        else:
            record = self.record_of(spec)
        assert record.fault == fault.name, record
        assert record.status == (answer.status if answer else record.status)
        counted_for = record.app
        until(lambda: self.counted(counted_for, fault.name) >= 1, f"{fault.name} counted for {counted_for!r}")
        if record.instance and fault.blame is not Blame.NO:
            until(lambda: self.blamed(app_name).get(fault.name), f"{fault.name} learned")
        else:
            assert fault.name not in self.blamed(app_name)
        until(lambda: self.in_flight(spec) == 0, "free slots")
        assert record.total_us >= sum(
            each or 0 for each in (record.head_us, record.queue_us, record.connect_us, record.tls_us)
        )
        return record


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))

