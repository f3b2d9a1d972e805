"""Versions of runtimes and packages, read from files: metadata of distributions, package.json, strings in programs.

Nothing of the app is imported or run: its files may be another user's, and this process may be root's.
"""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from proxy.diagnostics import proc

MATTER: Final = frozenset(
    {
        "django", "flask", "fastapi", "starlette", "aiohttp", "tornado", "sanic", "bottle", "falcon", "pyramid",
        "quart", "litestar", "werkzeug", "jinja2", "pydantic", "djangorestframework", "graphene",
        "strawberry-graphql", "uvicorn", "gunicorn", "hypercorn", "daphne", "waitress", "gevent", "eventlet",
        "greenlet", "uwsgi", "granian", "cheroot", "uvloop", "httptools", "h11", "h2", "websockets", "asgiref",
        "anyio", "psycopg", "psycopg2", "psycopg2-binary", "psycopg-pool", "asyncpg", "sqlalchemy", "alembic",
        "mysqlclient", "pymysql", "aiomysql", "pymongo", "motor", "redis", "hiredis", "django-redis",
        "pymemcache", "peewee", "tortoise-orm", "elasticsearch", "opensearch-py", "cassandra-driver",
        "clickhouse-driver", "celery", "kombu", "dramatiq", "rq", "pika", "aio-pika", "aiokafka",
        "kafka-python", "confluent-kafka", "requests", "urllib3", "httpx", "aioboto3", "boto3", "botocore",
        "grpcio", "stripe", "google-cloud-storage", "azure-core", "sentry-sdk", "ddtrace", "newrelic",
        "elastic-apm", "opentelemetry-sdk", "prometheus-client", "numpy", "pandas", "scipy", "torch",
        "tensorflow", "pillow", "lxml", "orjson", "msgpack", "cryptography", "pyopenssl", "certifi",
        "dnspython", "express", "koa", "fastify", "@nestjs/core", "next", "nuxt", "@hapi/hapi", "restify",
        "socket.io", "ws", "pg", "pg-pool", "mysql", "mysql2", "mongodb", "mongoose", "ioredis", "bull",
        "bullmq", "amqplib", "kafkajs", "axios", "got", "node-fetch", "undici", "knex", "sequelize", "typeorm",
        "prisma", "@prisma/client", "@sentry/node", "dd-trace", "pm2", "cluster", "sharp", "puppeteer",
        "react-dom", "graphql", "apollo-server",
    }
)  # fmt: skip
"""Servers, frameworks, drivers, pools and clients: what may make an app slow, stuck or large."""
SHOWN: Final = 60
ENTRIES: Final = 5000
FOLDERS: Final = 12
LARGEST: Final = 256 << 20
"""Bytes of a program that are searched for its version."""
_INFO: Final = re.compile(r"(.+)-([0-9][^-]*)(?:-py[0-9.]+(?:-.+)?)?\.(?:dist|egg)-info")
_NODE: Final = b"nodejs.org/download/release/v"
_GO: Final = b"\xff Go buildinf:"


def seen_at(pid: int, path: str) -> Path:
    """A path of the process, from here: through its root, as it may be in a container."""
    through = proc.PROC / str(pid) / "root"
    try:
        return through / path.lstrip("/") if os.readlink(through) != "/" or _elsewhere(pid) else Path(path)
    except OSError:
        return Path(path)


def _elsewhere(pid: int) -> bool:
    """Whether its mounts are not ours."""
    return os.readlink(proc.PROC / str(pid) / "ns/mnt") != os.readlink("/proc/self/ns/mnt")


def site_folders(pid: int, command: list[str], cwd: str, environment: Mapping[str, str]) -> list[Path]:
    """Where its Python finds packages: by its program and script, its environment, and the libraries that it mapped."""
    prefixes: dict[str, None] = {}
    if environment.get("VIRTUAL_ENV"):
        prefixes[environment["VIRTUAL_ENV"]] = None
    for word in [*command[:2], proc.maybe_exe(pid) or ""]:
        path = os.path.normpath(os.path.join(cwd, word)) if "/" in word else ""
        if path and os.path.basename(os.path.dirname(path)) == "bin":
            prefixes[os.path.dirname(os.path.dirname(path))] = None
    if alone := next((prefix for prefix in prefixes if _alone(pid, prefix)), ""):
        prefixes = {alone: None}
    found: dict[Path, None] = {}
    for path in environment.get("PYTHONPATH", "").split(":"):
        if path:
            found[seen_at(pid, os.path.join(cwd, path))] = None
    for path in _mapped(pid):
        for mark in ("/site-packages/", "/dist-packages/"):
            before, there, _ = path.partition(mark)
            if there:
                found[seen_at(pid, before + mark.rstrip("/"))] = None
    for prefix in prefixes:
        base = seen_at(pid, prefix)
        for pattern in ("lib/python3*/site-packages", "lib/python3*/dist-packages", "lib/python3/dist-packages"):
            found.update(dict.fromkeys(base.glob(pattern)))
    return list(found)[:FOLDERS]


def _alone(pid: int, prefix: str) -> bool:
    """Whether it is a virtual environment that does not see its Python's own packages."""
    try:
        text = seen_at(pid, f"{prefix}/pyvenv.cfg").read_text(errors="replace")
    except OSError:
        return False
    return re.search(r"^include-system-site-packages\s*=\s*true", text, re.MULTILINE) is None


