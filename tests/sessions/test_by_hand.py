"""A person asks for a session: through a real gateway, its real processes, and the command."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from proxy.cli.client import Gateway
from proxy.diagnostics.analyzers.contract import Analysis
from proxy.link.session import INPUT, Input
from tests.e2e.support import until

from .conftest import SECRET, Sessions

pytestmark = pytest.mark.slow


def processes(shop: Sessions, id: str) -> list[psutil.Process]:
    """Of one session: its own process, and what that started."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(part.endswith(f"/diagnostics/{id}") for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def of(known: Any, name: str) -> Any:
    return next(one for one in known if one.name == name)


def fetched(shop: Sessions, path: str) -> tuple[dict[str, str], bytes]:
    """Header fields and content of an answer."""
    gateway = Gateway(shop.triage.admin)
    try:
        gateway._connection.request("GET", f"/api/v1/{path}")
        answer = gateway._connection.getresponse()
        assert answer.status == 200, answer.read()
        return dict(answer.getheaders()), answer.read()
    finally:
        gateway.close()


def test_from_the_command_to_the_report(shop: Sessions) -> None:
    for number in range(20):
        assert shop.get(f"/products?token={SECRET}&n={number}") == 200
    done = shop.triage.cli("diagnose", "shop", "--for", "2s", "--note", "it feels slow")
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    id = said.split()[0]
    assert f"stacks of {shop.triage.ready()[0]['id']}  done" in said
    assert f"{id} done after" in said and f"report  {shop.data}/{id}/report.html" in said
    one = shop.one(id)
    assert (one["state"], one["mode"], one["app"], one["progress"]) == ("done", "analyze", "shop", 1.0)
    assert one["trigger"]["kind"] == "hand" and one["trigger"]["reason"] == "it feels slow"
    assert one["folder"] == str(shop.data / id) and one["verdict"] and one["verdict"] in said
    steps = {(step["name"], step["instance"]): step["state"] for step in one["steps"]}
    names = sorted(one["targets"])
    assert names == sorted(each["id"] for each in shop.triage.ready())
    assert {steps["stacks", name] for name in names} == {"done"} and steps["report", ""] == "done"
    assert {"report.html", "findings.json", "known.json"} <= {file["name"] for file in one["files"]}
    assert one["size"] >= sum(file["size"] for file in one["files"]) / 2
    told = [event["words"] for event in shop.triage.api("events", kind="session", limit=10)["items"]]
    assert re.fullmatch(rf"{id} of shop done after [\d.]+ s: {re.escape(one['verdict'])}", told[0]), told
    assert told[1] == f"{id} of shop began, by hand: it feels slow"


def test_what_control_knows_goes_along(shop: Sessions) -> None:
    for _ in range(5):
        assert shop.get(f"/healthz?password={SECRET}") == 200
    until(lambda: shop.triage.api("metrics/query", name="requests", app="shop")["series"], "there are seconds")
    id = shop.begin()
    shop.over(id)
    given = msgspec.json.decode((shop.data / id / INPUT).read_bytes(), type=Input)
    known = given.known
    assert (known.app.name, known.app.wanted, known.app.health_path) == ("shop", 2, "/healthz")
    assert known.app.state == "up" and known.notes == []
    running = {one["id"]: one for one in shop.triage.ready()}
    assert {one.name: one.pid for one in known.instances if not one.gone} == {
        name: one["pid"] for name, one in running.items()
    }
    assert {"/healthz?…", "/products?…"} & {record.target for record in known.records}
    assert {"", "gateway", "host", *running} <= known.rings.keys()
    counted = known.rings[""].values["requests"]
    assert sum(each or 0 for each in counted) >= 5 and len(counted) == known.rings[""].length
    assert known.rings["host"].values["busy"][-1] is None or 0 <= known.rings["host"].values["busy"][-1] <= 1
    assert [worker.state for worker in known.workers] == ["alive"] and known.workers[0].descriptors
    assert {event.kind for event in known.events} >= {"starting", "ready"}
    assert known.self_check_ok and all(known.lines[name] is not None for name in running)
    assert SECRET not in (shop.data / id / INPUT).read_text()
    after = json.loads((shop.data / id / "after.json").read_bytes())
    assert after["at"] > known.at, "and once more when gathering was over"


