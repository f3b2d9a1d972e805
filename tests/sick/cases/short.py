"""Processes that are short of something: CPU, memory, descriptors, disk, places to be accepted."""

import subprocess
import sys

from tests.sick.case import Case, Stream, Truth, table
from tests.sick.scene import NotHere, Scene

SHORT = 'timeouts = { first_byte = "4s" }'


def burn(scene: Scene) -> None:
    """Programs beside Triage that compute; they end by themselves after 75 s."""
    code = "import time\nend = time.monotonic() + 75\nwhile time.monotonic() < end: sum(range(1000))"
    for number in range(8):
        scene.processes[f"batch-{number}"] = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.DEVNULL, text=True
        )


def small_disk(scene: Scene) -> None:
    folder = scene.cwd / "data"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "none", str(folder)], check=False).returncode:
        raise NotHere("needs leave to mount a tmpfs")
    scene.after.append(lambda: subprocess.run(["umount", str(folder)], check=False) and None)


SHORTAGES = (
    Case(
        "cpu-bound",
        "GET /way computes for 0.2 s in Python; 9 a second come, more than one core can do",
        table("@PYTHON@ routes.py 0.2", app=SHORT, gateway='slow = "500ms"'),
        Truth(right=("cpu-bound",), fine=("gil", "slow-handler", "over-capacity"), names=("shortest", "/way")),
        streams=(Stream("/", 4), Stream("/way", 1, until_turn=True), Stream("/way", 9, late=True)),
    ),
    Case(
        "gil",
        "Ten background threads compute for ever; requests of 0.1 s of CPU share Python's global lock with them",
        table("@PYTHON@ routes.py 0.1", gateway='slow = "500ms"'),
        Truth(right=("gil", "cpu-bound"), names=("improve", "shortest", "lock")),
        streams=(Stream("/way", 4), Stream("/improve", 0.0, "POST", late=True, count=1, pause=300)),
        ask=("slow",), ask_path="/way",
        seen=lambda scene: sum(one.seconds > 0.6 for one in scene.load.since_turn()) >= 5,
    ),
    Case(
        "cpu-throttled",
        "Its limit is 0.25 core, and its requests need 0.5",
        table("@PYTHON@ routes.py 0.06", app=SHORT, process="cpus = 0.25", gateway='slow = "500ms"'),
        Truth(right=("cpu-throttled",), fine=("cpu-bound",)),
        streams=(Stream("/way", 1, until_turn=True), Stream("/way", 8, late=True)), needs=("root", "cgroup"),
    ),
    Case(
        "host-busy",
        "Eight other programs on this machine compute; the app needs little and gets less",
        table("@PYTHON@ routes.py 0.05", instances=1, gateway='slow = "200ms"'),
        Truth(right=("host-cpu",)),
        streams=(Stream("/way", 6),), turn=burn, ask=("slow",),
        seen=lambda scene: sum(one.seconds > 0.2 for one in scene.load.since_turn()) >= 5,
    ),
    Case(
        "memory-grows",
        "It remembers 400 KB of each visit for ever: 4 MB more a second, with a limit of 300 MB",
        table("@PYTHON@ visits.py", process='memory = "300MB"'),
        Truth(right=("memory-growth", "oom")),  # the latter on a machine so slow that the limit is reached
        streams=(Stream("/visit", 10),), before=25, seen=lambda scene: True, ask=("none",),
    ),
    Case(
        "descriptors",
        "GET /file leaves its file open; it may have 100 descriptors",
        table('sh -c "ulimit -n 100; exec @PYTHON@ files.py"'),
        Truth(right=("descriptors",), fine=("exception",), names=("descriptor", "open files")),
        streams=(Stream("/file", 8),), settle=6, quick=True,
    ),
    Case(
        "disk-full",
        "POST /upload writes to a disk that is full: OSError 28, answered with 500",
        table("@PYTHON@ uploads.py"),
        Truth(right=("disk-full",), fine=("exception",), names=("space", "full", "data")),
        streams=(Stream("/", 5), Stream("/upload", 3, "POST", body=200_000, late=True)), prepare=small_disk,
        needs=("root",),
    ),
    Case(
        "backlog",
        "It serves one after the other, 1.5 s each, and lets two wait to be accepted",
        table("@PYTHON@ counter.py", health='interval = "1s"', app='timeouts = { connect = "1s", first_byte = "8s" }'),
        Truth(right=("backlog",), fine=("workers-exhausted", "slow-handler", "over-capacity")),
        streams=(Stream("/", 0.4, until_turn=True), Stream("/", 5, late=True)),
        ask=("connect-timeout", "head-timeout"),
    ),
    Case(
        "gateway-full",
        "The gateway may have 40 connections, and clients hold more than that",
        table("@PYTHON@ rooms.py 0.02", gateway="limits = { connections = 40 }"),
        Truth(right=("gateway-overload",)),
        streams=(Stream("/room", 8, client="127.0.0.4", how="ask_anew"),
                 Stream("/", 0.0, how="hold", count=60, late=True, timeout=60)),
        ask=("gateway-overload",),
    ),
)  # fmt: skip