def _mapped(pid: int) -> list[str]:
    try:
        with (proc.PROC / str(pid) / "maps").open(errors="replace") as file:
            return list(dict.fromkeys(line[73:].strip() for line in file.read(proc.MAPS).splitlines() if ".so" in line))
    except OSError:
        return []


def distributions(folders: Iterable[Path]) -> dict[str, str]:
    """Name, as it is written in lower case with "-", to version; the first folder that has it holds."""
    found: dict[str, str] = {}
    left = ENTRIES
    for folder in folders:
        try:
            names = os.listdir(folder)[:left]
        except OSError:
            continue
        left -= len(names)
        for name in names:
            match = _INFO.fullmatch(name)
            if match:
                found.setdefault(re.sub(r"[-_.]+", "-", match[1]).lower(), match[2])
    return found


def matter(packages: Mapping[str, str]) -> dict[str, str]:
    return {name: packages[name] for name in sorted(packages) if name in MATTER}


def node_packages(pid: int, folder: str) -> dict[str, str]:
    """Of the nearest package.json from a folder upwards: installed versions, else what it asks for."""
    at = folder
    for _ in range(8):
        file = seen_at(pid, os.path.join(at, "package.json"))
        if file.is_file():
            break
        if at in ("/", ""):
            return {}
        at = os.path.dirname(at)
    else:
        return {}
    wanted = _json(file)
    names = wanted.get("dependencies")
    found: dict[str, str] = {}
    for name in sorted(names if isinstance(names, dict) else {}):
        if name in MATTER and len(found) < SHOWN:
            asked = names[name] if isinstance(names, dict) else ""
            there = _json(seen_at(pid, os.path.join(at, "node_modules", name, "package.json"))).get("version")
            found[name] = str(there or f"{asked} wanted")
    return found


def _json(path: Path) -> dict[str, Any]:
    """{} when it is not there, or no object."""
    try:
        with path.open("rb") as file:
            raw = msgspec.json.decode(file.read(1 << 20))
    except (OSError, msgspec.DecodeError):
        return {}
    return raw if isinstance(raw, dict) else {}


def version(pid: int, runtime: str) -> str:
    """Of the runtime itself, as its files tell it; "" when they do not."""
    exe = proc.maybe_exe(pid)
    if exe is None:
        return ""
    programs = [exe, *(path for path in _mapped(pid) if re.search(r"/lib(?:python3\.|node|jvm|ruby)", path))]
    if runtime == "python":
        name = next((match[1] for path in programs if (match := re.search(r"python(3\.\d+)", path))), "")
        pattern = re.compile(rb"(%s\.\d{1,2}(?:(?:a|b|rc)\d{1,2}|\+)?)\0" % re.escape(name).encode()) if name else None
        return next((said for path in reversed(programs) if pattern and (said := _said(pid, path, pattern))), name)
    if runtime == "node":
        for path in programs:
            if said := _after(pid, path, _NODE):
                return said
    if runtime == "go" and (said := _go(pid, exe)):
        return said
    if runtime == "java":
        home = os.path.dirname(os.path.dirname(exe))
        for base in (home, os.path.dirname(home)):
            try:
                text = seen_at(pid, f"{base}/release").read_text(errors="replace")
            except OSError:
                continue
            if match := re.search(r'JAVA_VERSION="([^"]+)"', text):
                return match[1]
    if runtime == "ruby":
        return next((match[1] for path in programs if (match := re.search(r"ruby[-.]?(?:so\.)?(\d\.\d)", path))), "")
    return ""


def _said(pid: int, path: str, pattern: re.Pattern[bytes]) -> str:
    """What a program's one version string says; "" when there are several, or none."""
    with _searched(pid, path) as data:
        found = {match[1] for match in pattern.finditer(data)} if data else set()
    return found.pop().decode() if len(found) == 1 else ""


def _after(pid: int, path: str, mark: bytes) -> str:
    with _searched(pid, path) as data:
        at = data.find(mark) if data else -1
        match = re.match(rb"[0-9]+\.[0-9]+\.[0-9]+", data[at + len(mark) : at + len(mark) + 20]) if at >= 0 else None
    return match[0].decode() if match else ""


def _go(pid: int, path: str) -> str:
    """debug/buildinfo: from Go 1.18 the version is a string with its length before it, 32 bytes after the mark."""
    with _searched(pid, path) as data:
        at = data.find(_GO) if data else -1
        raw = data[at : at + 96] if at >= 0 else b""
    if len(raw) > 33 and raw[15] & 2:
        return raw[33 : 33 + raw[32]].decode(errors="replace").removeprefix("go")
    return ""


class _searched:
    """A program's bytes, or b"" when they can't be read."""

    def __init__(self, pid: int, path: str) -> None:
        exe = proc.maybe_exe(pid) == path
        self.path = proc.PROC / str(pid) / "exe" if exe else seen_at(pid, path)
        self.data: mmap.mmap | bytes = b""

    def __enter__(self) -> Any:
        try:
            with self.path.open("rb") as file:
                if 0 < os.fstat(file.fileno()).st_size <= LARGEST:
                    self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            pass
        return self.data

    def __exit__(self, *_: object) -> None:
        if isinstance(self.data, mmap.mmap):
            self.data.close()
