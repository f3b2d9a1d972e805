"""Versions, servers and their settings, and what changed: read, never run."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from proxy.diagnostics import servers
from proxy.diagnostics.artifacts import Changes
from proxy.diagnostics.collectors import changes, environment
from proxy.link.session import Deploy, Instance
from tests.diagnostics.sessions import python, running, until
from tests.diagnostics_host.support import of, subject

NOWHERE = Path("/nowhere")


def settings(command: str, file: str = "", **variables: str) -> tuple[str, dict[str, str]]:
    found = servers.server(command.split())
    assert found is not None, command
    return found[0].name, servers.settings(*found, variables, file)


@pytest.mark.parametrize(
    ("command", "server", "expected", "taking"),
    [
        ("/v/bin/python /v/bin/gunicorn -w 3 --threads=8 app:app", "gunicorn",
         {"workers": "3", "threads": "8", "timeout": "30 (default)", "worker class": "gthread (sync, with threads)"},
         24),
        ("gunicorn -w4 -k uvicorn.workers.UvicornWorker app:app", "gunicorn",
         {"workers": "4", "worker class": "uvicorn.workers.UvicornWorker"}, 4),
        ("python3 -m uvicorn app:app --timeout-keep-alive 75 --backlog 64", "uvicorn",
         {"keep-alive": "75", "backlog": "64", "workers": "1 (default)"}, 1),
        ("waitress-serve --threads=6 app:app", "waitress", {"threads": "6", "worker connections": "100 (default)"}, 6),
        ("python manage.py runserver 0.0.0.0:8000", "django runserver", {}, None),
        ("python -m flask --app x run -p 5000", "flask run", {"port": "5000"}, None),
        ("flask run --without-threads", "flask run", {"without-threads": "yes"}, None),
        ("bundle exec puma -t 2:16 -w 2", "puma", {"threads": "2:16", "workers": "2"}, 32),
        ("uwsgi --processes 4 --threads 2 --harakiri 20", "uwsgi", {"workers": "4", "timeout": "20"}, 8),
        ("python -X dev -m hypercorn app:app", "hypercorn", {"backlog": "100 (default)"}, 1),
        ("gunicorn: master [app:app]", "gunicorn", {"timeout": "30 (default)"}, 1),
    ],
)  # fmt: skip
def test_servers_by_their_command(command: str, server: str, expected: dict[str, str], taking: int | None) -> None:
    name, found = settings(command)
    assert name == server and expected.items() <= found.items() and servers.taking(found) == taking


@pytest.mark.parametrize(
    "command",
    ["python app.py --workers 4", "node server.js", "./server", "python -m app", "sleep 5", "python run.py gunicorn"],
)  # fmt: skip
def test_no_server_is_made_up(command: str) -> None:
    assert servers.server(command.split()) is None


def test_the_stronger_setting_holds() -> None:
    file = "timeout = 77\nworkers = cpus() * 2\nraise SystemExit('this must never run')"
    _, found = settings("gunicorn -t 5 app:app", file, GUNICORN_CMD_ARGS="--keep-alive 9 -t 6", WEB_CONCURRENCY="7")
    assert (found["timeout"], found["keep-alive"], found["workers"]) == ("5", "9", "computed in gunicorn.conf.py")
    _, found = settings("gunicorn app:app", "timeout = 77", WEB_CONCURRENCY="7")
    assert (found["timeout"], found["workers"]) == ("77 (gunicorn.conf.py)", "7 (WEB_CONCURRENCY)")
    _, found = settings("gunicorn app:app", "this is no Python", GUNICORN_CMD_ARGS='an "open quote')
    assert found["timeout"] == "30 (default)"


@pytest.mark.slow
def test_a_real_server_is_told_with_versions_and_settings(tmp_path: Path) -> None:
    gunicorn = Path(sys.executable).with_name("gunicorn")
    if not gunicorn.exists():
        pytest.skip("gunicorn is not installed")
    (tmp_path / "app.py").write_text("def app(environ, start):\n    start('200 OK', [])\n    return [b'']\n")
    (tmp_path / "gunicorn.conf.py").write_text("timeout = 77\n")
    env = {**os.environ, "DB_PASSWORD": "hunter2", "WEB_CONCURRENCY": "2"}
    command = [str(gunicorn), "-b", "127.0.0.1:0", "--threads=3", "--backlog", "17", "app:app"]
    with subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.DEVNULL) as process:
        try:
            found = until(
                lambda: (one := environment.collect(of(process.pid), NOWHERE)).runtimes
                and one.runtimes[0].settings.get("processes now") == "3" and one, "a master and two workers run"
            )  # fmt: skip
        finally:
            process.terminate()
    (one,) = found.runtimes
    assert (one.name, one.server, one.workers) == ("python", "gunicorn", 6)
    assert one.version == ".".join(str(part) for part in sys.version_info[:3]) and one.server_version
    assert one.packages["gunicorn"] == one.server_version
    wanted = {"timeout": "77 (gunicorn.conf.py)", "backlog": "17", "workers": "2 (WEB_CONCURRENCY)", "threads": "3"}
    assert wanted.items() <= one.settings.items()
    assert found.variables["DB_PASSWORD"] == "***" and found.limits["max open files"]
    assert found.gateway["triage"] and found.host["kernel"].startswith("Linux ") and found.host["Yama scope"]


@pytest.mark.slow
def test_of_node_its_version_and_packages(tmp_path: Path) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    (tmp_path / "package.json").write_text('{"dependencies": {"express": "^4", "pg": "8", "leftpad": "1"}}')
    (tmp_path / "node_modules/express").mkdir(parents=True)
    (tmp_path / "node_modules/express/package.json").write_text('{"version": "4.19.2"}')
    (tmp_path / "server.js").write_text("console.log('ready'); setTimeout(() => 0, 1e6)")
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    with running(node, str(tmp_path / "server.js"), env={"UV_THREADPOOL_SIZE": "9"}) as (process, _):
        (one,) = environment.collect(of(process.pid), NOWHERE).runtimes
    assert (one.name, f"v{one.version}") == ("node", version)
    assert one.packages == {"express": "4.19.2", "pg": "8 wanted"}
    assert one.settings == {"UV_THREADPOOL_SIZE": "9"}


def test_gateway_and_machine_are_told_when_the_instance_is_gone() -> None:
    found = environment.collect(of(0), NOWHERE)
    assert found.host and found.gateway and found.note == "no process of it can be seen" and not found.runtimes


def look(folder: Path, **known: object) -> Changes:
    return changes.collect(subject(app={"cwd": str(folder)}, **known), NOWHERE)


def git(folder: Path, *arguments: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    subprocess.run(["git", *who, "-C", str(folder), *arguments], check=True, capture_output=True)


def test_files_newest_first_without_what_is_not_the_apps(tmp_path: Path) -> None:
    now = time.time()
    places = ("app.py", "lib/old.py", "node_modules/x.js", ".git/x", "lib/__pycache__/x.pyc", "own/lib/y.py")
    for number, path in enumerate(places):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("x" * number)
        os.utime(tmp_path / path, (now, now - number * 100))
    (tmp_path / "own/pyvenv.cfg").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    deploys = [
        Deploy(at=now - 50, what="deployed", text="web: v2", version="v2", before="v1", changed=["password=hunter2"]),
        Deploy(at=now - 10, what="config", text="queue.timeout: 5s to 1s"),
    ]
    found = look(tmp_path, deploys=deploys, instances=[Instance(name="web-1", started_at=now - 60)])
    assert [(one.path, one.size) for one in found.files] == [("app.py", 0), ("lib/old.py", 1)]
    assert found.config[0] == "config: queue.timeout: 5s to 1s" and found.config_at == now - 10
    assert found.config[1:] == ["deployed: web: v2 (v1 to v2)", "  password=***"]
    assert found.started_at == now - 60 and found.note == ""


@pytest.mark.slow
def test_commits_and_nothing_that_a_repository_names_is_run(tmp_path: Path) -> None:
    marker = tmp_path / "it-was-run"
    app = tmp_path / "app"
    app.mkdir()
    git(app, "init")
    (app / "a.py").write_text("1")
    git(app, "add", ".")
    git(app, "commit", "-m", "First, with token=hunter2hunter2")
    (app / "a.py").write_text("2")
    found = look(app)
    assert len(found.commit) == 40 and [text for _, text in found.commits] == ["First, with token=***"]
    assert found.uncommitted == ["a.py"] and abs(found.checked_out_at - time.time()) < 60
    for name in ("core.fsmonitor", "core.pager", "diff.external", "filter.x.clean", "gpg.program", "core.sshCommand"):
        git(app, "config", name, f"touch {marker}; cat")
    (app / ".gitattributes").write_text("* filter=x\n")
    found = look(app)
    assert not marker.exists()
    assert found.commits and "its filters would have to run" in found.note


def test_a_folder_that_is_not_there_and_one_that_is_too_large_to_look_through(tmp_path: Path) -> None:
    assert "could not be read" in look(tmp_path / "nowhere").note
    assert "is /, which is not looked through" in look(Path("/")).note
    assert "is not known" in changes.collect(subject(), NOWHERE).note


def test_where_the_config_has_no_folder_that_of_the_process_is_taken() -> None:
    with running(*python("print('ready', flush=True); import time; time.sleep(1000)")) as (process, _):
        found = changes.collect(subject(Instance(name="web-1", pid=process.pid)), NOWHERE)
        assert found.cwd == os.getcwd()
