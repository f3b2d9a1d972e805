"""Whatever comes from outside: markup in every field, secrets, far too much of everything, files that are damaged."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

from proxy.diagnostics import analyze, report
from proxy.diagnostics.analyzers.contract import Analysis
from proxy.link.messages import Record
from proxy.link.session import Input, Known, Outcome, Ring
from tests.report import scene
from tests.report.test_content import parsed, written

EVIL = "\"><img src=x onerror=alert(1)></script><script>'&\u202e\x00</title></svg>"
SECRET = "password=hunter2hunter2"
WORDS = {"severity": "critical", "certainty": "likely", "tag": "mitigation", "state": "found", "by": "server"}


def filled(kind: Any, text: str, name: str = "", deep: int = 0) -> Any:
    """A value of a type in which every text is `text`, but for words that are a choice."""
    origin, inner = get_origin(kind), get_args(kind)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        hints = get_type_hints(kind)
        return kind(**{field: filled(hints[field], text, field, deep + 1) for field in kind.__struct_fields__})
    if origin in (list, tuple) and (origin is list or inner[1:] == (Ellipsis,)):
        return [filled(inner[0], text, name, deep + 1)] * 2
    if origin is tuple:
        return tuple(filled(one, text, name, deep + 1) for one in inner)
    if origin is dict:
        return {text: filled(inner[1], text, name, deep + 1)}
    if inner:  # a union, or a choice of words
        if isinstance(inner[0], str):
            return WORDS[name] if WORDS[name] in inner else inner[0]
        return filled(next(one for one in inner if one is not type(None)), text, name, deep + 1)
    return {str: text, int: 3, float: 2.5, bool: True, bytes: b"x"}.get(kind, text)


def folder(place: Path, text: str) -> Path:
    """A session's folder in which every text of every file is `text`."""
    given = filled(Input, text)
    given.analyze, given.seconds, given.known.at = True, 5.0, time.time()
    given.known.rings = {name: filled(Ring, text) for name in ("", text, "host", "gateway")}
    for ring in given.known.rings.values():
        ring.start, ring.length = int(time.time()) - 2, 2
        ring.values = {name: [1.0, 2.0] for name in ("requests", "memory", "cpu", "busy", "lag", text)}
    scene.folder_of(place, given, filled(Analysis, text), filled(Outcome, text))
    (place / "session.json").write_text(json.dumps({"mode": text,
                "trigger": {"kind": text, "by": text, "reason": text}}))
    (place / "one").mkdir()
    for name, kind in analyze.EACH.items():
        (place / "one" / f"{name}.json").write_bytes(msgspec.json.encode(filled(kind, text)))
    for name, kind in analyze.WHOLE.items():
        (place / f"{name}.json").write_bytes(msgspec.json.encode(filled(kind, text)))
    return place


def test_markup_in_every_field_is_text(tmp_path: Path) -> None:
    data, page = written(folder(tmp_path, EVIL))
    assert not [one for one in data["unseen"] if "could not be" in one["why"] or "is damaged" in one["why"]]
    found = parsed(page)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "img", "iframe", "object", "embed", "form", "link", "base"}
    assert not [given for _, given in found.tags for name in given if name.startswith("on")]
    assert "\u202e" not in page and "\x00" not in page
    assert any("onerror=alert(1)" in text for text in found.texts)  # it is shown as what it is


def test_links_lead_nowhere_else(tmp_path: Path) -> None:
    _, page = written(folder(tmp_path, "javascript:alert(1)//x.example"))
    for _, given in parsed(page).tags:
        assert not str(given.get("href", "")).lower().startswith(("javascript:", "http", "//", "data:"))


def test_secrets_are_masked_in_both_files(tmp_path: Path) -> None:
    data, page = written(folder(tmp_path, f"a line with {SECRET} in it"))
    assert "hunter2" not in page and "hunter2" not in json.dumps(data)
    assert "password=***" in page


def test_variables_are_masked_by_name(tmp_path: Path) -> None:
    given = Input(id="S-1", app="shop", at=time.time(), known=scene.known(time.time()))
    place = scene.folder_of(tmp_path, given, scene.analysis())
    (place / "shop-3").mkdir()
    variables = {"DB_PASSWORD": "opensesame", "HOME": "/srv", "URL": "http://u:opensesame@h/"}
    (place / "shop-3" / "environment.json").write_text(json.dumps({"variables": variables}))
    data, page = written(place)
    assert "opensesame" not in page and "opensesame" not in json.dumps(data)
    assert data["environment"]["instances"][0]["variables"]["HOME"] == "/srv"


