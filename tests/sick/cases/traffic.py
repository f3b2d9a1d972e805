"""One instance of several, a deploy, clients, capacity, errors of the app's own, and acts by hand."""

from tests.sick.case import Case, Stream, Truth, table
from tests.sick.scene import Scene

CLIENTS = tuple(f"127.0.0.{number}" for number in (2, 3, 4, 5))


def three(scene: Scene) -> None:
    """Three that the gateway does not start; the last has another store."""
    scene.copy("tenants.py")
    scene.copy("web.py")
    for name, store in (("ONE", "a"), ("TWO", "a"), ("SIX", "b")):
        env = {"TENANTS_STORE": store}
        scene.words[name] = str(scene.run(name, scene.words["PYTHON"], "tenants.py", env=env))


def deploy(scene: Scene) -> None:
    scene.in_background(lambda: scene.reload('TOTALS = "float"', 'TOTALS = "exact"'))


def scale_to_none(scene: Scene) -> None:
    scene.post("apps/web/scale", {"instances": 0, "reason": "night"})


TRAFFIC = (
    Case(
        "one-bad",
        "One of three addresses answers 500, for its store refuses it; the other two are well",
        table(addresses='"http://127.0.0.1:@ONE@", "http://127.0.0.1:@TWO@", "http://127.0.0.1:@SIX@"',
              app='balance = "round-robin"'),
        Truth(right=("bad-instance",), names=("@SIX@",)),
        streams=(Stream("/tenant", 20),), prepare=three, starts=False, seen=lambda scene: True, ask=("app-error",),
    ),
    Case(
        "bad-deploy",
        "A reload brings a setting with which GET /total raises TypeError",
        table("@PYTHON@ tenants.py", instances=2, env='TOTALS = "float"'),
        Truth(right=("bad-deploy",), fine=("exception",), names=("TypeError", "deploy", "config")),
        streams=(Stream("/total", 10), Stream("/tenant", 10)), turn=deploy, before=8, ask=("app-error",),
    ),
    Case(
        "noisy-client",
        "One client of five sends 60 requests a second where all others together send 8",
        table("@PYTHON@ rooms.py 0.3", app='max_inflight = 8\nqueue = { size = 50, timeout = "1s" }'),
        Truth(right=("noisy-client",), names=("127.0.0.9",)),
        streams=(*(Stream("/room", 2, client=one) for one in CLIENTS),
                 Stream("/room", 60, client="127.0.0.9", late=True, at_most=120)),
        ask=("queue-timeout", "queue-full", "shed"),
    ),
    Case(
        "retry-storm",
        "It answers 503 to most, and clients ask up to five times more at once: three times the traffic",
        table("@PYTHON@ sheet.py 14", instances=1),
        Truth(right=("retry-storm",), fine=("app-error",)),
        streams=tuple(Stream("/sheet", 3, client=one, how="insist") for one in CLIENTS),
        before=12, ask=("app-error",),
    ),
    Case(
        "over-capacity",
        "Five times the requests come since a moment ago; it can serve 20 a second",
        table("@PYTHON@ forms.py 0.2", app='max_inflight = 8\nqueue = { size = 100, timeout = "1s" }'),
        Truth(right=("over-capacity",), fine=("workers-exhausted", "max-inflight")),
        streams=(*(Stream("/convert", 2, client=one) for one in CLIENTS),
                 *(Stream("/convert", 8, client=one, late=True) for one in CLIENTS)),
        before=12, ask=("queue-timeout", "queue-full", "shed"),
    ),
    Case(
        "few-slots",
        "max_inflight is 1; the app waits 0.15 s per request, has nothing else to do, and 15 a second come",
        table("@PYTHON@ rooms.py 0.15", app='max_inflight = 1\nqueue = { size = 100, timeout = "2s" }'),
        Truth(right=("max-inflight",), fine=("over-capacity",), names=("max_inflight",)),
        streams=tuple(Stream("/room", 4, client=one) for one in CLIENTS),
        ask=("queue-timeout", "queue-full", "shed"), quick=True,
    ),
    Case(
        "slow-readers",
        "Clients read a download of 40 MB at 60 KB a second; the app is well",
        table("@PYTHON@ reports.py 1"),
        Truth(right=("slow-client",), nothing=True),
        streams=(Stream("/", 8), Stream("/video", how="read_slowly", count=5, size=60_000, late=True, timeout=8)),
        ask=("client-left", "client-stalled", "slow"), seen=lambda scene: len(scene.load.since_turn()) > 90,
        ask_path="/video",
    ),
    Case(
        "upload-cut",
        "Clients break off in the middle of their uploads; why can't be known",
        table("@PYTHON@ uploads.py"),
        Truth(right=("upload-cut", "client-left"), unknown=True, nothing=True),
        streams=(Stream("/", 8), Stream("/upload", how="cut_upload", method="POST", body=400_000, count=4, pause=0.3,
                                        late=True)),
        ask=("client-left",), prepare=lambda scene: (scene.cwd / "data").mkdir(),
    ),
    Case(
        "clients-leave",
        "Clients leave after 1 s, for an answer that takes 3 s; their reasons are theirs",
        table("@PYTHON@ reports.py 3", instances=2),
        Truth(right=("client-left",), fine=("slow-handler",), unknown=True),
        streams=(Stream("/", 8), Stream("/report", 3, timeout=1.0, late=True)), ask=("client-left",),
    ),
    Case(
        "exception",
        "GET /invoice raises ZeroDivisionError; all other paths are well",
        table("@PYTHON@ invoices.py", instances=2),
        Truth(right=("exception",), fine=("app-error",), names=("ZeroDivisionError", "/invoice")),
        streams=(Stream("/", 10), Stream("/invoice", 2, late=True)), ask=("app-error",), quick=True,
    ),
    Case(
        "no-traceback",
        "GET /panel answers 500 and logs nothing: what lies behind it can't be known from outside",
        table("@PYTHON@ invoices.py", instances=2),
        Truth(right=("app-error",), names=("/panel",), unknown=True),
        streams=(Stream("/", 10), Stream("/panel", 2, late=True)), ask=("app-error",),
    ),
    Case(
        "stopped",
        "Somebody stopped the app by hand",
        table("@PYTHON@ rooms.py 0.02", instances=2), Truth(right=("by-hand",)),
        streams=(Stream("/room", 8),), turn=lambda scene: scene.post("apps/web/stop", {"reason": "cleaning"}),
        ask=("stopped",),
    ),
    Case(
        "held",
        "Somebody holds the app's requests by hand",
        table("@PYTHON@ rooms.py 0.02", instances=2, app='queue = { timeout = "2s" }'), Truth(right=("by-hand",)),
        streams=(Stream("/room", 5),), turn=lambda scene: scene.post("apps/web/hold", {"reason": "cleaning"}),
        ask=("held-too-long",),
    ),
    Case(
        "scaled-to-none",
        "Somebody scaled the app to no instance by hand",
        table("@PYTHON@ rooms.py 0.02", instances=2, app='queue = { timeout = "2s" }'), Truth(right=("by-hand",)),
        streams=(Stream("/room", 5),), turn=scale_to_none, ask=("no-instance",),
    ),
)  # fmt: skip
