"""When watched files lead to a restart: the files are real, the mender is one that only notes what it is asked."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from proxy.config import parse
from proxy.control.operations import Asked, Operation, Operations
from proxy.control.refusal import NotPossible
from proxy.control.shared import Shared
from proxy.control.state import AppState, Events
from proxy.control.watch import OFTEN, SLOWED, FileWatcher, decided_by_rule, said


class Desk:
    """A watcher of one app in `folder`, and what came of it."""

    def __init__(self, folder: Path, raw: dict[str, Any] | None = None) -> None:
        self.folder = folder
        config = parse(
            f'[apps.web.process]\ncommand = "true"\nuser = "root"\ncwd = "{folder}"\nwatch = ["*.py"]\n',
            folder / "config.toml",
        )
        self.events = Events()
        self.operations = Operations(self.events.add, lambda: None)
        shared = SimpleNamespace(
            operations=self.operations, event=self.events.add, changed=lambda: None, data_dir=folder / "var"
        )
        self.app = AppState("web", config.apps["web"], 0)
        self.begun: list[Operation] = []
        self.retried = 0
        self.refuse: NotPossible | None = None
        self.now = time.monotonic()
        self.watcher = FileWatcher(cast(Shared, shared), {"web": self.app}, self.act, self.retry)
        self.watcher.load(raw or {})

    def act(self, act: str, app: str, instance: str, asked: Asked) -> Operation:
        if self.refuse is not None:
            raise self.refuse
        assert (act, app, instance, asked.by, asked.collect) == ("restart", "web", "", "watch", False)
        self.begun.append(self.operations.begin(act, app, instance, asked))
        return self.begun[-1]

    def retry(self, app: str) -> None:
        self.retried += 1

    async def looks(self, count: int = 1) -> None:
        for _ in range(count):
            self.now += 1.0
            self.watcher._next = 0.0
            self.watcher.tick(self.now)
            assert self.watcher._looking is not None
            await self.watcher._looking

    async def change(self, name: str = "app.py", text: str = "") -> None:
        (self.folder / name).write_text(text or f"{time.monotonic_ns()}")
        await self.looks(2)

    @property
    def reasons(self) -> list[str]:
        return [one.asked.reason for one in self.begun]


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(cast(Any, work()))


def test_a_change_counts_when_two_looks_are_the_same(tmp_path: Path) -> None:
    async def work() -> None:
        desk = Desk(tmp_path)
        (tmp_path / "app.py").write_text("1")
        await desk.looks(3)
        assert not desk.begun
        before = desk.watcher.fingerprint("web")
        for number in range(3):  # a checkout goes on
            (tmp_path / f"{number}.py").write_text("x")
            await desk.looks()
            assert not desk.begun
            assert desk.watcher.fingerprint("web") == before
        await desk.looks()
        assert desk.reasons == ["0.py changed (and 2 more)"]
        assert desk.watcher.fingerprint("web") not in (before, "")
        (tmp_path / "notes.txt").write_text("not watched")
        await desk.looks(3)
        assert len(desk.begun) == 1

    run(work)


def test_what_changes_during_a_restart_leads_to_the_next(tmp_path: Path) -> None:
    async def work() -> None:
        desk = Desk(tmp_path)
        await desk.looks()
        await desk.change()
        await desk.change("other.py")
        assert (desk.reasons, desk.retried) == (["app.py changed"], 1)
        assert desk.watcher.dump() == {"web": "-"}, "a successor must see that it is not taken up"
        desk.operations.failed(desk.begun[0], "no replacement got ready")
        await desk.looks()
        assert desk.reasons == ["app.py changed", "other.py changed"]
        assert desk.watcher.dump() == {"web": desk.watcher.fingerprint("web")}

    run(work)


@pytest.mark.parametrize(("known", "begun"), [("same", 0), ("-", 1), ("another", 1), ("", 0)])
def test_a_successor_sees_what_changed_while_nobody_looked(tmp_path: Path, known: str, begun: int) -> None:
    async def work() -> None:
        (tmp_path / "app.py").write_text("1")
        desk = Desk(tmp_path)
        await desk.looks()
        fingerprint = desk.watcher.fingerprint("web")
        successor = Desk(tmp_path, {"web": fingerprint if known == "same" else known})
        await successor.looks(2)
        assert len(successor.begun) == begun
        assert successor.reasons == ["files, while control was away, changed"][:begun]

    run(work)


def test_a_stopped_app_and_a_refusal(tmp_path: Path) -> None:
    async def work() -> None:
        desk = Desk(tmp_path)
        await desk.looks()
        desk.app.state = "stopped"
        await desk.change()
        desk.app.state = "up"
        await desk.looks(2)
        assert not desk.begun, "it starts with the new files"
        desk.refuse = NotPossible("already", "it is being replaced already")
        await desk.change()
        desk.refuse = None
        await desk.looks()
        assert desk.reasons == ["app.py changed"], "as soon as it can be"
        desk.operations.done(desk.begun[0])
        desk.refuse = NotPossible("no-memory", "there is no room")
        await desk.change()
        desk.refuse = None
        await desk.looks(2)
        assert len(desk.begun) == 1
        assert [one.text for one in desk.events if one.kind == "watch-refused"] == [
            "web is not restarted, though app.py changed: there is no room"
        ]

    run(work)


def test_files_that_change_with_each_start_do_not_restart_it_without_end(tmp_path: Path) -> None:
    async def work() -> None:
        desk = Desk(tmp_path)
        await desk.looks()
        for _ in range(OFTEN + 3):
            await desk.change()
            desk.operations.done(desk.begun[-1])
        assert len(desk.begun) == OFTEN
        assert len([one for one in desk.events if one.kind == "watch-often"]) == 1
        desk.now += SLOWED
        await desk.looks()
        assert len(desk.begun) == OFTEN + 1, "but not never"

    run(work)


RULE = '[[apps.web.autoheal]]\nname = "f"\nwhen = {{ changed = {{ {} }} }}\nthen = ["restart"]\n{}\n'


@pytest.mark.parametrize(
    ("rule", "decides"),
    [
        ("", False),
        (RULE.format("", ""), True),
        (RULE.format('files = ["*.py"]', ""), True),
        (RULE.format('files = ["*.toml"]', ""), False),
        (RULE.format("", "dry_run = true"), False),
    ],
)
def test_a_rule_for_the_same_files_decides(tmp_path: Path, rule: str, decides: bool) -> None:
    text = f'[apps.web.process]\ncommand = "true"\nuser = "root"\nwatch = ["*.py"]\n{rule}'
    assert decided_by_rule(parse(text, tmp_path / "config.toml").apps["web"]) is decides


def test_words() -> None:
    assert said(["app.py"]) == "app.py changed"
    assert said(["a", "b", "c", "d"]) == "a changed (and 3 more)"
