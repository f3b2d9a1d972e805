"""Ten thousand idle keep-alive connections: kilobytes each, and Triage's processes at rest.

`python -m loadtests.idle [--connections 10000] [--tls 2000]`

Each connection has carried one request and stays open. What they cost is the growth of the worker's
proportional set (PSS), divided by their number; what the kernel keeps for a socket is not in it. nginx, when
installed, is measured beside it.
"""

from __future__ import annotations

import os
import socket
import ssl
import time
from typing import Final

from loadtests import procs
from loadtests.gateway import start_gateway
from loadtests.lab import Failed, Lab, raise_descriptor_limit
from loadtests.open_loop import Plan, run
from loadtests.peers import PEERS, start
from loadtests.peers.peer import Site
from loadtests.peers.triage import app, gateway
from loadtests.report import Report, arguments, finish_with, mib, say
from loadtests.stage import stage

KIB: Final = 1024
EACH: Final = 6 * KIB
EACH_TLS: Final = 60 * KIB
WORKER_AT_REST: Final = 45 * 2**20
ALL_AT_REST: Final = 150 * 2**20
PER_SOURCE: Final = 5000  # connections from one loopback address: its ports would run out


def connect(port: int, count: int, context: ssl.SSLContext | None) -> list[socket.socket]:
    """Open connections, one request over each; Failed when one is refused or answered wrongly."""
    opened: list[socket.socket] = []
    request = Plan(port=port, rate=0, seconds=0).requests[0]
    for number in range(count):
        source = (f"127.0.0.{2 + number // PER_SOURCE}", 0)
        try:
            connection = socket.create_connection(("127.0.0.1", port), timeout=20.0, source_address=source)
            if context is not None:
                connection = context.wrap_socket(connection, server_hostname="localhost")
            connection.sendall(request)
            answer = connection.recv(65536)
        except OSError as error:
            raise Failed(f"connection {number + 1} of {count}: {error}") from error
        opened.append(connection)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise Failed(f"connection {number + 1} of {count} was answered {answer[:80]!r}")
    return opened


def cost(pid: int, port: int, count: int, *, tls: bool) -> float:
    """Bytes of PSS for each of `count` idle connections; a few are opened before, so that code is loaded."""
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for connection in connect(port, 50, context):
        connection.close()
    time.sleep(1.0)
    before = procs.memory([pid]).pss
    opened = connect(port, count, context)
    time.sleep(1.0)
    after = procs.memory([pid]).pss
    still = sum(1 for connection in opened if _open(connection))
    for connection in opened:
        connection.close()
    if still < count:
        raise Failed(f"{count - still} of {count} idle connections were closed by the other side")
    return (after - before) / count


def _open(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        # Past TLS, to the socket itself: there bytes may wait (session tickets), but no end.
        return socket.socket.recv(connection, 1, socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False


def main() -> int:
    parser = arguments(__doc__, seconds=5.0, of="of rest before the processes are measured")
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--tls", type=int, default=2_000, help="TLS connections")
    parser.add_argument("--peers", default="triage,nginx")
    told = parser.parse_args()
    report = Report("idle", head=("what", "each", "connections"))
    # A worker admits (descriptors - 256) / 2 at most, because each may need one to an instance.
    room = (raise_descriptor_limit() - 256) // 2 - 64
    count = min(told.connections, room)
    if count < told.connections:
        report.notes.append(
            f"{count} connections instead of {told.connections}: "
            f"the limit of open files here is {raise_descriptor_limit()}."
        )
    names = told.peers.split(",")
    if "triage" in names:
        of_triage(report, told.seconds, count, told.tls)
    if "nginx" in names:
        try:
            of_nginx(report, count, told.tls)
        except Failed as error:
            report.notes.append(f"nginx: no figures: {error}.")
    return report.finish(told)


def of_triage(report: Report, rest: float, count: int, tls: int) -> None:
    """At rest, then with connections."""
    with Lab() as lab:
        standing = stage(lab)
        site = standing.site("triage")
        config = gateway(site, limits="connections = 20000") + app("web", [standing.origin_port])
        running = start_gateway(lab, site, config)
        time.sleep(rest)
        whole = procs.memory(running.pids())
        for pid in running.pids():
            used = procs.memory([pid])
            report.rows.append([f"{procs.name_of(pid)} at rest", f"RSS {mib(used.rss)}, PSS {mib(used.pss)}", ""])
        report.rows.append(["all of Triage at rest", f"RSS {mib(whole.rss)}, PSS {mib(whole.pss)}", ""])
        worker = running.worker()
        rss = procs.memory([worker]).rss
        report.check("a worker at rest, RSS", mib(rss), f"< {mib(WORKER_AT_REST)}", rss < WORKER_AT_REST)
        report.check("all of Triage at rest, PSS", mib(whole.pss), f"< {mib(ALL_AT_REST)}", whole.pss < ALL_AT_REST)
        # Serving fills a worker's caches and its fixed memory: that is not the connections' cost.
        run(Plan(port=site.port, rate=2000, seconds=3, connections=64))
        say(f"triage: {count} connections")
        each = cost(worker, site.port, count, tls=False)
        report.rows.append(["triage, an idle connection", f"{each / KIB:.1f} KiB", str(count)])
        report.check("an idle connection", f"{each / KIB:.1f} KiB", f"≤ {EACH / KIB:g} KiB", each <= EACH)
        say(f"triage: {tls} TLS connections")
        each = cost(worker, site.tls_port, tls, tls=True)
        report.rows.append(["triage, an idle TLS connection", f"{each / KIB:.1f} KiB", str(tls)])
        report.check("an idle TLS connection", f"{each / KIB:.1f} KiB", f"≤ {EACH_TLS / KIB:g} KiB", each <= EACH_TLS)


def of_nginx(report: Report, count: int, tls: int) -> None:
    """The same of nginx, without limits to keep."""
    peer = PEERS["nginx"]
    if not peer.find():
        report.notes.append(f"nginx is not installed: {peer.get}.")
        return
    with Lab() as lab:
        site: Site = stage(lab).site("nginx")
        running = start(lab, peer, site)
        worker = running.pids()[-1]
        say(f"nginx: {count} connections")
        each = cost(worker, site.port, count, tls=False)
        report.rows.append(["nginx, an idle connection", f"{each / KIB:.1f} KiB", str(count)])
        each = cost(worker, site.tls_port, tls, tls=True)
        report.rows.append(["nginx, an idle TLS connection", f"{each / KIB:.1f} KiB", str(tls)])


if __name__ == "__main__":
    if os.name != "posix":
        raise SystemExit("Linux only")
    finish_with(main)