@pytest.mark.slow
def test_far_too_much_stays_small_and_soon_done(tmp_path: Path) -> None:
    at = time.time()
    instances = [scene.Instance(name=f"shop-{n}", lifecycle="ready") for n in range(24)]
    known = scene.known(at, *instances, seconds=1500)
    long = "x" * 1000
    known.records = [
        Record(f"{n:012x}", at - n / 50, n % 4, "shop", f"shop-{n % 24}", "203.0.113.9", "POST", "h",
            f"/a/{n}/{long}", 503,
               ("queue-timeout", "head-timeout", "app-error")[n % 3], total_us=n, detail=long)
        for n in range(3000)
    ]  # fmt: skip
    known.exceptions = [msgspec.structs.replace(known.exceptions[0], fingerprint=str(n), message=long,
            sample=[long[:300]] * 60)
                        for n in range(300)]  # fmt: skip
    known.lines = {one.name: [scene.Line(at=at, stream="out", text=long[:400])] * 500 for one in instances}
    known.events = [scene.Event(id=n, at=at - n, kind="exited", text=f"{n} {long}", app="shop") for n in range(2000)]
    known.deploys = known.deploys * 200
    finding = scene.finding(cause=long, evidence=[{"text": long}] * 300, paths=[long] * 100)
    found = scene.analysis(*[msgspec.convert(msgspec.to_builtins(finding) | {"id": f"f{n}"}, type=type(scene.finding()))
                             for n in range(150)])  # fmt: skip
    place = scene.folder_of(tmp_path, Input(id="S-1", app="shop", at=at, seconds=600, known=known), found)
    frames = [f"function_{n} (/srv/app/module_{n}.py:{n})" for n in range(80)]
    stacks = [{"frames": [*frames[: n % 80 + 1], f"leaf_{n} (/srv/app/leaf.py:{n})"],
            "samples": 50 + n} for n in range(4000)]
    rounds = [{"at": at + n, "processes": [{"pid": 7, "how": "py-spy", "threads": [
        {"id": t, "frames": [{"function": f"f{t % 90}_{d}", "file": "/srv/app/x.py", "line": d} for d in range(60)]}
        for t in range(400)]}]} for n in range(5)]  # fmt: skip
    peers = [{"address": f"10.0.{n // 250}.{n % 250}:5432", "by": "server", "established": n} for n in range(3000)]
    for n in range(24):
        (place / f"shop-{n}").mkdir()
        for name, value in (
            ("stacks", {"rounds": rounds}), ("sockets", {"samples": [{"at": at, "peers": peers}] * 3}),
            ("log_tail", {"files": [{"path": "/srv/x.log", "lines": [long] * 500}] * 9}),
        ):  # fmt: skip
            if n < 4:
                (place / f"shop-{n}" / f"{name}.json").write_text(json.dumps(value))
    (place / "shop-0" / "profile.json").write_text(json.dumps({"stacks": stacks, "samples": 9, "possible": 9,
                "seconds": 600}))
    began = time.process_time()
    data, page = written(place)
    took = time.process_time() - began
    print(f"{len(page):,} bytes in {took:.2f} s of CPU, of {(place / 'known.json').stat().st_size:,} bytes known")
    assert len(page.encode()) < 5_000_000 and (place / "report.json").stat().st_size < 20_000_000
    parsed(page)
    assert took < 8, f"{took:.1f} s of CPU; an ordinary machine takes one"
    assert data["answer"]["text"].count("\n") <= 30
    assert "What could not be looked at" in page
    assert len(data["flame"][0]["boxes"]) == 600 and data["flame"][0]["left_out"] > 0


@pytest.mark.parametrize("name", ["input.json", "known.json", "findings.json", "outcome.json", "session.json",
        "shop-3/stacks.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"app": 3}', b"null"])
def test_a_damaged_file_costs_itself_alone(tmp_path: Path, name: str, content: bytes) -> None:
    given = Input(id="S-1", app="shop", at=time.time(), known=scene.known(time.time()))
    place = scene.folder_of(tmp_path, given, scene.analysis(scene.finding()))
    (place / "shop-3").mkdir()
    (place / name).write_bytes(content)
    data, page = written(place)
    parsed(page)
    said = " ".join(one["why"] for one in data["unseen"])
    readable = content == b'{"app": 3}' and name in ("session.json", "outcome.json", "shop-3/stacks.json")
    assert readable or name.rpartition("/")[2] in said, data["unseen"]
    if name != "findings.json":
        assert data["top"] == "slow-dependency" and "answers slowly" in page
    else:
        assert "NOT KNOWN" in data["answer"]["text"]


def test_an_empty_folder_still_makes_a_page(tmp_path: Path) -> None:
    data, page = written(tmp_path)
    parsed(page)
    assert data["answer"]["certainty"] == "not known"
    assert data["answer"]["lost"] == ["NOT KNOWN."]
    assert {"input.json is not there.", "outcome.json is not there."} <= {one["why"] for one in data["unseen"]}


def test_a_part_that_fails_is_said_and_the_rest_is_there(tmp_path: Path) -> None:
    """A number that JSON can hold and a clock can't."""
    at = time.time()
    known: Known = scene.known(at)
    known.events[0].at = 1e300
    known.rings["host"] = Ring(start=int(at) - 3, length=3, values={"busy": [0.1, None, 0.2]})
    data, page = written(scene.folder_of(tmp_path, Input(id="S-1", app="shop", at=at, known=known), scene.analysis()))
    parsed(page)
    assert "charts" in data and data["answer"]["why"]


def test_what_was_there_is_replaced_whole(tmp_path: Path) -> None:
    (tmp_path / report.HTML).write_text("old")
    report.write(tmp_path)
    report.write(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    assert (tmp_path / report.HTML).read_text().startswith("<!doctype html>")
