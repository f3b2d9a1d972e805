"""What can be done by the dashboard, by the API and by the command is the same: each act of one is one of the others.

The API's acts are the routes of its table that change something. The command's are what its verbs declare, which is
what they call: their examples are run against an API that writes down what it is asked. The dashboard's are read from
its scripts: each call that changes something, and each button of an act, by its path.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from proxy.admin.routes import ROUTES
from proxy.cli.command import triage
from proxy.cli.group import SECTIONS
from tests.cli.api import Api, serving
from tests.cli.conftest import ROOT, examples

SCRIPTS = ROOT / "proxy" / "admin" / "dashboard"
PREFIX = "/api/v1/"

NOT_IN_COMMAND = {
    "POST /login": "a browser's cookie; the command shows a token with each call",
    "POST /logout": "likewise",
}
NOT_IN_DASHBOARD = {
    "POST /api/v1/login-links": "`triage open` asks for it: who has the dashboard open is logged in",
}
DYNAMIC = {
    "act.path": "the dialog of any act: its path is that of the button",
    "path": "the same dialog, asking what would be done",
    "address(path": "lib/api.js: what all calls go through",
    "${act}": "what a finding advises: one of the acts of an app or an instance",
    "...${row.end} th": "ends what was set by hand, as the next two say",
    "path(app, verb)": "release and start, which stand in lib/acts.js too",
    "path(app, found.act)": "scale, autoheal and mute, which have buttons of their own too",
}
"""Paths in the scripts that are not told by their text; each repeats an act that is."""
TERMINAL = "GET /api/v1/console"
"""A GET, but it begins a shell."""


def acting() -> set[str]:
    """All that the API can be asked to do."""
    return {f"{route.method} {route.path}" for route in ROUTES if route.method not in ("GET", "HEAD")} | {TERMINAL}


# --- the command ---------------------------------------------------------------------------------------------


def verbs() -> Iterator[tuple[str, click.Command]]:
    """Each with its name; those of a group as "files put"."""
    context = click.Context(triage, info_name="triage")
    for name in triage.list_commands(context):
        command = triage.get_command(context, name)
        assert command is not None, name
        if isinstance(command, click.Group):
            yield from ((f"{name} {each}", one) for each, one in command.commands.items())
        else:
            yield name, command


VERBS = dict(verbs())


def declared(command: click.Command) -> set[str]:
    return set(getattr(command.callback, "calls", ()))


def of_command() -> set[str]:
    return set().union(*map(declared, VERBS.values()))


def test_every_verb_stands_in_one_section() -> None:
    named = [name for names in SECTIONS.values() for name in names]
    assert len(named) == len(set(named))
    assert set(named) == set(triage.list_commands(click.Context(triage)))


def test_what_verbs_declare_are_routes() -> None:
    assert of_command() <= acting()


def test_every_act_of_the_api_is_one_of_the_command() -> None:
    missing = acting() - of_command() - NOT_IN_COMMAND.keys()
    assert not missing, f"no verb does this: declare it with `calls`, or say why not here: {sorted(missing)}"


def test_the_exceptions_are_needed() -> None:
    assert NOT_IN_COMMAND.keys() <= acting() - of_command()
    assert NOT_IN_DASHBOARD.keys() <= acting() - of_dashboard()[0]


class Whole(dict[str, tuple[int, Any]]):
    """The answer of whatever route a call is of: its example."""

    def get(self, key: str, default: Any = None) -> Any:
        method, _, path = key.partition(" ")
        route = route_of(method, path)
        return super().get(route, default) if route else default


def route_of(method: str, path: str) -> str:
    """As the table has it; "" where there is none. What is told in full goes before what has a parameter there."""
    found = [
        route for route in ROUTES
        if route.method == method and pattern(route.path, tail=route.tail).fullmatch(path)
    ]  # fmt: skip
    return f"{method} {min(found, key=lambda route: route.path.count('{')).path}" if found else ""


def pattern(path: str, *, tail: bool) -> re.Pattern[str]:
    parts = [r"[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/")]
    if tail or "{path}" in path or "{dir}" in path:
        parts[-1] = ".*"
    return re.compile("/".join(parts))


MORE = {
    "sessions": ["triage sessions S-12 --cancel", "triage sessions S-12 --analyze", "triage sessions S-12 --delete"],
    "autoheal": ["triage autoheal on web"],
}
NO_EXAMPLE = {"serve", "run", "completion", "check", "top"}
"""They ask no gateway, or without end."""


def typed(name: str, command: click.Command) -> list[list[str]]:
    """The examples of its help, without what a shell would do with them."""
    lines = [*re.findall(r"^  (triage .+)$", command.epilog or "", re.M), *MORE.get(name, [])]
    return [shlex.split(line.partition(" | ")[0])[1:] for line in lines]


@pytest.mark.slow
def test_examples_can_be_typed_and_do_what_the_verb_declares(
    tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("new.json", "a.txt", "site.zip"):
        (tmp_path / name).write_bytes(b"{}")
    wrong, known = [], {f"{route.method} {route.path}": route for route in ROUTES}
    with serving(Api(Whole(examples())), short / "api.sock") as api:
        monkeypatch.setenv("TRIAGE_URL", api.address)
        for name, command in VERBS.items():
            if name in NO_EXAMPLE:
                continue
            lines = typed(name, command)
            assert lines, f"triage {name} --help shows no example"
            done: set[str] = set()
            for argv in lines:
                api.calls.clear()
                again = {option for one in command.params if isinstance(one, click.Option) for option in one.opts}
                left_out = {"-f", "--follow", "--watch", "--url", *(["--preview"] if "--no-wait" in again else [])}
                fitted = [word for word in argv if word not in left_out]
                fitted = [word for word in fitted if not word.startswith("https:")]
                quick = [option for option in ("--no-wait", "--force", "--yes") if option in again]
                at = fitted.index("--") if "--" in fitted else len(fitted)
                if name == "exec" and "--" not in fitted:
                    continue  # a terminal: test_exec.py has one
                result = CliRunner().invoke(triage, [*fitted[:at], *quick, *fitted[at:]], prog_name="triage")
                if result.exception is not None and not isinstance(result.exception, SystemExit):
                    raise AssertionError(f"triage {shlex.join(argv)}") from result.exception
                if result.exit_code == 2:
                    wrong.append(f"triage {shlex.join(argv)}: {result.output}")
                asked = [call[0].partition("?")[0].split(" ", 1) for call in api.calls]
                routes = [route_of(method if method != "HEAD" else "GET", path) for method, path in asked]
                wrong += [f"triage {shlex.join(argv)}: no route {asked}" for route in routes if route not in known]
                done |= set(routes) & acting()
            if done != declared(command) - {TERMINAL}:
                wrong.append(f"triage {name} declares {sorted(declared(command))}, and calls {sorted(done)}")
    assert not wrong, "\n".join(wrong)


# --- the dashboard -------------------------------------------------------------------------------------------


_CALL = re.compile(r"(?<![\w.])(post|remove|run)\((?=[\"`\w])(\"[^\"]*\"|`[^`]*`|[^,)]*)")
_SENT = re.compile(r"\b(?:send|call)\(\"(POST|PUT|PATCH|DELETE)\", (\"[^\"]*\"|`[^`]*`|[^,)]*)")
_BUTTON = re.compile(r"<\$\{Act\}(.*?)/>", re.S)
_PATH = re.compile(r"\bpath=(\"[^\"]*\"|\$\{`[^`]*`\}|\$\{[^{}]*\})")
_ENDING = re.compile(r"\bpath: (pathOf\([^()]*\)|[\w.]+\([^()]*\))")
_SOCKET = re.compile(r"\burlOf\((\"console\")")
_METHODS = {"post": "POST", "run": "POST", "remove": "DELETE"}


def of_dashboard() -> tuple[set[str], set[str], set[str]]:
    """Acts of its scripts; paths that no act of the API has; texts that do not tell their path."""
    acts, strange, dynamic = set(), set(), set()
    for file in sorted([*SCRIPTS.glob("*.js"), *SCRIPTS.glob("lib/*.js"), *SCRIPTS.glob("pages/*.js")]):
        for method, text in asked_by(file.read_text()):
            shape = shape_of(text)
            if shape is None:
                dynamic.add(text)
                continue
            fits = {act for act in acting() if fits_to(act, method, shape)}
            acts |= fits
            if not fits:
                strange.add(f"{file.name}: {method} {text}")
    return acts, strange, dynamic


def asked_by(script: str) -> Iterator[tuple[str, str]]:
    """Method, and the path as it is written, of each call that changes something and each button of an act."""
    script = re.sub(r"(?m)^\s*(//|/?\*).*$", "", script)
    script = re.sub(r"\bfunction (post|remove|run|send|call)\(", "", script)
    for found in _CALL.finditer(script):
        yield _METHODS[found[1]], found[2]
    for found in _SENT.finditer(script):
        yield found[1], found[2]
    for button in _BUTTON.finditer(script):
        path = _PATH.search(button[1])
        yield "POST", path[1] if path else " ".join(button[1].split())[:16]
    for found in _ENDING.finditer(script):
        yield "POST", found[1]
    for found in _SOCKET.finditer(script):
        yield "GET", found[1]


def shape_of(text: str) -> str | None:
    """ "{}/restart" of `${path}/restart`, path("restart") and path(app, "restart"); None: the text does not tell."""
    text = re.sub(r"^\$\{(.*)\}$", r"\1", text, flags=re.S)
    if text[:1] in ("`", '"'):
        return re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "{}", text[1:-1])
    if found := re.fullmatch(r"(path|pathOf)\((.*)\)", text, re.S):
        parts = [part.strip() for part in found[2].split(",")]
        if not parts[-1].startswith('"'):
            return None
        told = [part.strip('"') if part.startswith('"') else "{}" for part in parts]
        return "/".join(told) if found[1] == "pathOf" else f"{{}}/{told[-1]}"
    return None


def fits_to(act: str, method: str, shape: str) -> bool:
    """Whether a path of that shape may be of this route; a {} at its beginning is any number of parts."""
    of, _, path = act.partition(" ")
    there = re.sub(r"\{\w+\}", "{}", path.removeprefix(PREFIX) if path.startswith(PREFIX) else path).split("/")
    parts = shape.split("/")
    if of != method:
        return False
    if parts[0] == "{}":
        return len(there) >= len(parts) and there[len(there) - len(parts) + 1 :] == parts[1:]
    return there == parts


def test_the_scripts_are_read() -> None:
    """What is found in known lines: a reader that finds nothing would pass all that follows."""
    script = """
      html`<${Act} label="Stop" path=${path("stop")} fields=${[FOR]} danger /> <${Act} path="upgrade" />
        <${Act} title=${`Kill ${pid}`} path=${`${of}/processes/${pathOf(String(one.pid))}/kill`} />`;
      await post(`sessions/${pathOf(one.id)}/cancel`); remove(`consoles/${pathOf(one.id)}`);
      return { label: "Admit", path: pathOf("apps", app.id, "instances", instance, "admit") };
      // post("nothing")
      await send("PUT", `vfs/${place}`, {});
    """
    found = [(method, shape_of(text)) for method, text in asked_by(script)]
    assert sorted(found) == sorted([
        ("POST", "{}/stop"), ("POST", "upgrade"), ("POST", "{}/processes/{}/kill"), ("POST", "sessions/{}/cancel"),
        ("DELETE", "consoles/{}"), ("POST", "apps/{}/instances/{}/admit"), ("PUT", "vfs/{}"),
    ])  # fmt: skip
    assert fits_to("POST /api/v1/apps/{app}/stop", "POST", "{}/stop")
    assert not fits_to("POST /api/v1/apps/{app}/stop", "POST", "stop")
    assert not fits_to("DELETE /api/v1/sessions/{id}", "DELETE", "sessions/{}/cancel")


def test_what_the_dashboard_asks_for_are_routes() -> None:
    _, strange, dynamic = of_dashboard()
    assert not strange, f"no route does this: {sorted(strange)}"
    assert dynamic == DYNAMIC.keys(), "paths that are not told by their text: say here what they are"


def test_every_act_of_the_api_is_one_of_the_dashboard() -> None:
    missing = acting() - of_dashboard()[0] - NOT_IN_DASHBOARD.keys()
    assert not missing, f"no page does this: add it, or say why not here: {sorted(missing)}"


def test_every_act_of_the_dashboard_is_one_of_the_command() -> None:
    missing = of_dashboard()[0] - of_command() - NOT_IN_COMMAND.keys()
    assert not missing, f"no verb does this: {sorted(missing)}"
