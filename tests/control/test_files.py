"""Which files match, and what counts as a change of them."""

import os
from pathlib import Path

import pytest

from proxy.control import files


def names(folder: Path, *patterns: str) -> list[str]:
    return sorted(os.path.relpath(path, folder) for path in files.look(str(folder), patterns).found)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "app.py", "README", ".hidden.py", "a/x.py", "a/b/y.py", "a/b/z.txt", ".git/hooks/h.py",
        "a/__pycache__/x.py", "node_modules/m/index.py", "[odd]/o.py",
    ):  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "link").symlink_to("a")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "broken.py").symlink_to("nothing")
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.py", ["app.py"]),
        ("**/*.py", ["[odd]/o.py", "a/b/y.py", "a/x.py", "app.py"]),
        ("a/**", ["a/b/y.py", "a/b/z.txt", "a/x.py"]),
        ("a/*/?.py", ["a/__pycache__/x.py", "a/b/y.py"]),  # it was asked for by a name of its own
        ("app.py", ["app.py"]),
        ("./a/../app.py", ["app.py"]),
        (".*.py", [".hidden.py"]),
        ("[[]odd]/*.py", ["[odd]/o.py"]),
        ("link/*.py", ["link/x.py"]),
        ("*/x.py", ["a/x.py", "link/x.py"]),
        ("none/*", []),
    ],
)
def test_patterns_are_those_of_glob(tree: Path, pattern: str, found: list[str]) -> None:
    assert names(tree, pattern) == sorted(found)


def test_an_absolute_pattern_and_several(tree: Path) -> None:
    assert names(tree, f"{tree}/a/*.py", "*.py", "app.py") == ["a/x.py", "app.py"]


def test_folders_may_be_left_out(tree: Path) -> None:
    found = files.look(str(tree), ["**/*.py"], [str(tree / "a")]).found
    assert sorted(found) == [str(tree / "[odd]/o.py"), str(tree / "app.py")]


def test_too_many_are_cut_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST", 5)
    for number in range(8):
        (tmp_path / f"{number}.py").touch()
    found = files.look(str(tmp_path), ["*.py"])
    assert (len(found.found), found.cut) == (5, True)


def test_every_kind_of_change_is_one(tree: Path) -> None:
    def look() -> files.Files:
        return files.look(str(tree), ["**/*.py"])

    before = look()
    assert look().fingerprint == before.fingerprint != ""
    assert before.newest == pytest.approx(os.stat(tree / "app.py").st_mtime, abs=60)
    app = tree / "app.py"
    stat = app.stat()
    replacement = tree / "new"
    replacement.write_text("other!")  # an editor's way: same size, same time, another file
    os.utime(replacement, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(replacement, app)
    after = look()
    assert after.changed(before) == [str(app)]
    assert after.fingerprint != before.fingerprint
    (tree / "a" / "x.py").unlink()
    (tree / "a" / "w.py").touch()
    assert look().changed(after) == [str(tree / "a" / "w.py"), str(tree / "a" / "x.py")]
    assert files.look(str(tree), ["*.none"]).fingerprint == ""
