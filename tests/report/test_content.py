"""What a report says of a session whose artifacts come of a real process, and of one in which nothing is wrong."""

from __future__ import annotations

import json
import re
import time
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from proxy.diagnostics import report
from proxy.diagnostics.artifacts import Stacks
from proxy.diagnostics.report.parts import PARTS
from proxy.link.session import Input, Outcome, Step
from tests.report import scene


def data_of(place: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((place / "report.json").read_text())
    return found


def written(place: Path) -> tuple[dict[str, Any], str]:
    report.write(place)
    return data_of(place), (place / "report.html").read_text()


class Elements(HTMLParser):
    """Checks that elements close in the order in which they opened."""

    VOID = frozenset({"meta", "br", "hr", "link", "img", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, (tag, self.open[-5:], self.getpos())
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def parsed(page: str) -> Elements:
    found = Elements()
    found.feed(page)
    found.close()
    assert not found.open
    return found


@pytest.mark.slow
def test_a_real_session_is_told_whole(real: Path) -> None:
    data, page = data_of(real), (real / "report.html").read_text()
    parsed(page)
    assert data["form"] == 1 and data["id"] == "S-12" and data["app"] == "shop"
    assert {part.name for part in PARTS} <= set(data)
    stacks = msgspec.json.decode((real / "shop-3" / "stacks.json").read_bytes(), type=Stacks)
    (process,) = data["stacks"][0]["processes"]
    largest = process["groups"][0]
    assert largest["most"] == 12 and largest["rounds"] == len(stacks.rounds) >= 2
    assert (largest["frames"][0]["function"], largest["frames"][0]["file"]) == ("wait_for_prices", "app.py")
    assert largest["frames"][0]["own"] and not largest["frames"][-1]["own"]
    assert f"12 of {process['threads']} threads, in all {len(stacks.rounds)} rounds" in page
    (sockets,) = data["sockets"]
    assert [one["established"] for one in sockets["peers"]] == [12]
    names = {box[3].partition(" ")[0] for box in data["flame"][0]["boxes"]}
    assert {"all", "compute", "sum_up"} <= names
    assert 'href="shop-3/profile.speedscope.json"' in page and (real / "shop-3" / "profile.speedscope.json").exists()
    assert "abcdef0123456789" not in page and "4111-1111" not in page  # a token in its output, a card in a query
    assert data["processes"]["activity"]["shop-3"]["figures"]["user"][2] > 0


@pytest.mark.slow
def test_the_first_screen_answers_in_the_order_of_why(real: Path) -> None:
    answer = data_of(real)["answer"]
    lines = answer["text"].splitlines()
    assert len(lines) <= 30 and max(len(line) for line in lines) <= 96
    heads = [line.split()[0] for line in lines if re.match(r"(WHY|CAUSE|LOST|NOW|DONE|DO|EVIDENCE)\b", line)]
    assert heads == ["WHY", "CAUSE", "LOST", "NOW", "DONE", "DO", "EVIDENCE"]
    assert answer["certainty"] == "very likely"
    assert answer["cause"][0].startswith("Very likely 10.0.3.12:5432")
    assert any("NOT KNOWN" in one for one in answer["cause"])
    assert "40 POST of 120 failed requests" in answer["lost"][0]  # of 80 POST half had been given to an instance
    assert answer["now"][0].startswith("STILL GOING ON since")
    assert answer["now"][0].endswith("176.0 requests and 160.0 faults a second.")
    assert any("triage scale shop 4" in one for one in answer["do"])
    assert any(one.startswith("don't") for one in answer["do"])


def test_what_could_not_be_looked_at_is_said_with_why(tmp_path: Path) -> None:
    at = time.time()
    outcome = Outcome(state="analyzing", began=at, steps=[
        Step(name="stacks", title="Stacks", instance="shop-3", state="not permitted", why="ptrace is not allowed"),
        Step(name="sockets", title="Sockets", instance="shop-3", state="done", why="two of five processes were gone"),
        Step(name="report", title="Report", state="running"),
    ])  # fmt: skip
    given = Input(id="S-1", app="shop", at=at, known=scene.known(at, notes=["workers were silent"]))
    data, page = written(scene.folder_of(tmp_path, given, scene.analysis(scene.finding()), outcome))
    said = {one["what"]: one["why"] for one in data["unseen"]}
    assert said["Stacks of shop-3"] == "not permitted: ptrace is not allowed"
    assert said["Sockets of shop-3, in part"] == "Two of five processes were gone"
    assert said["What control knew"] == "Workers were silent"
    assert said["Check: Memory leak"] == "Not looked at: there is no types."
    assert not any("Report" in what for what in said)
    assert all(one in page for one in ("ptrace is not allowed", "Workers were silent"))


def test_nothing_wrong_is_said_as_such(tmp_path: Path) -> None:
    at = time.time()
    known = scene.known(at)
    known.app.state, known.records = "up", []
    known.rings[""].faults = {}
    given = Input(id="S-1", app="shop", at=at, known=known)
    data, page = written(scene.folder_of(tmp_path, given, scene.analysis()))
    assert data["answer"]["certainty"] == "" and data["top"] == ""
    assert data["answer"]["cause"] == ["None was found: 1 of 3 checks passed, 1 could give no answer."]
    assert data["answer"]["lost"] == ["Nothing: no request is known to have failed."]
    assert data["answer"]["do"] == ["now    nothing"]
    assert "None above info: no check found anything wrong." in page


def test_an_app_that_is_down_without_a_finding_is_not_called_well(tmp_path: Path) -> None:
    at = time.time()
    known = scene.known(at)
    known.app.state = "down"
    data, _ = written(scene.folder_of(tmp_path, Input(id="S-1", app="shop", at=at, known=known), scene.analysis()))
    assert data["answer"]["certainty"] == "not known"
    assert data["answer"]["cause"] == ["NOT KNOWN."]


def test_charts_that_say_something_come_first(tmp_path: Path) -> None:
    at = time.time()
    one = scene.Instance(name="shop-3")
    given = Input(id="S-1", app="shop", at=at, known=scene.known(at, one))
    data, page = written(scene.folder_of(tmp_path, given, scene.analysis(scene.finding(charts=["threads"]))))
    first = {chart["name"] for chart in data["charts"]["charts"] if chart["first"]}
    folded = {chart["name"] for chart in data["charts"]["charts"] if not chart["first"]}
    assert {"requests", "faults", "response", "in_flight", "memory", "threads"} <= first
    assert {"cpu", "descriptors"} <= folded  # flat lines that no finding names
    assert [mark["letter"] for mark in data["charts"]["marks"]] == ["D", "X", "I"]
    faults = next(chart for chart in data["charts"]["charts"] if chart["name"] == "faults")
    assert max(faults["series"]["queue-timeout"]) == 160 and len(faults["series"]["queue-timeout"]) <= 300
    assert "limit" in page


def test_a_peak_of_a_second_is_not_thinned_away(tmp_path: Path) -> None:
    at = time.time()
    known = scene.known(at, seconds=1500)
    known.rings[""].values["p99"][777] = 55.0
    data, _ = written(scene.folder_of(tmp_path, Input(id="S-1", app="shop", at=at, known=known), scene.analysis()))
    response = next(chart for chart in data["charts"]["charts"] if chart["name"] == "response")
    assert max(response["series"]["99 of 100 take less"]) == 55.0


def test_a_thread_that_waits_within_the_apps_code_is_not_called_idle(tmp_path: Path) -> None:
    at = time.time()
    given = Input(id="S-1", app="shop", at=at, targets=["shop-3"], known=scene.known(at))
    place = scene.folder_of(tmp_path, given, scene.analysis())
    (place / "shop-3").mkdir()
    wait = {"function": "wait", "file": "/usr/lib/python3.11/threading.py", "line": 320}
    mine = {"function": "borrow", "file": f"{given.known.app.cwd}/pool.py", "line": 9}
    frames = [[wait, mine], [wait]]
    threads = [{"id": at, "frames": stack} for at, stack in enumerate(frames)]
    stacks = {"rounds": [{"at": at, "processes": [{"pid": 5, "how": "py-spy", "threads": threads}]}]}
    (place / "shop-3" / "stacks.json").write_text(json.dumps(stacks))
    data, _ = written(place)
    groups = data["stacks"][0]["processes"][0]["groups"]
    assert [(len(one["frames"]), one["rests"]) for one in groups] == [(2, False), (1, True)]