def test_one_at_a_time_and_cancel(shop: Sessions) -> None:
    id = shop.begin(120.0)
    refusal = shop.refused("POST", "sessions", {"app": "shop"})
    assert refusal.status == 409 and refusal.document["type"] == "urn:triage:session-active"
    assert f"{id} of shop is under way" in refusal.detail and f"triage sessions {id} --cancel" in refusal.hint
    assert shop.refused("DELETE", f"sessions/{id}").status == 409
    assert shop.refused("GET", f"sessions/{id}/bundle").status == 409
    running = shop.in_state(id, "collecting")
    assert 0 <= running["progress"] < 0.8 and running["until"] and shop.listed(state="active")[0]["id"] == id
    ended = shop.triage.cli("sessions", id, "--cancel")
    assert ended.returncode == 0 and f"{id} cancelled after" in ended.stdout, ended.stdout + ended.stderr
    one = shop.one(id)
    assert one["state"] == "cancelled" and one["took_s"] < 60
    assert next(step for step in one["steps"] if step["name"] == "report")["state"] == "done", "of what there was"
    assert shop.refused("POST", f"sessions/{id}/cancel").document["type"] == "urn:triage:ended"
    assert not processes(shop, id)


def test_its_process_is_killed(shop: Sessions) -> None:
    id = shop.begin(120.0)
    shop.in_state(id, "collecting")
    (process, *_) = until(lambda: processes(shop, id), "it runs")
    process.send_signal(signal.SIGKILL)
    one = shop.over(id)
    assert one["state"] == "failed" and one["why"].startswith("its process was ended by SIGKILL while gathering")
    until(lambda: not processes(shop, id), "nothing of it is left")


def test_control_dies_meanwhile(shop: Sessions) -> None:
    id = shop.begin(4.0)
    shop.in_state(id, "collecting")
    control = shop.triage.control()
    os.kill(control, signal.SIGKILL)
    until(lambda: shop.triage.control() not in (0, control), "another control runs")
    one = shop.over(id)
    assert one["state"] == "done" and one["verdict"]
    assert (shop.data / id / "after.json").exists(), "the new control went on with it"


def done(shop: Sessions) -> dict[str, Any]:
    """One that is done: of a test before, or a new one."""
    found = shop.listed(state="done", limit=1)
    return found[0] if found else shop.over(shop.begin())


def test_analyzed_again_findings_report_and_no_way_out_of_the_folder(shop: Sessions) -> None:
    first = done(shop)
    id = first["id"]
    (shop.data / id / "report.html").unlink()
    assert shop.refused("GET", f"sessions/{id}/report").status == 404
    assert shop.call("POST", f"sessions/{id}/analyze", {})["state"] == "analyzing"
    again = shop.over(id)
    assert again["state"] == "done" and again["ended"] == first["ended"]
    fields, page = fetched(shop, f"sessions/{id}/report")
    assert page.lstrip().lower().startswith(b"<!doctype html") and b"<script" not in page
    assert fields["Content-Security-Policy"].startswith("default-src 'none'; style-src 'unsafe-inline'")
    assert fields["Content-Disposition"].startswith("inline") and fields["X-Content-Type-Options"] == "nosniff"
    analysis = msgspec.json.decode(fetched(shop, f"sessions/{id}/findings")[1], type=Analysis)
    assert analysis.verdict == again["verdict"]
    name = again["targets"][0]
    fields, data = fetched(shop, f"sessions/{id}/artifacts/{name}/stacks.json")
    assert fields["Content-Type"] == "application/json" and json.loads(data)["rounds"]
    (shop.data / id / "link.json").symlink_to("/etc/passwd")
    ways = ("../../admin.token", "%2e%2e/%2e%2e/admin.token", "link.json", f"{name}/..%2f..%2f..%2fadmin.token", name)
    for path in ways:
        assert shop.refused("GET", f"sessions/{id}/artifacts/{path}").status == 404, path


