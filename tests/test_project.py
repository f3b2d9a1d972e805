"""What keeps the project in shape: who may import whom, docstrings, documents in step with the code."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "proxy"

# Who may import whom: the first row that a module falls under holds, and its own folder is always allowed.
# The root package itself (for __version__) is free to all.
EVERYONE = ("proxy.units", "proxy.faults", "proxy.masking", "proxy.py_spy", "proxy.tables")
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "proxy.main": ("proxy",),
    "proxy.__main__": ("proxy.main",),
    "proxy.units": (),
    "proxy.faults": EVERYONE,
    "proxy.masking": (),
    "proxy.py_spy": (),
    "proxy.tables": (),
    "proxy.config": EVERYONE,
    "proxy.wire": EVERYONE,
    "proxy.link": EVERYONE,
    "proxy.launcher": (*EVERYONE, "proxy.link.spawn"),
    "proxy.dataplane": (*EVERYONE, "proxy.wire", "proxy.link"),
    "proxy.control": (*EVERYONE, "proxy.link", "proxy.config", "proxy.wire"),
    "proxy.diagnostics.analyzers": (*EVERYONE, "proxy.diagnostics.artifacts", "proxy.diagnostics.reading"),
    "proxy.agent": (),
    "proxy.diagnostics": (*EVERYONE, "proxy.link"),
    "proxy.admin": (*EVERYONE, "proxy.control", "proxy.diagnostics", "proxy.link", "proxy.config"),
    "proxy.cli": (*EVERYONE, "proxy.config"),
}

# After importing the one, nothing of the others is loaded.
LEAVES_OUT = {
    "proxy.dataplane.run": ("aiohttp", "sqlite3", "proxy.config", "proxy.control", "proxy.admin"),
    "proxy.units": ("msgspec", "aiohttp", "asyncio"),
}

# The launcher must not die: standard library only, and no more of Triage than it says with control.
STANDARD_LIBRARY_ONLY = ("proxy.launcher", "proxy.link.spawn", "proxy.units")


@cache
def modules() -> dict[str, Path]:
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


class Module(NamedTuple):
    """What the rules look at; the tree itself of several hundred modules would be much to keep."""

    docstring: str
    lines: int
    imports: tuple[tuple[int, str], ...]
    """Line and full name of each module imported anywhere in it."""
    logic: tuple[int, ...]
    """Lines of functions, classes and loops at its top."""


@cache
def look(module: str) -> Module:
    path = modules()[module]
    text = path.read_text()
    tree = ast.parse(text, str(path))
    logic = tuple(node.lineno for node in tree.body if isinstance(node, LOGIC))
    names = tuple(imported(tree, module, is_package=path.name == "__init__.py"))
    return Module(ast.get_docstring(tree) or "", len(text.splitlines()), names, logic)


LOGIC = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.For, ast.While)


def imported(tree: ast.Module, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """Relative names are resolved; imports within functions and for types only count too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                above = module.split(".")
                above = above[: len(above) - node.level + is_package]
                source = ".".join([*above, source] if source else above)
            for alias in node.names:
                name = f"{source}.{alias.name}"
                yield node.lineno, name if name in modules() else source


def within(name: str, folder: str) -> bool:
    return name == folder or name.startswith(folder + ".")


def row_of(module: str) -> str | None:
    return max((row for row in MAY_IMPORT if within(module, row)), key=len, default=None)


def loaded_by(statement: str) -> set[str]:
    """The names in sys.modules of a fresh interpreter after `statement`."""
    run = subprocess.run(
        [sys.executable, "-c", f"{statement}\nimport sys\nprint(*sys.modules, sep='\\n')"],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )
    assert run.returncode == 0, run.stderr
    return set(run.stdout.split())


def skip_unless_there(module: str) -> None:
    if module not in modules():
        pytest.skip(f"{module} is not there")


# -- imports -------------------------------------------------------------------------------------------------


