"""What the verbs print, on the shapes that the route table promises."""

from __future__ import annotations

import ast
import copy
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cli.api import Api
from tests.cli.conftest import ROOT, Run

pytestmark = pytest.mark.slow


def answer(api: Api, call: str) -> Any:
    """The answer to one call, to be changed."""
    status, value = api.answers[call]
    api.answers[call] = status, copy.deepcopy(value)
    return api.answers[call][1]


def test_help_groups_the_verbs(run: Run) -> None:
    done = run("--help")
    heads = [line for line in done.stdout.splitlines() if line.endswith(":") and not line.startswith(" ")]
    assert heads == ["Options:", "Run:", "Observe:", "Collect and analyze:", "Mitigate:"]
    assert "control" not in done.stdout


def test_version(run: Run) -> None:
    from proxy import __version__

    assert run("--version").stdout.strip() == f"triage, version {__version__}"


def test_status_says_the_verdict_first(run: Run, api: Api) -> None:
    done = run("status", "--url", api.address)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "web is degraded: 1 of 2 ready, web-7 exited with code 3; 5 faults in the last 5 min"
    assert lines[2].split()[:5] == ["web", "degraded", "1", "of", "2"]
    assert " ".join(lines[3].split()) == "instance state since in flight req/s p50 p99 memory CPU restarts"
    assert lines[4].split()[:4] == ["web-7", "ready", "18", "min"]
    assert "workers  1 alive, 64 connections" in done.stdout
    assert "notice   the access log lost 120 lines" in done.stdout
    assert max(map(len, lines)) <= 160


def test_status_of_one_that_is_not_well(run: Run, api: Api) -> None:
    instance = answer(api, "GET /api/v1/status")["apps"][0]["instances"][0]
    instance |= {"admission": "ejected", "ejected_by": "probe"}
    done = run("status", "--url", api.address)
    assert "web-7     ejected" in done.stdout
    assert "by probe" in done.stdout


def test_json_is_what_the_gateway_said(run: Run, api: Api) -> None:
    done = run("status", "--json", "--url", api.address)
    assert json.loads(done.stdout) == api.answers["GET /api/v1/status"][1]


def test_requests_are_a_table_in_local_time(run: Run, api: Api) -> None:
    done = run("requests", "--url", api.address)
    assert done.returncode == 0, done.stderr
    head, row = done.stdout.splitlines()
    assert head.split()[:4] == ["time", "+01:00", "id", "method"]
    assert "04:07:41" in row  # TZ of the tests is an hour ahead of UTC
    assert row.endswith("wait 687 ms")
    for cell in ("7f3a91016957e2dd", "POST", "/api/orders", "502", "instance-exited", "web-7", "689 ms"):
        assert cell in row


def test_filters_go_to_the_gateway(run: Run, api: Api) -> None:
    run(
        "requests",
        "--app",
        "web",
        "--status",
        ">=500",
        "--slower",
        "1s",
        "--limit",
        "3",
        "--url",
        api.address,
    )
    query = api.lines[0].partition("?")[2]
    assert sorted(query.split("&")) == ["app=web", "limit=3", "slower=1s", "status=%3E%3D500"]


def test_no_requests_are_said_so(run: Run, api: Api) -> None:
    answer(api, "GET /api/v1/requests")["items"] = []
    done = run("requests", "--url", api.address)
    assert done.returncode == 0
    assert "No such request is kept" in done.stdout


def test_a_request_cannot_write_to_the_terminal(run: Run, api: Api) -> None:
    answer(api, "GET /api/v1/requests")["items"][0]["target"] = "/\x1b[2J\x9b31m"
    assert "/?[2J?31m" in run("requests", "--url", api.address).stdout


@pytest.mark.parametrize(
    ("what", "calls"),
    [
        ([], ["GET /api/v1/incidents?open=true&limit=1", "GET /api/v1/requests/latest/why"]),
        (["inc-31"], ["GET /api/v1/incidents/inc-31/why"]),
        (["7f3a"], ["GET /api/v1/apps/7f3a/why", "GET /api/v1/requests/7f3a/why"]),
        (["web"], ["GET /api/v1/apps/web/why"]),
    ],
)
def test_why_of_the_newest_of_a_request_and_of_an_app(
    run: Run, api: Api, what: list[str], calls: list[str]
) -> None:
    api.answers["GET /api/v1/incidents"] = 200, {"items": [], "next": None}
    example = {"text": "502 instance-exited   2026-01-05T03:07:41.120Z\n\nWHY    …\n"}
    api.answers[calls[-1]] = 200, example
    done = run("why", *what, "--url", api.address)
    assert done.returncode == 0, done.stderr
    assert api.lines == calls
    assert done.stdout.startswith("502 instance-exited")
    assert "04:07:41 +01:00" in done.stdout


