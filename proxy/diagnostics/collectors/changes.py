"""What is new: files of the app's folder, its last commits, and what deploys and the config changed.

The folder is looked through without following links out of it. git is asked without running anything that the
repository names (no hooks, pagers, filters, file-system monitors, fetching), and by root as the repository's owner.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections import deque
from pathlib import Path
from typing import Final

from proxy import masking, units
from proxy.diagnostics.artifacts import ChangedFile, Changes
from proxy.diagnostics.collectors.contract import Collector
from proxy.diagnostics.subject import Subject

ENTRIES: Final = 20_000
PATIENCE: Final = 2.0
SHOWN: Final = 50
LINES: Final = 60
COMMITS: Final = 10
SKIPPED: Final = frozenset(
    {
        ".git", ".hg", ".svn", "node_modules", "__pycache__", ".venv", "venv", "env", ".tox", ".nox", ".mypy_cache",
        ".ruff_cache", ".pytest_cache", ".cache", ".idea", ".vscode", "site-packages", "dist-packages", ".next",
        ".nuxt", ".eggs", "vendor", "target", ".gradle", ".terraform", "tmp", "log", "logs",
    }
)  # fmt: skip
QUIET: Final = (
    "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.pager=cat",
    "-c", "log.showSignature=false", "-c", "diff.external=", "-c", "core.untrackedCache=false",
    "-c", "protocol.allow=never", "-c", "submodule.recurse=false",
)  # fmt: skip
ENVIRONMENT: Final = {
    "GIT_ALLOW_PROTOCOL": "none", "GIT_NO_LAZY_FETCH": "1", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0",
    "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null", "LC_ALL": "C",
}  # fmt: skip


def _files(folder: str, found: Changes, problems: list[str]) -> None:
    """Newest first. What was written by Triage or is a log is not told apart: a file is a file."""
    until = time.monotonic() + PATIENCE
    rows: list[ChangedFile] = []
    waiting = deque([folder])
    denied = 0
    while waiting:
        if found.looked_at >= ENTRIES or time.monotonic() > until:
            problems.append(f"files: {found.looked_at:,} were looked at, then it was given up")
            break
        place = waiting.popleft()
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    found.looked_at += 1
                    if entry.is_symlink():
                        continue
                    if entry.is_dir():
                        if entry.name not in SKIPPED and not os.path.exists(f"{entry.path}/pyvenv.cfg"):
                            waiting.append(entry.path)
                    elif entry.is_file():
                        one = entry.stat()
                        rows.append(
                            ChangedFile(path=os.path.relpath(entry.path, folder), at=one.st_mtime, size=one.st_size)
                        )
                    if found.looked_at >= ENTRIES:
                        break
        except OSError:
            denied += 1
    if denied:
        problems.append(f"files: {units.several(denied, 'folder')} could not be read")
    rows.sort(key=lambda row: -row.at)
    found.files = rows[:SHOWN]
    for row in found.files:
        row.path = masking.text(row.path)


def _git(folder: str, found: Changes, problems: list[str]) -> None:
    program = shutil.which("git")
    top = _repository(folder)
    if top is None:
        return
    if program is None:
        problems.append("git: it is not installed")
        return
    common = [program, *QUIET, "-C", folder, "--no-pager"]
    try:
        told = _printed(top, [*common, "log", "--no-show-signature", f"-n{COMMITS}", "--format=%H %ct %s"])
        for line in told.splitlines():
            commit, at, subject = [*line.split(" ", 2), "", ""][:3]
            found.commit = found.commit or commit
            found.commits.append((float(at), masking.text(subject)[:200]))
        moved = _printed(top, [*common, "log", "-g", "-n1", "--date=unix", "--format=%gd", "HEAD"])
        stamp = moved.partition("@{")[2].partition("}")[0]
        found.checked_out_at = float(stamp) if stamp.isdigit() else 0.0
        if not _filtered(top):
            only = ("--name-only", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "-z")
            changed = _printed(top, [*common, "diff", *only])
            found.uncommitted = [masking.text(name) for name in changed.split("\0") if name][:SHOWN]
        else:
            problems.append("git: files that differ were not looked for, as its filters would have to run")
    except OSError as error:
        problems.append(f"git: {error.strerror or error}")


def _repository(folder: str) -> Path | None:
    """The nearest folder upwards with a .git."""
    place = Path(folder)
    return next((one for one in (place, *place.parents) if _marked(one)), None)


def _marked(folder: Path) -> bool:
    """Whether a repository begins here; ".git" is a file in a further work tree of one."""
    return (folder / ".git/HEAD").is_file() or (folder / ".git").is_file()


def _filtered(top: Path) -> bool:
    """Whether its own config may name programs that git would run to compare files."""
    try:
        text = (top / ".git/config").read_text(errors="replace") if (top / ".git").is_dir() else ""
    except OSError:
        return True
    return not text or any(word in text.lower() for word in ("[filter", "[include", "worktreeconfig"))


def _printed(top: Path, command: list[str]) -> str:
    """Raises OSError when it fails, or takes too long."""
    owner = os.stat(top / ".git")
    root = os.geteuid() == 0
    try:
        run = subprocess.run(
            command, capture_output=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL,
            env={"PATH": os.environ.get("PATH", os.defpath), **ENVIRONMENT},
            user=owner.st_uid if root else None, group=owner.st_gid if root else None,
            extra_groups=[] if root else None,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise OSError(f"it took longer than {PATIENCE:g} s") from None
    if run.returncode != 0:
        said = run.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(said[-1][:200] if said else f"it ended with {run.returncode}")
    return run.stdout[: units.MIB].decode(errors="replace")


def _config(subject: Subject, found: Changes) -> None:
    """Deploys and changes of config of the last day, as control wrote them down."""
    rows: list[tuple[float, str]] = []
    for one in subject.known.deploys:
        moved = f" ({one.before} to {one.version})" if one.before and one.version and one.before != one.version else ""
        rows.append((one.at, f"{one.what}: {one.text}{moved}"))
        rows.extend((one.at, f"  {line}") for line in one.changed)
    rows.sort(key=lambda row: -row[0])
    found.config = [masking.text(text)[:300] for _, text in rows[:LINES]]
    found.config_at = rows[0][0] if rows else 0.0


def _folder(subject: Subject) -> str:
    """Of the app; where the config has none, that of a process of it."""
    if subject.known.app.cwd:
        return subject.known.app.cwd
    for one in subject.known.instances:
        if one.pid:
            try:
                return os.readlink(f"/proc/{one.pid}/cwd")
            except OSError:
                continue
    return ""


def collect(subject: Subject, folder: Path) -> Changes:
    found, problems = Changes(at=time.time(), cwd=_folder(subject)), list[str]()
    running = [one.started_at for one in subject.known.instances if one.started_at and not one.gone]
    found.started_at = min(running, default=0.0)
    _config(subject, found)
    if not found.cwd:
        problems.append("files: the app's folder is not known")
    elif found.cwd == "/":
        problems.append("files: the app's folder is /, which is not looked through")
    else:
        _files(found.cwd, found, problems)
        _git(found.cwd, found, problems)
    found.note = "; ".join(problems)
    return found


COLLECTOR = Collector(
    name="changes",
    title="What changed",
    needs="the app's folder on this machine, readable; git, where it is a repository",
    cost="a walk through at most 20,000 files, 2 s; nothing of the app is run",
    limit=9.0,
    most=units.MIB,
    artifact=Changes,
    collect=collect,
    of="app",
)