def not_allowed(module: str) -> list[str]:
    """What `module` imports and may not, a line of words for each. The map itself imports nothing."""
    row = row_of(module)
    if row is None and module != "proxy":
        return [f"{module}: no row in MAY_IMPORT; which folder is it of?"]
    allowed = () if row is None else (*MAY_IMPORT[row], row)
    return [
        f"{modules()[module].relative_to(ROOT)}:{line}: {module} may not import {name}"
        for line, name in look(module).imports
        if within(name, "proxy") and (row is None or name != "proxy")
        and not any(within(name, each) for each in allowed)
    ]


@pytest.mark.slow
def test_each_imports_only_what_its_folder_may() -> None:
    wrong = [each for module in modules() for each in not_allowed(module)]
    assert not wrong, "\n".join(wrong)


def test_the_rule_above_sees_every_way_to_import() -> None:
    source = """
import proxy.wire.head as head
from proxy import faults, __version__
from . import units
from ..wire.head import Head
def late():
    from proxy.control import state
"""
    seen = [name for _, name in imported(ast.parse(source), "proxy.cli.show", is_package=False)]
    assert sorted(seen) == [
        "proxy", "proxy.cli", "proxy.control.state", "proxy.faults", "proxy.wire.head", "proxy.wire.head",
    ]
    assert [name for _, name in imported(ast.parse("from .x import y"), "proxy.cli", is_package=True)] == [
        "proxy.cli.x"
    ]
    assert not within("proxy.linked", "proxy.link")
    assert row_of("proxy.diagnostics.analyzers.x") == "proxy.diagnostics.analyzers"
    assert row_of("proxy.mainly") is None


@pytest.mark.slow
@pytest.mark.parametrize(("module", "left_out"), LEAVES_OUT.items())
def test_a_fresh_interpreter_loads_no_more(module: str, left_out: tuple[str, ...]) -> None:
    skip_unless_there(module)
    loaded = loaded_by(f"import {module}")
    assert not sorted(name for name in loaded if any(within(name, each) for each in left_out))


@pytest.mark.slow
@pytest.mark.parametrize("folder", STANDARD_LIBRARY_ONLY)
def test_standard_library_only(folder: str) -> None:
    skip_unless_there(folder)
    names = [name for name in modules() if within(name, folder) and not name.endswith("__main__")]
    before = loaded_by("pass")
    loaded = loaded_by("import " + ", ".join(names)) - before
    foreign = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names - {"proxy"}
    assert not sorted(foreign)
    # Nothing else of Triage comes in by a side door, such as a folder's __init__.
    allowed = ("proxy.launcher", "proxy.link.spawn", *EVERYONE)
    strange = [
        name for name in loaded
        if within(name, "proxy") and name not in ("proxy", "proxy.link")
        and not any(within(name, each) for each in allowed)
    ]
    assert not sorted(strange)


# -- modules -------------------------------------------------------------------------------------------------


def test_each_has_a_docstring() -> None:
    without = [module for module in modules() if not look(module).docstring]
    assert not without, f"{', '.join(without)}: what is it for?"


WHY_LONG = r"(?i)kept (whole|together)|one (module|file)|belongs? together|\blong(er)?\b"


def test_a_long_module_says_why() -> None:
    long = {module: look(module) for module in modules() if look(module).lines > 400}
    wrong = [f"{name} has {one.lines} lines" for name, one in long.items() if not re.search(WHY_LONG, one.docstring)]
    assert not wrong, "\n".join([*wrong, "say in its docstring why it is kept whole, or part it"])


def test_a_folder_s_first_file_is_a_map_without_logic() -> None:
    maps = [module for module, path in modules().items() if path.name == "__init__.py"]
    assert "proxy" in maps and "proxy.control" in maps
    wrong = [f"{module}:{line}" for module in maps for line in look(module).logic]
    assert not wrong, f"{', '.join(wrong)}: an __init__.py only maps and re-exports"