def test_an_error_is_title_detail_hint(run: Run, api: Api) -> None:
    done = run("why", "nothing", "--url", api.address)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["Not found", "/api/v1/requests/nothing/why", "look at the list"]


def test_reload_says_what_changed(run: Run, api: Api) -> None:
    done = run("reload", "--reason", "more of them", "--url", api.address)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == answer(api, "POST /api/v1/config/reload")["changes"]
    assert json.loads(api.calls[0][2]) == {"reason": "more of them"}


def test_a_refused_reload_lists_the_problems(run: Run, api: Api) -> None:
    problem = {
        "title": "The config has problems",
        "problems": ["config.toml:4: a: unknown key"],
        "status": 422,
    }
    api.answers["POST /api/v1/config/reload"] = 422, problem
    done = run("reload", "--url", api.address)
    assert done.returncode == 1
    assert done.stderr.splitlines() == ["The config has problems", "config.toml:4: a: unknown key"]


def test_asking_imports_little(run: Run, api: Api) -> None:
    """`triage status` is typed often: no config, no web framework, and off a terminal no rich."""
    done = run("status", "--url", api.address, python=("-X", "importtime"))
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "proxy.cli.status" in loaded
    assert not loaded & {"asyncio", "aiohttp", "msgspec", "psutil", "rich", "proxy.config", "proxy.control"}


# --- what is named exists ------------------------------------------------------------------------------------

def test_every_command_that_is_named_somewhere_is_a_verb() -> None:
    """An answer that tells someone in trouble to type what does not exist is worse than none."""
    from proxy.cli.command import triage

    named: dict[str, str] = {}
    for path in sorted((ROOT / "proxy").rglob("*.py")):
        for line, text in strings(ast.parse(path.read_text())):
            for verb in re.findall(r"(?<![\w./-])triage ([a-z][a-z-]*)\b", text):
                named.setdefault(verb, f"{path.relative_to(ROOT)}:{line}")
    assert {"why", "start", "release", "scale"} <= set(named)
    assert not {verb: at for verb, at in named.items() if verb not in triage.list_commands(None)}


def strings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """All texts of a module but docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body and isinstance(node.body[0], ast.Expr)
    }  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def test_the_documents_name_no_verb_that_is_not_there() -> None:
    from proxy.cli.command import triage

    there = set(triage.list_commands(None))
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        named = set(re.findall(r"`triage ([a-z][a-z-]*)", page.read_text()))
        assert named <= there, page.name


def test_status_of_an_instance_shows_its_path(run: Run, api: Api) -> None:
    shown = answer(api, "GET /api/v1/apps/web/instances/{instance}")
    api.answers["GET /api/v1/apps/web/instances/web-7"] = 200, shown
    shown["path"] = [
        {"time": "2026-01-05T02:49:42.240Z", "lifecycle": "starting", "why": ""},
        {"time": "2026-01-05T02:49:43.240Z", "lifecycle": "ready", "why": "its probes passed"},
    ]
    shown["last_lines"] = ["listening"]
    for name in ("web/web-7", "web-7"):
        done = run("status", name, "--url", api.address)
        assert done.returncode == 0, done.stderr
        lines = done.stdout.splitlines()
        assert lines[0].startswith("web/web-7 is ")
        path = lines[lines.index("path") + 1 : lines.index("last lines")]
        assert [line.split(":")[-1].split()[1] for line in path] == ["starting", "ready"]
        assert path[1].endswith("its probes passed")
        assert lines[-1].strip() == "listening"


def test_status_of_an_app_alone(run: Run, api: Api) -> None:
    done = run("status", "web", "--url", api.address)
    assert done.returncode == 0, done.stderr
    assert "web-7" in done.stdout
    assert "gateway" not in done.stdout
