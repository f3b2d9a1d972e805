"""Processes that end, and processes that do not get ready."""

import os
import signal

from tests.sick.case import Case, Stream, Truth, table
from tests.sick.scene import Scene


def exits(scene: Scene) -> bool:
    """An instance ended by itself."""
    return any(one["kind"] == "exited" for one in scene.api("events", app="web", limit=200)["items"])


def twice(scene: Scene) -> bool:
    return sum(one["kind"] == "exited" for one in scene.api("events", app="web", limit=200)["items"]) >= 2


def kill_one(scene: Scene) -> None:
    os.kill(scene.pids()[0], signal.SIGKILL)


def unready(scene: Scene) -> bool:
    return bool(scene.load.troubled())


ENDINGS = (
    Case(
        "exit-exception",
        "The main thread meets a currency it does not know: KeyError, exit code 1",
        table("@PYTHON@ orders.py", instances=2),
        Truth(right=("exit-exception",), fine=("crash-loop", "exception", "suspect-request"), names=("KeyError",)),
        streams=(Stream("/", 10), Stream("/orders?currency=EUR", 4, "POST"),
                 Stream("/orders?currency=JPY", 0.4, "POST", late=True)),
        seen=exits, ask=("instance-exited",), quick=True,
    ),
    Case(
        "exit-code",
        "The process leaves with exit code 3 when its seats are used up, and logs that",
        table("@PYTHON@ desk.py", instances=2),
        Truth(right=("exit-code",), fine=("crash-loop",)),
        streams=(Stream("/ticket", 10), Stream("/ticket", 10, "POST")), seen=exits, ask=("instance-exited",),
    ),
    Case(
        "segfault",
        "GET /thumb makes a native library read where nothing is: SIGSEGV",
        table("@PYTHON@ thumbs.py", instances=2),
        Truth(right=("native-crash",), fine=("crash-loop", "suspect-request"), names=("/thumb", "SEGV", "signal 11")),
        streams=(Stream("/", 10), Stream("/thumb", 0.5, late=True)), seen=exits, ask=("instance-exited",), quick=True,
    ),
    Case(
        "abort-node",
        "Node calls abort() while it renders a deep page: SIGABRT",
        table("@NODE@ pages.js", instances=2),
        Truth(right=("native-crash",), fine=("crash-loop", "suspect-request"), names=("/render", "ABRT", "signal 6")),
        streams=(Stream("/?depth=3", 10), Stream("/render?depth=60", 0.4, late=True)),
        seen=exits, ask=("instance-exited",), needs=("node",),
    ),
    Case(
        "oom",
        "GET /export builds more rows than the memory limit of 120 MB holds: the kernel kills it",
        table("@PYTHON@ exports.py", instances=2, process='memory = "120MB"'),
        Truth(right=("oom",), fine=("suspect-request", "crash-loop"), names=("memory",)),
        streams=(Stream("/", 10), Stream("/export?tenant=88", 0.25, late=True)),
        seen=exits, ask=("instance-exited",), needs=("root", "cgroup"), quick=True,
    ),
    Case(
        "killed-by-child",
        "A shell that the app started sends it SIGKILL; nothing records who did",
        table("@PYTHON@ parcels.py tidy", instances=2),
        Truth(right=("killed-unknown",), fine=("crash-loop",), unknown=True),
        streams=(Stream("/", 10), Stream("/parcel", 15, "POST")), seen=exits, ask=("instance-exited",),
    ),
    Case(
        "killed-by-somebody",
        "Somebody outside sends SIGKILL to an instance, once",
        table("@PYTHON@ parcels.py", instances=2),
        Truth(right=("killed-unknown",), unknown=True),
        streams=(Stream("/", 10), Stream("/parcel", 30, "POST")), turn=kill_one, seen=exits, ask=("instance-exited",),
    ),
    Case(
        "exit-clean",
        "The server ends by itself with exit code 0 after 120 requests (uvicorn --limit-max-requests)",
        table("@PYTHON@ -m uvicorn hello:app --port {port} --limit-max-requests 120 --no-access-log", instances=2,
              health='interval = "1s"\npath = "/"'),
        Truth(right=("exit-clean",), fine=("crash-loop",)),
        streams=(Stream("/", 25),), seen=twice, ask=("none",), needs=("uvicorn",),
        prepare=lambda scene: scene.copy("hello.py") and None,
    ),
    Case(
        "crash-loop",
        "Every few seconds it reads a damaged file of rates: JSONDecodeError, exit code 1, again and again",
        table("@PYTHON@ ledger.py", instances=2),
        Truth(right=("crash-loop",), fine=("exit-exception", "exception")),
        streams=(Stream("/", 15),), seen=twice, settle=8, starts=False,
    ),
    Case(
        "missing-module",
        "It imports a module that is not installed, so it never starts",
        table("@PYTHON@ billing.py", instances=2),
        Truth(right=("start-failed",), fine=("crash-loop", "exit-exception", "exception"), names=("invoicing_sdk",)),
        streams=(Stream("/", 3, timeout=8),), starts=False, seen=unready, before=3, quick=True,
    ),
    Case(
        "wrong-port",
        "It listens on a port of its own instead of $PORT",
        table("@PYTHON@ catalog.py @FREE@", health='path = "/healthz"\ninterval = "1s"\nready_within = "60s"'),
        Truth(right=("wrong-port",), names=("@FREE@",)),
        streams=(Stream("/", 3, timeout=8),), starts=False, seen=unready, before=3, quick=True,
    ),
    Case(
        "wrong-address",
        "It listens at 127.0.0.2 instead of 127.0.0.1",
        table("@PYTHON@ catalog.py {port} 127.0.0.2",
              health='path = "/healthz"\ninterval = "1s"\nready_within = "60s"'),
        Truth(right=("wrong-address",), fine=("wrong-port",), names=("127.0.0.2",)),
        streams=(Stream("/", 3, timeout=8),), starts=False, seen=unready, before=3,
    ),
    Case(
        "slow-start",
        "It reads an index for 40 s before it listens; ready_within is 6 s",
        table("@PYTHON@ catalog.py {port} 127.0.0.1 40",
              health='path = "/healthz"\ninterval = "1s"\nready_within = "6s"'),
        Truth(right=("slow-start",), fine=("start-failed",)),
        streams=(Stream("/", 3, timeout=8),), starts=False, seen=unready, before=8,
    ),
    Case(
        "health-path-start",
        "The health check asks for a path that the app does not have (404), so it never becomes ready",
        table("@PYTHON@ catalog.py", health='path = "/health"\ninterval = "1s"\nready_within = "30s"'),
        Truth(right=("health-check",), fine=("start-failed",), names=("404", "/health")),
        streams=(Stream("/", 3, timeout=8),), starts=False, seen=unready, before=3,
    ),
    Case(
        "health-path-given",
        "The health check of given addresses asks for a path they do not have (404), while all real requests get 200",
        table(addresses='"http://127.0.0.1:@ONE@", "http://127.0.0.1:@TWO@"',
              health='path = "/health"\ninterval = "1s"'),
        Truth(right=("health-check",), names=("404", "/health")),
        streams=(Stream("/", 15),), ask=("none",), starts=False, before=8, seen=lambda scene: True,
        prepare=lambda scene: given(scene, ONE="catalog.py", TWO="catalog.py"),
    ),
    Case(
        "health-blind",
        "The health check passes while every real request fails: the database refuses the app's login",
        table("@PYTHON@ account.py", instances=2),
        Truth(right=("health-blind", "exception"), fine=("app-error",), names=("OperationalError", "check")),
        streams=(Stream("/", 10), Stream("/balance", 5)), before=3,
    ),
)  # fmt: skip


def given(scene: Scene, **apps: str) -> None:
    """Apps that the gateway does not start: their ports as words."""
    for name, file in apps.items():
        scene.copy(file)
        scene.copy("web.py")
        scene.words[name] = str(scene.run(name, scene.words["PYTHON"], file))
