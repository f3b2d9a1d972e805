"""Processes that stand still or have too few hands, and what they depend on."""

from tests.sick.case import Case, Peer, Stream, Truth, table
from tests.sick.scene import Scene

SHORT = 'timeouts = { first_byte = "4s" }'
HTTP = Peer("http")
SQL = Peer("sql", port=5432)


def _seconds(name: str, seconds: float):
    def turn(scene: Scene) -> None:
        scene.tell(name, f"delay {seconds}")

    return turn


STUCK = (
    Case(
        "deadlock",
        "POST /transfer and GET /audit take two locks in opposite order",
        table("@PYTHON@ bank.py", app=SHORT),
        Truth(right=("deadlock",), fine=("lock",), names=("bank.py", "audit", "transfer")),
        streams=(Stream("/", 5), Stream("/transfer", 8, "POST", late=True), Stream("/audit", 8, late=True)),
        ask=("head-timeout",), settle=5, quick=True,
    ),
    Case(
        "lock-held",
        "POST /recount holds the lock that every GET /stock needs, for 2.5 s each time",
        table("@PYTHON@ stock.py", instances=1, gateway='slow = "500ms"'),
        Truth(right=("lock",), names=("recount", "stock.py")),
        streams=(Stream("/stock", 10), Stream("/recount", 0.5, "POST", late=True, at_most=3)), ask=("slow",),
        ask_path="/stock",
    ),
    Case(
        "loop-sleep",
        "An aiohttp handler calls something that sleeps 1.5 s on the event loop",
        table("@PYTHON@ chat.py", gateway='slow = "500ms"'),
        Truth(right=("loop-blocked",), names=("upload", "archive")),
        streams=(Stream("/messages", 10), Stream("/archive", 0.5, late=True)), ask=("slow",),
        ask_path="/messages", quick=True,
    ),
    Case(
        "loop-cpu",
        "An ASGI handler computes for over a second on the event loop",
        table("@PYTHON@ -m uvicorn charts:app --port {port} --no-access-log", gateway='slow = "500ms"',
              health='path = "/"\ninterval = "1s"'),
        Truth(right=("loop-blocked",), fine=("cpu-bound",), names=("draw", "charts.py", "/chart")),
        streams=(Stream("/", 8), Stream("/chart", 0.4, late=True, at_most=4)), ask=("slow",), ask_path="/",
        prepare=lambda scene: scene.copy("charts.py") and None,
    ),
    Case(
        "loop-node",
        "Node computes a digest for 1.8 s on its only thread",
        table("@NODE@ feed.js", gateway='slow = "500ms"'),
        Truth(right=("loop-blocked",), fine=("cpu-bound",)),
        streams=(Stream("/", 8), Stream("/digest", 0.35, late=True, at_most=4)), ask=("slow",), ask_path="/",
        needs=("node",),
    ),
    Case(
        "threads-taken",
        "Four threads serve, each request keeps one for 0.8 s, and 12 a second come",
        table("@PYTHON@ forms.py 0.8", app=SHORT),
        Truth(right=("workers-exhausted",), fine=("over-capacity", "slow-handler", "backlog")),
        streams=(Stream("/convert", 3, until_turn=True), Stream("/convert", 12, late=True)),
    ),
    Case(
        "gunicorn-sync",
        "gunicorn has two sync workers; each request takes one for 1 s, and 6 a second come",
        table("@BIN@/gunicorn -b 127.0.0.1:{port} -w 2 wsgi:app", app=SHORT, health='interval = "1s"'),
        Truth(right=("workers-exhausted",), fine=("over-capacity", "slow-handler", "backlog")),
        streams=(Stream("/convert", 1, until_turn=True), Stream("/convert", 6, late=True)), needs=("gunicorn",),
        prepare=lambda scene: scene.copy("wsgi.py") and None,
    ),
    Case(
        "gunicorn-timeout",
        "gunicorn kills a worker that is busy for over 3 s (WORKER TIMEOUT); GET /statement takes 10 s",
        table("@BIN@/gunicorn -b 127.0.0.1:{port} -w 3 -t 3 wsgi:app", health='interval = "1s"'),
        Truth(right=("worker-timeout",), fine=("slow-handler",), names=("WORKER TIMEOUT", "/statement", "timeout")),
        streams=(Stream("/", 8), Stream("/statement", 0.5, late=True)), needs=("gunicorn",),
        ask_path="/statement", prepare=lambda scene: scene.copy("wsgi.py") and None,
    ),
    Case(
        "db-pool",
        "Two database connections for 25 requests a second, each of which needs one for 0.15 s",
        table("@PYTHON@ shop.py @DB@ 2", app=SHORT), Truth(right=("db-pool",), names=("acquire", "pool", "db.py")),
        peers={"DB": Peer("sql", port=5432, delay=0.15)},
        streams=(Stream("/product", 6, until_turn=True), Stream("/product", 25, late=True)), settle=6,
    ),
    Case(
        "pool-leak",
        "GET /book?id=0 does not give its database connection back: after four of them nobody gets one",
        table("@PYTHON@ library.py @DB@", app=SHORT),
        Truth(right=("pool-leak", "db-pool"), names=("acquire", "pool", "db.py")),
        peers={"DB": SQL}, streams=(Stream("/book?id=1", 8), Stream("/book?id=0", 1, late=True)), settle=5,
    ),
    Case(
        "slow-database",
        "The database at port 5432 takes 8 s to answer instead of 5 ms",
        table("@PYTHON@ shop.py @DB@ 40", instances=2,
              app='max_inflight = 20\nqueue = { size = 100, timeout = "2s" }'),
        Truth(right=("slow-dependency",), names=("@DB@",)),
        peers={"DB": SQL}, streams=(Stream("/product", 15), Stream("/about", 3)), turn=_seconds("DB", 8), quick=True,
    ),
    Case(
        "slow-service",
        "The HTTP service that it asks in threads takes 5 s to answer",
        table("@PYTHON@ prices.py @SERVICE@", instances=2), Truth(right=("slow-dependency",), names=("@SERVICE@",)),
        peers={"SERVICE": HTTP}, streams=(Stream("/price", 8),), turn=_seconds("SERVICE", 5), ask=("slow",),
    ),
    Case(
        "slow-service-async",
        "The HTTP service that it asks from coroutines takes 5 s: no thread's stack shows it",
        table("@PYTHON@ quotes.py @SERVICE@"), Truth(right=("slow-dependency",), names=("@SERVICE@",)),
        peers={"SERVICE": HTTP}, streams=(Stream("/quote", 8),), turn=_seconds("SERVICE", 5), ask=("slow",),
    ),
    Case(
        "service-refuses",
        "The HTTP service that it asks is down: connection refused, answered with 500",
        table("@PYTHON@ prices.py @SERVICE@", instances=2),
        Truth(right=("dependency-refused",), fine=("exception",), names=("@SERVICE@", "ConnectionRefused", "refused")),
        peers={"SERVICE": HTTP}, streams=(Stream("/price", 8),), turn=lambda scene: scene.tell("SERVICE", "refuse"),
        quick=True,
    ),
    Case(
        "name-unknown",
        "The name of its mail relay does not resolve: socket.gaierror, answered with 500",
        table("@PYTHON@ mailer.py", instances=2),
        Truth(right=("dns",), fine=("exception",), names=("gaierror", "resolve", "relay.internal.invalid")),
        streams=(Stream("/", 8), Stream("/send", 3, "POST", late=True)),
    ),
    Case(
        "address-unknown",
        "The name in the app's address does not resolve",
        table(addresses='"http://nowhere.internal.invalid:8000"', health='interval = "2s"'),
        Truth(right=("dns",), names=("nowhere.internal.invalid",)),
        streams=(Stream("/", 4, timeout=10),), starts=False, before=3, ask=("dns-error", "dns-timeout", "all-ejected"),
    ),
)  # fmt: skip
