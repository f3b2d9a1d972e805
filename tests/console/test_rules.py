"""What is decided without a gateway: config, paths, tags, names in header fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from proxy.admin.console import command, transfer, walk
from proxy.admin.console.roots import Root
from proxy.admin.errors import ApiProblem
from proxy.config import ConfigProblems, parse, warnings
from proxy.control.console.command import Outcome
from proxy.control.console.kept import Ended
from proxy.control.console.terminal import Size

CONFIG = """
[gateway]
data_dir = "var"
[admin]
console = {on}
roots = {{ site = "{folder}" }}
[apps.a]
addresses = ["http://127.0.0.1:1"]
"""


@pytest.mark.parametrize("folder", ["var", "var/logs", "link"])
def test_no_root_is_in_the_data_folder(tmp_path: Path, folder: str) -> None:
    (tmp_path / "var" / "logs").mkdir(parents=True)
    (tmp_path / "link").symlink_to("var")
    with pytest.raises(ConfigProblems, match=r"admin\.roots\.site: .* is in data_dir, where the tokens are"):
        parse(CONFIG.format(on="true", folder=folder), tmp_path / "config.toml")


def test_what_check_says(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    on = parse(CONFIG.format(on="true", folder="site"), tmp_path / "config.toml")
    assert on.admin.roots == {"site": str(tmp_path / "site")}
    assert any(text.startswith("admin.console: true, so whoever has a token") for text in warnings(on))
    off = parse(CONFIG.format(on="false", folder="site"), tmp_path / "config.toml")
    assert "admin.roots: not used, because admin.console is false" in warnings(off)
    with pytest.raises(ConfigProblems, match="cannot read"):
        parse(CONFIG.format(on="true", folder="nowhere"), tmp_path / "config.toml")


def test_paths() -> None:
    roots = {"web": Root("web", "/srv/web")}
    found = walk.parse("web/a%20b/%ff%0a", roots)
    assert (found.names, found.folder) == ((b"a b", b"\xff\n"), False)
    assert found.href == "/api/v1/vfs/web/a%20b/%FF%0A"
    assert found.shown == "web/a b/\ufffd\ufffd"
    assert walk.parse("web", roots).folder and walk.parse("web/", roots).names == ()
    deep, long = "web/" + "a/" * 65, f"web/{'a' * 256}"
    for raw in ("", "/", "web//a", "web/..", "web/%2e", "web/a%2fb", "web/%00", "x/", deep, long):
        with pytest.raises(ApiProblem):
            walk.parse(raw, roots)


def test_tags() -> None:
    assert transfer.tags('"a", W/"b" ,"c d", "e') == {'"a"', '"b"'} - {'"c d"'}
    assert transfer.strong('"a", W/"b", "c"') == {'"a"', '"c"'}
    assert transfer.strong("*") == transfer.strong("") == transfer.strong("a") == set()


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (b'a"b', "attachment; filename=\"a_b\"; filename*=UTF-8''a%22b"),
        (b"a\r\nX: y", "attachment; filename=\"a__X_ y\"; filename*=UTF-8''a%0D%0AX%3A%20y"),
        ("ü".encode(), "attachment; filename=\"_\"; filename*=UTF-8''%C3%BC"),
        (b"\xff", "attachment; filename=\"_\"; filename*=UTF-8''%FF"),
    ],
)
def test_a_name_in_a_field(name: bytes, field: str) -> None:
    assert transfer.disposition(name) == field


def test_commands_in_words() -> None:
    assert command.arguments("ls -l 'a b'") == ["ls", "-l", "a b"]
    assert command.said(["a", "b\x1b[31m\n", "--password", "x1234567"]) == "a 'b\ufffd[31m\ufffd' --password '***'"
    assert len(command.said(["x" * 5000])) < 310
    assert Outcome(Ended(0)).words == "exit code 0"
    assert Outcome(Ended(None, 9, 3), late=True, timeout=5.0).words == (
        "not within 5s: ended; signal 9 (SIGKILL); 2 processes that it left were ended"
    )
    assert Outcome(Ended(1, None, 1, (7,))).words == (
        "exit code 1; 1 process that it left was ended; could not be ended: pid 7"
    )
    for cells in ((0, 1), (1, 1001), (True, 1), ("80", 24), (80.0, 24)):
        with pytest.raises(ValueError, match="1 to 1000"):
            Size.of(*cells)
