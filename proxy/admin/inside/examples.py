"""Answers of looking inside, shortened."""

from __future__ import annotations

from typing import Any, Final

_TIME: Final = "2026-01-05T03:07:41.000Z"
PROCESS: Final = {
    "id": "4211", "pid": 4211, "parent": 4200, "depth": 0,
    "role": "instance",           # instance child orphan; of Triage's own: launcher control worker session
    "of": "web-7",                # the name that it has in Triage; "": none
    "name": "python", "command": "python app.py --token=***", "user": "app",
    "start": 812345,              # clock ticks since boot: with the pid, this process and no other
    "began": _TIME, "cpu_s": 12.31, "memory": 181403648, "private": 150994944, "threads": 5, "files": 31, "sockets": 9,
    "state": "sleeping",          # running sleeping "waiting in the kernel" stopped traced zombie …; ended hidden
    "notes": [], "cpu": 31.2,
}  # fmt: skip
FIGURES: Final = {"cpu": "percent of one core, between two looks half a second apart", "memory": "bytes in RAM (VmRSS)"}
PROCESSES: Final = {
    "items": [PROCESS], "next": None, "total": 1, "figures": FIGURES, "notes": [],
    "group_memory": 190000000,    # working set of the instance's own cgroup; null: it has none
}  # fmt: skip
OWN_PROCESSES: Final = {name: value for name, value in PROCESSES.items() if name != "group_memory"}
FILE: Final = {
    "id": "7", "fd": 7,
    "kind": "file",               # file folder memory device pipe socket eventpoll eventfd …
    "target": "/var/log/app.log", "size": 81234, "position": 81234, "mode": "write, append", "deleted": False,
}  # fmt: skip
CONNECTION: Final = {
    "id": "55213", "pid": 4211, "fd": 9, "shared_by": 1, "kind": "tcp", "state": "ESTABLISHED",
    "side": "to",                 # listens from to
    "local": "127.0.0.1:53122", "remote": "127.0.0.1:5432", "receive": 0, "send": 0, "backlog": 128,
    "name": "PostgreSQL",         # what usually listens there
    "sent_age_s": 1.2, "received_age_s": 1.2,
    "peer": {"pid": 88, "name": "postgres", "role": "process", "of": ""},        # on this machine; null: not known
}  # fmt: skip
WHOLE_PROCESS: Final = {
    **PROCESS, "exe": "/usr/bin/python3.11", "cwd": "/srv/app", "root": "/", "nice": 0, "session": 4211, "group": 4211,
    "memory_by_kind": {"in RAM": 181403648}, "counts": {"times it waited": 812}, "io": {"read_from_disk": 4096},
    "oom_score": 668, "cgroups": ["/triage/instances/web-7"], "limits": {"max open files": ["1024", "1048576"]},
    "environment": {"PORT": "41233", "API_TOKEN": "***"},
    "modules": [{"path": "/usr/lib/libc.so.6", "size": 1953792, "code": True, "deleted": False}],
    "open": [FILE], "open_by_kind": {"file": 3, "socket": 9}, "connections": [CONNECTION],
    "connections_by_state": {"tcp ESTABLISHED": 8}, "figures": FIGURES,
}  # fmt: skip
THREAD: Final = {
    "id": "4212", "tid": 4212, "pid": 4211, "name": "ThreadPoolExecu", "main": False, "state": "sleeping",
    "cpu_s": 0.4, "cpu": 0.0, "wait_channel": "futex_wait_queue", "call": "futex",
    "waits_on": ["read 9 (socket:[55213])"], "processor": 1,
}  # fmt: skip
THREADS: Final = {"items": [THREAD], "next": None, "total": 5, "pid": 4211, "notes": []}
FILES: Final = {
    "items": [FILE], "next": None, "total": 31, "pid": 4211, "by_kind": {"file": 3, "socket": 9}, "notes": [],
}  # fmt: skip
CONNECTIONS: Final = {
    "items": [CONNECTION], "next": None, "total": 9, "pid": 4211, "by_state": {"tcp ESTABLISHED": 8}, "notes": [],
}  # fmt: skip
STACKS: Final = {
    "id": "web-7", "time": _TIME, "stacks": "process 4211 (python), py-spy\n  thread 4211 MainThread\n    hang …",
    "processes": [{
        "pid": 4211, "name": "python",
        "how": "py-spy",          # py-spy inspector jcmd eu-stack; kernel: where they are in the kernel only
        "why": "",                # there are none, or none that tell more
        "threads": [{
            "id": 4211, "name": "MainThread", "active": True, "gil": True, "note": "", "wait_channel": "",
            "frames": [{"function": "hang", "file": "app.py", "line": 9}],       # innermost first
        }],
    }],
    "notes": [],
}  # fmt: skip
CGROUP: Final[dict[str, Any]] = {
    "version": 2, "path": "/triage/instances/web-7", "own": True, "memory_limit": 536870912, "memory": 181403648,
    "cores": 1.0, "pressure": {"memory": {}}, "values": {"pids.current": 5}, "above": {},
}  # fmt: skip
ENVIRONMENT: Final[dict[str, Any]] = {
    "id": "web-7", "app": "web", "time": _TIME, "pid": 4211, "started": _TIME, "version": "3f2a91c",
    "address": "127.0.0.1:41233",
    "runtimes": [{"pid": 4211, "name": "python", "version": "3.11.9", "server": "uvicorn", "server_version": "0.34.0",
                  "workers": 4, "packages": {"fastapi": "0.115.0"}, "settings": {"backlog": "2048"}}],
    "user": "app", "cwd": "/srv/app", "exe": "/usr/bin/python3.11", "command": "python -m uvicorn app:app",
    "variables": {"PORT": "41233", "API_TOKEN": "***"}, "limits": {"max open files": ["1024", "1048576"]},
    "cgroup": CGROUP, "settings": {},        # settings: of the app, as config has them
    "limited": {"memory": 536870912, "cpus": 1.0, "by": "cgroup v2", "why": ""}, "processes": 5, "notes": [],
}  # fmt: skip
HOST: Final[dict[str, Any]] = {
    "name": "box", "kernel": "6.1.0", "machine": "x86_64", "uptime_s": 81234.5, "cpus": 4, "usable_cpus": 4,
    "load": [0.3, 0.2, 0.1], "memory": {"total": 8589934592, "available": 4294967296}, "pressure": {"cpu": {}},
    "disks": [{"path": "/var/lib/triage", "size": 107374182400, "free": 53687091200, "files_free": 6553600,
               "read_only": False, "error": ""}],
    "settings": {"swappiness": "60"},
}  # fmt: skip
OWN_ENVIRONMENT: Final[dict[str, Any]] = {
    "version": "0.1.0", "python": "3.11.9", "implementation": "CPython /opt/triage/bin/python", "kernel": "6.1.0",
    "machine": "x86_64", "cpus": 4, "usable_cpus": 4, "load": [0.3, 0.2, 0.1], "memory": 8589934592,
    "memory_available": 4294967296, "time": _TIME, "user": "triage", "cwd": "/",
    "limits": {"descriptors": [1048576, -1]},        # soft and hard; -1: none
    "packages": {"uvloop": "0.23.0"}, "environment": {"LANG": "C"},
    "cgroup": CGROUP, "host": HOST, "notes": [], "config": "/etc/triage/config.toml", "data_dir": "/var/lib/triage",
    "launcher": 4100, "control": 4101, "workers": [4102], "started": _TIME, "settings": {},
}  # fmt: skip
