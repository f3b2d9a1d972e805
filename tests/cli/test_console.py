"""Files, commands, terminals, tokens and looking inside, by the command, on a real gateway: over its Unix socket, and
with tokens over TLS."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from click.testing import CliRunner

from proxy.cli.command import triage
from tests.cli.conftest import ROOT
from tests.cli.terminal import Terminal
from tests.e2e.support import LONG, Triage, served, shop_config, until

pytestmark = pytest.mark.slow


class Said(NamedTuple):
    """What one call of the command came to."""

    returncode: int
    stdout: str
    stderr: str


Say = Callable[..., Said]


def typed(folder: Path, *args: str, **env: str) -> Said:
    """`triage ARGS` in this process, which spares the start of an interpreter."""
    none = {name: None for name in os.environ if name.startswith(("TRIAGE_", "XDG_"))}
    with contextlib.chdir(folder):
        done = CliRunner().invoke(triage, args, env={**none, **env}, prog_name="triage")
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    made = trustme.CA()
    issued = made.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.cert_pem.write_to_path(folder / "ca.pem")
    return folder


@pytest.fixture(scope="module")
def gateway(ca: Path) -> Iterator[Triage]:
    config = shop_config(
        workers=1, name="web", process="env = { API_TOKEN = 'geheim' }",
        admin=f'console = true\ncertificate = {{ cert = "{ca}/cert.pem", key = "{ca}/key.pem" }}\n'
        'roots = { files = "files" }',
    ).replace('[admin]\nlisten = "', '[admin]\nlisten = "https://')  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="triage-") as made:
        (Path(made) / "files").mkdir()
        yield from served(Path(made), config)


@pytest.fixture
def say(gateway: Triage) -> Say:
    return lambda *args: typed(gateway.folder, *args, TRIAGE_URL=gateway.admin)


@pytest.fixture(scope="module")
def remote(gateway: Triage, ca: Path) -> Say:
    """`triage ARGS` over TLS, with the token that TRIAGE_TOKEN_FILE names."""
    url = gateway.api("status")["gateway"]["admin"]
    assert url.startswith("https://")

    def call(*args: str, token: str = "", trust: bool = True) -> Said:
        env = {"TRIAGE_CA": f"{ca}/ca.pem"} if trust else {}
        env |= {"TRIAGE_TOKEN_FILE": str(gateway.folder / token)} if token else {}
        return typed(gateway.folder, *args, TRIAGE_URL=url, **env)

    return call


@pytest.fixture(scope="module")
def tokens(gateway: Triage) -> dict[str, str]:
    """Files with a token of each role."""
    for role in ("viewer", "operator", "admin"):
        make = ("token", "make", f"a-{role}", "--role", role, "--output", f"{role}.token", "--for", "1h")
        done = typed(gateway.folder, *make, TRIAGE_URL=gateway.admin)
        assert done.returncode == 0, done.stderr
    return {role: f"{role}.token" for role in ("viewer", "operator", "admin")}


def ok(done: Said) -> str:
    assert done.returncode == 0, done.stderr
    return done.stdout


# --- tokens, TLS ---------------------------------------------------------------------------------------------


def test_a_token_is_written_for_its_owner_alone_and_told_nowhere(
    gateway: Triage, say: Say, remote: Say, tokens: dict[str, str]
) -> None:
    file = gateway.folder / tokens["viewer"]
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text().strip()
    assert text.startswith("triage_")
    again = say("token", "make", "other", "--role", "viewer", "--output", str(file))
    assert again.returncode == 1 and "file exists. No token was made" in again.stderr
    listed = ok(say("token", "list"))
    assert re.search(r"a-viewer +viewer +.*\b20\d\d-\d\d-\d\d \d\d:\d\d\b", listed), "with the year of its end"
    assert "a-viewer" in listed and "other" not in listed and text not in listed
    assert ok(remote("whoami", token=tokens["viewer"])).startswith("a-viewer: viewer, until ")
    assert text not in gateway.output


def test_a_role_that_is_too_low_is_told_with_what_to_do(remote: Say, tokens: dict[str, str]) -> None:
    done = remote("restart", "web", token=tokens["viewer"])
    assert done.returncode == 1
    assert "operator" in done.stderr and "triage token make" in done.stderr
    assert remote("files", "ls", token=tokens["operator"]).returncode == 1
    assert "files" in ok(remote("files", "ls", token=tokens["admin"]))


def test_without_a_token_or_trust_it_says_which_option_gives_it(remote: Say) -> None:
    done = remote("status")
    assert done.returncode == 1 and "--token-file" in done.stderr
    done = remote("status", trust=False)
    assert done.returncode == 3
    assert "its certificate is not trusted" in done.stderr and "--ca FILE" in done.stderr


def test_a_revoked_token_is_refused_at_once(say: Say, remote: Say) -> None:
    ok(say("token", "make", "brief", "--role", "admin", "-o", "brief.token"))
    assert "brief: admin" in ok(remote("whoami", token="brief.token"))
    assert "brief is revoked" in ok(say("token", "revoke", "brief"))
    assert remote("whoami", token="brief.token").returncode == 1


# --- looking inside ------------------------------------------------------------------------------------------


def instance(gateway: Triage) -> str:
    return str(gateway.ready("web")[0]["id"])


def test_processes_threads_files_and_connections(gateway: Triage, say: Say) -> None:
    name = instance(gateway)
    pid = gateway.ready("web")[0]["pid"]
    tree = ok(say("processes", f"web/{name}"))
    assert re.search(rf"\({name}\) +{pid} ", tree)
    assert "triage-control (control)" in ok(say("processes"))
    assert "(main)" in ok(say("processes", f"web/{name}", "--threads"))
    assert "/dev/null" in ok(say("processes", f"web/{name}", "--files", str(pid)))
    assert "listens" in ok(say("processes", f"web/{name}", "--connections"))
    done = say("processes", "--threads", f"web/{name}")
    assert done.returncode == 2 and "say of which APP/INSTANCE" in done.stderr
    many = say("processes", "web")
    assert many.returncode == 1 and "Say web/INSTANCE" in many.stderr


def test_an_environment_has_no_secret(gateway: Triage, say: Say) -> None:
    said = ok(say("environment", f"web/{instance(gateway)}"))
    assert "geheim" not in said and re.search(r"API_TOKEN +\*\*\*", said)
    assert "data dir" in ok(say("environment"))


def test_a_kill_says_what_it_will_do_and_what_came_of_it(gateway: Triage, say: Say) -> None:
    one = gateway.ready("web")[0]
    foreseen = ok(say("kill", f"web/{one['id']}", str(one["pid"]), "--preview"))
    assert "SIGTERM goes to pid" in foreseen and "recycle" in foreseen
    stranger = say("kill", f"web/{one['id']}", str(os.getpid()))
    assert stranger.returncode == 1 and "has no process" in stranger.stderr
    done = say("kill", f"web/{one['id']}", str(one["pid"]), "--signal", "kill", "--note", "a test")
    assert "done after" in ok(done)
    until(lambda: len(gateway.ready("web")) == 2, "another one is ready")


# --- files ---------------------------------------------------------------------------------------------------


def test_files_there_and_back(gateway: Triage, say: Say) -> None:
    here = gateway.folder / "here.bin"
    here.write_bytes(bytes(range(256)) * 5000)
    assert "made" in ok(say("files", "mkdir", "files/in"))
    assert "made" in ok(say("files", "put", str(here), "files/in/"))
    assert (gateway.folder / "files/in/here.bin").read_bytes() == here.read_bytes()
    unasked = say("files", "put", str(here), "files/in/here.bin")
    assert unasked.returncode == 1 and "--force" in unasked.stderr
    assert "replaced" in ok(say("files", "put", str(here), "files/in/here.bin", "--force"))
    back = gateway.folder / "back.bin"
    ok(say("files", "get", "files/in/here.bin", str(back)))
    assert back.read_bytes() == here.read_bytes()
    assert say("files", "get", "files/in/here.bin", str(back)).returncode == 1
    assert "1.3 MB" in ok(say("files", "ls", "files/in"))
    ok(say("files", "zip", "files/in", "-o", "in.zip"))
    ok(say("files", "mkdir", "files/out"))
    assert "1 file" in ok(say("files", "unzip", "in.zip", "files/out", "--force"))
    folder = say("files", "get", "files/in")
    assert folder.returncode == 1 and "triage files zip files/in" in folder.stderr
    assert say("files", "rm", "files/in", "--force").returncode == 1
    ok(say("files", "rm", "files/in/here.bin", "--force"))
    ok(say("files", "rm", "files/out", "--recursive", "--force"))
    assert os.listdir(gateway.folder / "files") == ["in"]


def test_a_name_cannot_write_to_the_terminal(gateway: Triage, say: Say) -> None:
    (gateway.folder / "files" / "a\x1b[2Jb\nc\u202ed").touch()
    shown = ok(say("files", "ls", "files"))
    assert "[2Jb" in shown and not re.search("[\x1b\u202e]", shown)
    assert len(shown.splitlines()) == 1 + len(json.loads(ok(say("files", "ls", "files", "--json")))["items"])


@pytest.mark.parametrize("path", ["../etc/passwd", "files/../../etc/passwd", "nowhere/x", "files/none/x"])
def test_paths_that_lead_nowhere(say: Say, path: str) -> None:
    assert say("files", "get", path, "-").returncode in (1, 2)


# --- commands ------------------------------------------------------------------------------------------------


def test_a_command_has_its_output_on_the_right_descriptors_and_its_code(gateway: Triage, say: Say) -> None:
    done = say("exec", f"web/{instance(gateway)}", "--", "sh", "-c", "echo $PORT; echo bad >&2; exit 7")
    assert done.returncode == 7
    assert done.stdout.strip().isdigit() and done.stderr == "bad\n"
    assert say("exec", "--", "sh", "-c", "kill -9 $$").returncode == 137
    late = say("exec", "web", "--timeout", "300ms", "--", "sleep", "30")
    assert late.returncode == 143 and "not within" in late.stderr
    assert ok(say("exec", "--dir", "files", "--", "pwd")).strip() == str(gateway.folder / "files")


def test_what_is_refused_before_it_begins(say: Say) -> None:
    done = say("exec", "web", "--", "no-such-program")
    assert done.returncode == 1 and "no-such-program" in done.stderr
    done = say("exec", "nothing", "--", "ls")
    assert done.returncode == 1 and "There is no app or instance nothing" in done.stderr
    assert say("exec", "web").returncode == 2  # no terminal here
    assert say("exec", "web", "--").returncode == 2
    extra = say("exec", "web", "ls")
    assert extra.returncode == 2 and "triage exec APP -- COMMAND" in extra.stderr


def test_a_command_ends_with_who_asked_for_it(gateway: Triage) -> None:
    mark = gateway.folder / "going"
    asking = subprocess.Popen(
        [sys.executable, "-m", "proxy.main", "exec", "--url", gateway.admin, "--", "sh", "-c",
         f"echo $$ > {mark}; echo on; exec sleep 100"],
        cwd=ROOT, env=gateway.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert asking.stdout is not None and asking.stdout.readline() == b"on\n"
    pid = int(mark.read_text())
    asking.send_signal(signal.SIGINT)
    asking.communicate(timeout=LONG)
    assert asking.returncode == 130
    until(lambda: not Path(f"/proc/{pid}").exists(), "the command has ended")


# --- terminals -----------------------------------------------------------------------------------------------


Begin = Callable[..., Terminal]


@pytest.fixture
def begin(gateway: Triage) -> Iterator[Begin]:
    """`triage exec ARGS` on a terminal; those of a test that failed are ended."""
    made: list[Terminal] = []

    def call(*args: str) -> Terminal:
        made.append(Terminal(gateway.folder, "exec", *args, size=(100, 30)))
        return made[-1]

    yield call
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait(LONG)
        one.close()
    until(lambda: not gateway.api("consoles")["items"], "its shell has ended")


def opened(one: Terminal) -> Terminal:
    one.expect("Enter ~ . leaves")
    return one


def test_a_terminal_over_the_socket(gateway: Triage, say: Say, begin: Begin) -> None:
    """Its size and every change of it; Ctrl-C goes through; its exit code; and everything as it was."""
    one = opened(begin(f"web/{instance(gateway)}", "--url", gateway.admin))
    one.type("stty size; echo port $PORT; echo re''ady\r")
    one.expect("ready")
    assert "30 100" in one.said and re.search(r"port \d+", one.said)
    assert not one.as_it_was()
    one.resize(120, 40)
    until(lambda: gateway.api("consoles")["items"][0]["cols"] == 120, "the new size is there")
    one.type("stty size; echo ag''ain\r")
    one.expect("again")
    assert "40 120" in one.said
    assert re.search(rf"c-\d+ +uid {os.getuid()} +web/", ok(say("consoles")))
    # Said by the process in the foreground: between its own `echo` and the next fork a shell loses a Ctrl-C.
    one.type("PS1=pro''mpt:; sh -c \"echo wai''ting; exec sleep 100\"\r")
    one.expect("waiting")
    one.type("\x03")
    one.expect("prompt:")  # what is typed before, a shell throws away with the rest
    one.type("echo inter''rupted; exit 5\r")
    one.expect("interrupted")
    assert one.end(keep=True) == 5
    assert one.as_it_was()


def test_a_terminal_over_tls_is_left_by_the_escape(
    gateway: Triage, ca: Path, tokens: dict[str, str], begin: Begin
) -> None:
    url = gateway.api("status")["gateway"]["admin"]
    file = str(gateway.folder / tokens["admin"])
    one = opened(begin("--url", url, "--ca", f"{ca}/ca.pem", "--token-file", file))
    one.type("printf '\\033[?1049h'; echo there is ~. in a li''ne\r")
    one.expect("there is ~. in a line")
    one.type("\r~.")
    one.expect("left")
    assert one.end(keep=True) == 0
    assert one.as_it_was()
    assert one.shown.rindex(b"\x1b[?1049l") > one.shown.rindex(b"\x1b[?1049h")


def test_a_terminal_that_is_taken_away(gateway: Triage, say: Say, begin: Begin) -> None:
    one = opened(begin("--url", gateway.admin))
    id = gateway.api("consoles")["items"][0]["id"]
    assert "has ended" in ok(say("consoles", "--end", id))
    one.expect("ended it")
    assert one.end(keep=True) != 0
    assert one.as_it_was()


def test_a_signal_puts_the_terminal_back(gateway: Triage, begin: Begin) -> None:
    one = opened(begin("--url", gateway.admin))
    one.process.send_signal(signal.SIGTERM)
    assert one.end(keep=True) == 128 + signal.SIGTERM
    assert one.as_it_was()


def test_a_refused_terminal_says_why_and_changes_nothing(
    gateway: Triage, ca: Path, tokens: dict[str, str], begin: Begin
) -> None:
    url = gateway.api("status")["gateway"]["admin"]
    file = str(gateway.folder / tokens["operator"])
    one = begin("--url", url, "--ca", f"{ca}/ca.pem", "--token-file", file)
    one.expect("triage token make")
    assert one.end(keep=True) == 1
    assert "admin" in one.said and one.as_it_was()


def test_the_audit_has_who_did_what(gateway: Triage, say: Say, remote: Say, tokens: dict[str, str]) -> None:
    remote("restart", "web", token=tokens["viewer"])
    events: list[dict[str, Any]] = json.loads(ok(say("events", "--kind", "audit", "--json", "--limit", "200")))["items"]
    assert any("a-viewer" in json.dumps(one) for one in events)
