"""Make docs/sample-report.html anew: `python -m tests.report.sample [FILE]`, some two minutes.

A real gateway with a real app under load; the price service that it asks gets slow; then *Diagnose now*. Nothing in
the report is made up; only folders of this machine are named as they would be on a server.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from proxy.cli.client import Gateway
from tests.e2e.support import LONG, MARKER, ROOT, Triage, serve, until

FILE: Final = ROOT / "docs" / "sample-report.html"
APP: Final = Path(__file__).with_name("catalog.py")
WELL: Final = 60.0  # seconds of ordinary traffic
ILL: Final = 25.0  # seconds of the slow peer before anybody looks
SLOW: Final = 6.0  # seconds that each price takes then
PER_SECOND: Final = 40.0
OTHERS: Final = "host_events"  # not gathered: what the kernel wrote here of other programs
CONFIG: Final = """\
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
data_dir = "var"

[admin]
listen = "127.0.0.1:0"

[apps.catalog]
max_inflight = 20
queue = {{ size = 200, timeout = "2s" }}
diagnose = {{ on = [] }}

[apps.catalog.process]
command = "{python} app.py {{port}} {port}"
cwd = "app"
instances = 2
memory = "512MB"
inherit_env = ["PATH", "HOME", "LANG", "TZ", "{marker}"]
{user}

[apps.catalog.health]
path = "/healthz"
interval = "2s"
timeout = "1s"
"""


class Prices:
    """The price service: one line in, one line out, after `wait` seconds."""

    def __init__(self) -> None:
        self.wait = 0.02
        self.server = socket.create_server(("127.0.0.1", 0), backlog=256)
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self.server.getsockname()[1])

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._answer, args=(self.server.accept()[0],), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            if connection.recv(100):
                time.sleep(self.wait)
                connection.sendall(b"9.90\n")


@contextmanager
def load(port: int) -> Iterator[None]:
    """PER_SECOND requests a second, whether they are answered or not."""
    stop = threading.Event()

    def ask(number: int) -> None:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), LONG) as connection:
            connection.sendall(b"GET /products/%d HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n" % number)
            while connection.recv(4096):
                pass

    def run() -> None:
        began, number = time.monotonic(), 0
        while not stop.wait(max(0.0, began + number / PER_SECOND - time.monotonic())):
            threading.Thread(target=ask, args=(number % 90,), daemon=True).start()
            number += 1

    runner = threading.Thread(target=run)
    runner.start()
    try:
        yield
    finally:
        stop.set()
        runner.join()


def main(arguments: list[str]) -> int:
    """Write the report to the file named, else to docs/."""
    target = Path(arguments[1]) if len(arguments) > 1 else FILE
    folder = Path(tempfile.mkdtemp(prefix="triage-"))
    (folder / "app").mkdir()
    shutil.copy(APP, folder / "app" / "app.py")
    prices = Prices()
    user = 'user = "root"' if os.geteuid() == 0 else ""
    config = CONFIG.format(python=sys.executable, port=prices.port, marker=MARKER, user=user)
    triage = serve(folder, config, PATH=f"{Path(sys.executable).parent}:/usr/bin:/bin", HOME=str(folder / "app"))
    try:
        triage.await_ready()
        until(lambda: len(triage.ready("catalog")) == 2, "two ready instances")
        with load(triage.port):
            time.sleep(WELL)
            prices.wait = SLOW
            time.sleep(ILL)
            told = diagnose(triage)
        page = (Path(told["folder"]) / "report.html").read_text()
    finally:
        triage.end()
        prices.server.close()
        shutil.rmtree(folder, ignore_errors=True)
    target.write_text(elsewhere(page, folder))
    print(f"{target}  {target.stat().st_size:,} bytes  {told['verdict']}")
    return 0 if told["state"] == "done" and told["top"] else 1


def diagnose(triage: Triage) -> dict[str, Any]:
    """A session by hand, to its end."""
    gateway = Gateway(triage.admin, timeout=LONG)
    try:
        chosen = [one["id"] for one in gateway.get("collectors")["items"] if one["default"] and one["id"] != OTHERS]
        body = {"app": "catalog", "seconds": 15, "reason": "the shop is slow", "collectors": chosen}
        session = gateway.post("sessions", body)["id"]
    finally:
        gateway.close()

    def ended() -> dict[str, Any] | None:
        told: dict[str, Any] = triage.api(f"sessions/{session}")
        return told if told["state"] in ("done", "cancelled", "failed", "lost") else None

    return until(ended, "the session has ended", 120)


def elsewhere(page: str, folder: Path) -> str:
    """With the folders of this machine named as on a server, and without its name."""
    named = {
        str(folder): "/srv/catalog", str(ROOT): "/opt/triage", sys.prefix: "/opt/venv", sys.base_prefix: "/opt/python",
        str(Path.home()): "/home/app", socket.gethostname(): "web1",
    }  # fmt: skip
    for here, there in sorted(named.items(), key=lambda item: -len(item[0])):
        if len(here) > 5:
            page = page.replace(here, there)
    return page


if __name__ == "__main__":
    sys.exit(main(sys.argv))
