"""Two sicknesses at once: both have to be named, whichever comes first."""

from tests.sick.case import Case, Peer, Stream, Truth, table

TWO = (
    Case(
        "two-error-slow",
        "The database takes 6 s, and GET /invoice raises ZeroDivisionError",
        table("@PYTHON@ shop.py @DB@ 60", instances=2),
        Truth(right=("slow-dependency", "exception"), also=(("slow-dependency",), ("exception",))),
        Truth(right=("exception",), fine=("app-error",), names=("ZeroDivisionError",)),
        streams=(Stream("/product", 6), Stream("/about", 3), Stream("/invoice", 2, late=True)),
        peers={"DB": Peer("sql", port=5432)}, turn=lambda scene: scene.tell("DB", "delay 6"), ask=("app-error",),
        ask_path="/invoice",
    ),
    Case(
        "two-error-memory",
        "Memory grows 4 MB a second towards 300 MB, and GET /invoice raises ZeroDivisionError",
        table("@PYTHON@ visits.py", process='memory = "300MB"'),
        # On a slow machine the limit is reached, and the kernel kills it: then that is what is wrong.
        Truth(right=("memory-growth", "oom", "exception"), also=(("memory-growth", "oom"), ("exception",))),
        Truth(right=("exception",), fine=("app-error",), names=("ZeroDivisionError",)),
        streams=(Stream("/visit", 10), Stream("/invoice", 2, late=True)), before=25, ask=("app-error",),
    ),
    Case(
        "two-loop-truncated",
        "GET /archive blocks the event loop for 1.5 s, and GET /export breaks off in its content",
        table("@PYTHON@ chat.py", gateway='slow = "500ms"'),
        Truth(right=("loop-blocked", "truncated"), also=(("loop-blocked",), ("truncated",))),
        Truth(right=("truncated",), names=("/export", "90,000", "90000", "4,700")),
        streams=(Stream("/messages", 8), Stream("/archive", 0.4, late=True), Stream("/export", 1, late=True)),
        ask=("body-truncated", "closed-before-head"), ask_path="/export",
    ),
    Case(
        "two-cpu-refused",
        "GET /sort computes more than one core can do, and the service behind GET /price is down",
        table("@PYTHON@ prices.py @SERVICE@", app='timeouts = { first_byte = "8s" }', gateway='slow = "500ms"'),
        Truth(right=("cpu-bound", "gil", "dependency-refused", "exception", "slow-handler"),
              also=(("cpu-bound", "gil", "slow-handler"), ("dependency-refused", "exception"))),
        Truth(right=("dependency-refused",), fine=("exception",), names=("refused",)),
        streams=(Stream("/price", 4), Stream("/sort", 5, late=True)), peers={"SERVICE": Peer("http")},
        turn=lambda scene: scene.tell("SERVICE", "refuse"), ask=("app-error",), ask_path="/price",
    ),
    Case(
        "two-crash-left",
        "GET /thumb crashes the process (SIGSEGV), and clients leave after 1 s from pages that take 3 s",
        table("@PYTHON@ thumbs.py", instances=2),
        Truth(right=("native-crash", "client-left", "slow-handler", "crash-loop", "suspect-request"),
              also=(("native-crash", "suspect-request"), ("client-left", "slow-handler"))),
        Truth(right=("native-crash",), fine=("suspect-request", "crash-loop")),
        streams=(Stream("/", 8), Stream("/thumb", 0.4, late=True), Stream("/page", 3, timeout=1.0, late=True)),
        ask=("instance-exited",), seen=lambda scene: len(scene.load.troubled()) > 12,
    ),
    Case(
        "two-pool-slow",
        "A database that is slow (3 s) and a pool of connections that is too small even for that",
        table("@PYTHON@ shop.py @DB@ 3", app='timeouts = { first_byte = "6s" }'),
        Truth(right=("db-pool", "slow-dependency"), also=(("db-pool",), ("slow-dependency",))),
        Truth(right=("db-pool", "slow-dependency")),
        streams=(Stream("/product", 8),), peers={"DB": Peer("sql", port=5432)},
        turn=lambda scene: scene.tell("DB", "delay 3"), settle=6, ask=("head-timeout",),
    ),
)  # fmt: skip