# -- what is shipped -----------------------------------------------------------------------------------------


def test_what_is_imported_is_declared() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        needs = tomllib.load(file)["project"]["dependencies"]
    declared = {re.split(r"[<>=~!\[ ]", need)[0].lower().replace("-", "_") for need in needs}
    used = {name.partition(".")[0] for module in modules() for _, name in look(module).imports}
    assert used - sys.stdlib_module_names - {"proxy"} <= declared


def test_the_version_is_in_the_changelog() -> None:
    version = re.search(r'^__version__ = "(.+)"$', (PACKAGE / "__init__.py").read_text(), re.M)
    assert version
    assert f"## {version[1]}" in (ROOT / "CHANGELOG.md").read_text()


def test_nothing_of_the_package_is_ignored_and_so_left_out_of_the_wheel() -> None:
    """Hatchling leaves out what .gitignore names, at any depth unless the pattern is anchored."""
    patterns = [
        line.strip("/") for line in (ROOT / ".gitignore").read_text().splitlines()
        if line and not line.startswith(("#", "/"))
    ]
    folders = {part for path in PACKAGE.rglob("*") for part in path.relative_to(ROOT).parts}
    assert not (folders & set(patterns)) - {"__pycache__"}


# -- documents -----------------------------------------------------------------------------------------------

MADE = {
    "docs/configuration.md": "proxy.config.docs",
    "docs/faults.md": "proxy.faults",
    "docs/mending.md": "proxy.control.autoheal.docs",
    "docs/metrics.md": "proxy.control.metrics.docs",
    "docs/observing.md": "proxy.control.incidents.docs",
    "docs/diagnosis.md": "proxy.diagnostics.docs",
    "docs/api.md": "proxy.admin.docs",
    "docs/cli.md": "proxy.cli.docs",
}


@pytest.mark.slow
@pytest.mark.parametrize(("document", "module"), MADE.items())
def test_documents_made_from_the_code_are_in_step(document: str, module: str) -> None:
    skip_unless_there(module)
    if not (ROOT / document).exists():
        pytest.skip(f"{document} is not there")
    run = subprocess.run([sys.executable, "-m", module], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert run.stdout == (ROOT / document).read_text(), "run `make docs`"


DOCUMENTS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("examples/**/*.md")]


@pytest.mark.parametrize("document", sorted(path for path in DOCUMENTS if "node_modules" not in path.parts))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text()):
        if "://" not in target and not target.startswith("mailto:"):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)}: {target}"


def test_the_repository_s_config_is_valid_for_root_and_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    skip_unless_there("proxy.config.load")
    from proxy.config import load

    for uid in (0, 1000):
        monkeypatch.setattr(os, "geteuid", lambda uid=uid: uid)
        assert load(ROOT / "config.toml").apps


def config_blocks() -> list[str]:
    return re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "deploying.md").read_text(), re.S)


@pytest.mark.parametrize("block", config_blocks())
def test_configs_in_the_documents_have_nothing_wrong_but_missing_files(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    skip_unless_there("proxy.config.load")
    from proxy.config import ConfigProblems, parse

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    try:
        parse(block, tmp_path / "config.toml")
    except ConfigProblems as wrong:
        others = [line for line in str(wrong).splitlines()[:-1] if "No such file" not in line]
        assert not others, "\n".join(others)


def test_no_transcript_is_left_to_be_filled_in() -> None:
    """Output shown in the README is from a real run: an empty marker is a promise not kept."""
    readme = (ROOT / "README.md").read_text()
    empty = re.findall(r"<!-- transcript: (.+?) -->\n(?!```)", readme)
    assert not empty


def test_the_files_that_go_first_are_there() -> None:
    from tests.conftest import LONGEST

    assert [name for name in LONGEST if not (ROOT / "tests" / name).exists()] == []


def test_ci_runs_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