def test_the_bundle_has_no_secret_and_memory_only_when_asked_for(shop: Sessions, tmp_path: Path) -> None:
    assert shop.get(f"/products?api_key={SECRET}") == 200
    id = done(shop)["id"]
    folder = shop.data / id
    (folder / "memory_dump.core.zst").write_bytes(os.urandom(1000))
    (folder / "mine.txt").write_text(f"password={SECRET}\n")
    (folder / "mine.json").write_text(json.dumps({"note": f"token: {SECRET}", "db_password": SECRET, "tokens": 7}))
    (folder / "half.json").write_text('{"password": "' + SECRET)
    (folder / "some.bin").write_bytes(SECRET.encode())
    (tmp_path / "b.zip.part").write_text("another's")
    saved = shop.triage.cli("report", id, "--bundle", str(tmp_path / "b.zip"), "-o", str(tmp_path / "r.html"))
    assert saved.returncode == 0, saved.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.zip", "b.zip.part", "r.html"]
    assert (tmp_path / "b.zip").stat().st_mode & 0o777 == 0o600, "it may hold secrets"
    assert (tmp_path / "r.html").read_text().lstrip().lower().startswith("<!doctype html")
    whole = {}
    with zipfile.ZipFile(tmp_path / "b.zip") as zip:
        assert zip.testzip() is None
        whole = {name.removeprefix(f"triage-{id}/"): zip.read(name) for name in zip.namelist()}
    assert not [name for name, data in whole.items() if SECRET.encode() in data]
    wanted = {"README.txt", "config.json", "environment.json", "events.json", "incidents.json", "app.json",
              "session/report.html", "session/known.json", "session/mine.txt", "left-out.txt"}  # fmt: skip
    assert wanted <= whole.keys() and any(name.startswith("logs/shop-") for name in whole)
    assert json.loads(whole["session/mine.json"]) == {"note": "token: ***", "db_password": "***", "tokens": 7}
    assert b"memory_dump.core.zst" in whole["left-out.txt"] and b"some.bin" in whole["left-out.txt"]
    assert "session/memory_dump.core.zst" not in whole
    _, data = fetched(shop, f"sessions/{id}/bundle?memory=true")
    with zipfile.ZipFile(io.BytesIO(data)) as zip:
        assert zip.read(f"triage-{id}/session/memory_dump.core.zst") == (folder / "memory_dump.core.zst").read_bytes()


def test_what_is_no_session_is_said(shop: Sessions) -> None:
    assert shop.refused("GET", "sessions/S-99999").document["type"] == "urn:triage:no-such-session"
    assert shop.refused("POST", "sessions", {"app": "no"}).status == 404
    assert shop.refused("POST", "sessions", {"app": "shop", "instance": "shop-999"}).status == 404
    assert "2s to 10m" in shop.refused("POST", "sessions", {"app": "shop", "seconds": 1}).detail
    wrong = shop.refused("POST", "sessions", {"app": "shop", "collectors": ["stack"]})
    assert wrong.status == 400 and "stacks" in wrong.hint
    assert shop.refused("POST", "sessions", {"app": "shop", "mode": "x"}).status == 400
    assert shop.refused("POST", "sessions", {"request": "ffffffffff"}).document["type"] == "urn:triage:no-such-request"
    listed = {one["id"]: one for one in shop.triage.api("collectors")["items"]}
    assert listed["stacks"]["of"] == "instance" and listed["stacks"]["default"] and listed["stacks"]["quick"]


def test_collect_recycle_analyze(shop: Sessions) -> None:
    """Last: another instance runs then."""
    name = sorted(one["id"] for one in shop.triage.ready())[0]
    id = shop.begin(instance=name, mode="recycle", collectors=["stacks", "log_tail"], reason="it is odd")
    one = shop.over(id)
    assert one["state"] == "done" and one["targets"] == [name] and one["recycled"] == f"{one['operation']} done", one
    names = {step["name"] for step in one["steps"]}
    assert {"stacks", "log_tail"} <= names and "profile" not in names
    operation = shop.triage.api(f"operations/{one['operation']}")
    assert operation["act"] == "recycle" and operation["instance"] == name and operation["reason"] == "it is odd"
    assert f"diagnostics/{id}" in operation["evidence"]
    until(lambda: name not in {each["id"] for each in shop.triage.instances()}, f"{name} has ended")
    assert len(shop.triage.ready()) == 2
    shop.call("DELETE", f"sessions/{id}")
    assert not (shop.data / id).exists() and shop.refused("GET", f"sessions/{id}").status == 404
