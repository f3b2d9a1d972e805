"""No secret of an app that gives away all of its own leaves Triage: not by a folder, a bundle, an answer or a story."""

from __future__ import annotations

import base64
import http.client
import io
import json
import os
import re
import stat
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy.cli.client import Gateway
from tests.e2e.support import LONG, MARKER

from . import leaky
from .conftest import Sessions

pytestmark = pytest.mark.slow

FIELDS = {
    "Authorization": "Bearer secret-31", "Cookie": "sid=secret-32", "X-Api-Key": "secret-33",
    "Referer": "https://other/?key=secret-34",
}  # fmt: skip
PATHS = ("/bad?token=secret-41", "/failed?x=secret-42&secret=secret-43", "/ok?secret-44", "/bad", '/ok?q=a"secret-45')


def config() -> str:
    user = 'user = "root"' if os.geteuid() == 0 else ""
    return f"""\
[gateway]
listen = ["127.0.0.1:0"]
workers = 1
data_dir = "var"
[admin]
listen = "127.0.0.1:0"
[keep]
whole = [{{ path = "/*", headers = true }}]
[apps.shop.process]
command = "{sys.executable} {leaky.__file__} {{port}} --token secret-21 --dsn=postgres://u:secret-22@h/d"
instances = 1
inherit_env = ["PATH", "{MARKER}"]
env = {{ API_TOKEN = "secret-23", DATABASE = "postgres://u:secret-24@h/d", OPTIONS = "password=secret-25" }}
{user}
[apps.shop.health]
path = "/healthz"
[apps.shop.diagnose]
on = []
"""


def secrets(data: bytes) -> list[str]:
    """Those that are in it, as they are or in base64."""
    texts = [data]
    for found in re.findall(rb"[A-Za-z0-9+/]{40,}={0,2}", data):
        texts.append(base64.b64decode(found + b"=" * (-len(found) % 4), validate=False) if len(found) % 4 != 1 else b"")
    return sorted({one.decode() for text in texts for one in re.findall(rb"secret-\d\d", text)})


def asked(shop: Sessions, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", shop.triage.port, timeout=LONG)
    try:
        connection.request("GET", path, headers=FIELDS)
        connection.getresponse().read()
    finally:
        connection.close()


def test_nothing_secret_leaves(gateway: Callable[..., Sessions]) -> None:
    shop = gateway(config(), ready=1)
    for path in PATHS:
        asked(shop, path)
    id = shop.begin(2.0)
    one = shop.over(id)
    assert one["state"] == "done", one
    folder = shop.data / id
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert {"known.json", "findings.json", "report.html", f"{one['targets'][0]}/log_tail.txt"} <= found.keys()
    assert not {name: known for name, path in found.items() if (known := secrets(path.read_bytes()))}
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (shop.data, folder, *folder.rglob("*"))}
    assert not {path: mode for path, mode in modes.items() if mode & 0o027}, "others see nothing of it"
    assert "bad field" in base64.b64decode(json.loads(found["known.json"].read_bytes())["malformed"]["data"]).decode()
    bundled = Gateway(shop.triage.admin, timeout=LONG)
    try:
        whole = io.BytesIO()
        bundled.download(f"sessions/{id}/bundle", whole)
    finally:
        bundled.close()
    with zipfile.ZipFile(whole) as zip:
        assert not {name: known for name in zip.namelist() if (known := secrets(zip.read(name)))}
        assert all(not Path(name).is_absolute() and ".." not in Path(name).parts for name in zip.namelist())
    requests = shop.triage.api("requests", limit=50)["items"]
    assert len(requests) == len(PATHS)
    for record in requests:
        assert not secrets(json.dumps(shop.triage.api(f"requests/{record['id']}/story")).encode()), record["target"]
        assert not secrets(shop.triage.api(f"requests/{record['id']}/why")["text"].encode()), record["target"]
    assert not secrets(json.dumps(shop.triage.api("apps/shop/why")).encode())


def test_as_many_are_kept_as_the_config_says(gateway: Callable[..., Sessions]) -> None:
    shop = gateway(config() + "[keep.sessions]\ncount = 2\n", ready=1)
    for _ in range(3):
        shop.over(shop.begin(2.0, mode="collect", collectors=["log_tail"]))
    assert sorted(path.name for path in shop.data.iterdir()) == ["S-2", "S-3"]
