"""The dashboard's files as they lie there: vendored ones unchanged, no way to elsewhere, what is asked for exists."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest

from proxy.admin.pages import FOLDER, POLICY, TYPES
from proxy.admin.routes import ROUTES

VENDOR = FOLDER / "vendor"
OURS = sorted(path for path in FOLDER.rglob("*") if path.suffix in TYPES and VENDOR not in path.parents)
SCRIPTS = [path for path in OURS if path.suffix == ".js"]


def name_of(path: Path) -> str:
    return str(path.relative_to(FOLDER))


def test_what_was_vendored_is_as_its_readme_says() -> None:
    told = re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    there = {path.name for path in VENDOR.iterdir() if path.suffix in TYPES}
    assert {name for name, _ in told} == there
    for name, digest in told:
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == digest, name
    for licence in set(re.findall(r"LICENSE-\w+", (VENDOR / "README.md").read_text())):
        assert (VENDOR / licence).stat().st_size > 500


@pytest.mark.parametrize("path", sorted({*OURS, *VENDOR.glob("*.[jc]s*")}), ids=name_of)
def test_no_file_names_another_host(path: Path) -> None:
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)  # a vendored file's head says where it is from
    named = re.findall(r"""(?:https?:|wss?:|["'(`=])//[\w.-]+\.\w+[^\s"'`)]*""", text)
    assert not [one for one in named if not one.startswith("http://www.w3.org/")], "names of XML only"
    assert "@import" not in text


@pytest.mark.parametrize("path", OURS, ids=name_of)
def test_nothing_that_the_policy_forbids(path: Path) -> None:
    text = path.read_text()
    assert "unsafe" not in POLICY and "default-src 'none'" in POLICY
    if path.suffix == ".html":
        assert not re.search(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son\w+=", text)
    if path.suffix == ".js":
        assert not re.search(r"\beval\(|new Function\(|innerHTML|outerHTML|insertAdjacentHTML|document\.write", text)


@pytest.mark.parametrize("path", SCRIPTS, ids=name_of)
def test_what_is_imported_exists(path: Path) -> None:
    text = path.read_text()
    for wanted in re.findall(r"""(?:from|import\()\s*["'](\.[^"']+)["']""", text):
        assert (path.parent / wanted).is_file(), wanted
    for names, wanted in re.findall(r"""(?:import|export) \{([^}]*)\} from ["'](\.[^"']+)["']""", text):
        has = (path.parent / wanted).read_text()
        for name in (one.split(" as ")[0].strip() for one in names.split(",")):
            if name and "vendor" not in wanted:
                assert re.search(rf"export [^;]*\b{name}\b", has), f"{name} of {wanted}"


def test_each_page_of_the_shell_has_its_file() -> None:
    text = (FOLDER / "app.js").read_text()
    table = re.search(r"const PAGES = \{(.*?)\n\};", text, re.DOTALL)
    assert table
    for name in re.findall(r'"(\w+)"', re.sub(r"^\s*\S+:", "", table[1], flags=re.MULTILINE)):
        assert (FOLDER / "pages" / f"{name}.js").is_file(), name
    for preloaded in re.findall(r'(?:href|src)="([^"]+)"', (FOLDER / "index.html").read_text()):
        assert (FOLDER / preloaded).is_file(), preloaded


def asked(text: str) -> set[str]:
    """The paths below /api/v1 that a script names where it asks, with * for what it fills in."""
    found = set()
    for call in re.finditer(r"(?<![\w.])(?:get|post|follow)\(\s*|\bpath=\$\{|\bpath:\s*|=>\s*(?=`)", text):
        path = first_path(text[call.end() :])
        if path is not None:
            found.add(path)
    return found


def first_path(rest: str) -> str | None:
    """Of the string, template or pathOf(…) that stands at the beginning; None: it is something else."""
    if made := re.match(r"pathOf\(([^()]*)\)", rest):
        return spread(made[1])
    if made := re.match(r'"([\w/.-]+)"', rest):
        return made[1]
    if made := re.match(r"`((?:[^`\\]|\$\{[^}]*\})*)`", rest):
        text = re.sub(r"\$\{pathOf\(([^()]*)\)\}", lambda inner: spread(inner[1]), made[1])
        text = re.sub(r"\$\{[^}]*\}", "*", text)
        return text if re.fullmatch(r"[\w/.*-]+", text) and "/" in text else None
    return None


def spread(arguments: str) -> str:
    """Of pathOf: strings as they are, anything else *."""
    return "/".join(
        one.strip().strip('"') if one.strip().startswith('"') else "*" for one in arguments.split(",") if one.strip()
    )


def known(path: str) -> bool:
    """Whether a row of the route table fits."""
    wanted = path.split("/")
    for route in ROUTES:
        there = route.path.removeprefix("/api/v1/").split("/")
        if len(there) == len(wanted) and all(
            one == other or other == "*" or one.startswith("{") for one, other in zip(there, wanted, strict=True)
        ):
            return True
    return False


def test_each_path_that_is_asked_for_is_in_the_route_table() -> None:
    by_path: dict[str, list[str]] = {}
    for script in SCRIPTS:
        for path in asked(script.read_text()):
            by_path.setdefault(path, []).append(name_of(script))
    assert {"status", "operations", "requests/*/why", "apps/*"} <= set(by_path), sorted(by_path)
    assert len(by_path) > 20, sorted(by_path)
    unknown = {path: scripts for path, scripts in by_path.items() if not known(path)}
    assert not unknown


NOT_OFFERED = {"login-links"}  # of `triage open`, which a browser that is logged in has no use for


def test_each_act_of_the_api_is_offered() -> None:
    scripts = "\n".join(script.read_text() for script in SCRIPTS)
    for route in ROUTES:
        words = [part for part in route.path.removeprefix("/api/v1/").split("/") if not part.startswith("{")]
        if route.method == "GET" or not route.path.startswith("/api/v1/") or words[0] in NOT_OFFERED:
            continue
        for word in words:
            assert re.search(rf"""["'`/]{re.escape(word)}["'`/]""", scripts), f"{route.method} {route.path}"


def test_what_is_offered_to_admins_alone_is_what_needs_one() -> None:
    for_admins = [one for one in ROUTES if one.needs == "admin" and not one.open]
    assert {f"{one.method} {one.path.removeprefix('/api/v1/')}" for one in for_admins} == {
        "POST upgrade", "GET tokens", "POST tokens", "DELETE tokens/{id}", "GET vfs/", "GET vfs/{path}",
        "PUT vfs/{path}", "DELETE vfs/{path}", "GET zip/{dir}", "PUT zip/{dir}", "POST command", "GET console",
        "GET consoles", "DELETE consoles/{id}",
    }  # the upgrade's button, the token's table and the page of the console ask for that role
