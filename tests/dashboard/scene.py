"""A gateway as people have it: two apps that are asked all the time, and now and then something goes wrong."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from proxy.cli.client import Gateway
from tests.e2e.support import LONG, Triage, process_table, serve, until

DESK: Final = "desk.example.com"
TWICE: Final = {"shop": 2, "desk": 2}

CONFIG: Final = f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = 2
data_dir = "var"

[admin]
listen = "127.0.0.1:0"

[apps.shop]
retries = {{ attempts = 0 }}

{process_table("shop", 2, diagnose='on = ["incident"]')}

[apps.desk]
hosts = ["{DESK}"]

{process_table("desk", 2)}
"""


def ask(port: int, target: str, method: str = "GET", host: str = "", body: str | None = None) -> int:
    """Status of one request; 0: there was no answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=LONG)
    try:
        connection.request(method, target, body, {"Host": host} if host else {})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


class Traffic:
    """Requests to both apps, some each second, until the block ends."""

    def __init__(self, port: int, per_second: float = 25.0) -> None:
        self.port = port
        self.pause = 1 / per_second
        self.made = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Traffic:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        asked = [("/products", "GET", ""), ("/orders", "POST", ""), ("/products", "GET", DESK), ("/", "GET", "")]
        while not self._stop.wait(self.pause):
            target, method, host = asked[self.made % len(asked)]
            ask(self.port, target, method, host, '{"product": 2}' if method == "POST" else None)
            self.made += 1


def crash(triage: Triage, app: str = "shop") -> str:
    """End one of its instances by a request, which gets a 502; its id in Triage."""
    before = {one["id"] for one in triage.api("requests", app=app, fault="instance-exited", limit=200)["items"]}
    status = ask(triage.port, "/crash", host=DESK if app == "desk" else "")
    assert status == 502, status

    def kept() -> str:
        items = triage.api("requests", app=app, fault="instance-exited", limit=200)["items"]
        fresh = (one for one in items if one["id"] not in before)
        return next((one["id"] for one in fresh if one["target"] == "/crash"), "")  # others may have been on it too

    return until(kept, "the lost request is kept")


def admin(triage: Triage) -> str:
    """Where a browser goes."""
    return str(triage.api("status")["gateway"]["admin"])


def login_link(triage: Triage, to: str = "#/") -> str:
    """An address that logs a browser in, as `triage open` asks for it."""
    gateway = Gateway(triage.admin, timeout=LONG)
    try:
        made: dict[str, Any] = gateway.post("login-links", {"to": to})
        return str(made["url"])
    finally:
        gateway.close()


def login(admin: str, token: str) -> tuple[str, str]:
    """Name and value of the cookie that a browser gets for the token."""
    connection = http.client.HTTPConnection(admin.removeprefix("http://"), timeout=LONG)
    try:
        connection.request("POST", "/login", json.dumps({"token": token}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 204, answer.status
        name, _, value = answer.headers["Set-Cookie"].partition(";")[0].partition("=")
        return name, value
    finally:
        connection.close()


@contextlib.contextmanager
def running(
    config: str = CONFIG, instances: Mapping[str, int] = TWICE, files: Iterable[Path] = ()
) -> Iterator[Triage]:
    """A ready gateway in a folder with a short name, and nothing of it afterwards. `instances`: how many each app has;
    `files` are copied beside its config."""
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    for file in files:
        shutil.copy(file, folder)
    triage = serve(folder, config)
    try:
        triage.await_ready()
        until(lambda: all(len(triage.ready(app)) == many for app, many in instances.items()), "all instances are ready")
        # What a worker counted before its first message belongs to no second.
        until(lambda: all(one["lag_ms"] is not None for one in triage.workers()), "news of each worker")
        yield triage
    finally:
        try:
            triage.end()
        finally:
            shutil.rmtree(folder, ignore_errors=True)
