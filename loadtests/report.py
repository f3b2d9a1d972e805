"""What a load test says at its end: figures, checks against their limits, an exit code."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from loadtests import machine, table
from loadtests.lab import REPOSITORY, Failed

DOCUMENT: Final = REPOSITORY / "docs" / "benchmarks.md"
MEBI: Final = 2**20


@dataclass
class Report:
    """Figures and checks of one load test; `name` is its module and its place in the document."""

    name: str
    head: Sequence[str] = ()
    rows: list[Sequence[str]] = field(default_factory=list)
    checks: list[tuple[str, str, str, bool]] = field(default_factory=list)  # what, measured, limit, kept
    notes: list[str] = field(default_factory=list)
    tables: list[tuple[Sequence[str], list[Sequence[str]]]] = field(default_factory=list)  # more of them: head, rows

    def check(self, what: str, measured: str, limit: str, kept: bool) -> None:
        """One limit, and whether it was kept."""
        self.checks.append((what, measured, limit, kept))

    @property
    def kept(self) -> bool:
        return all(kept for *_, kept in self.checks)

    def _render(self, draw: Callable[[Sequence[str], Sequence[Sequence[str]]], str]) -> str:
        parts = []
        if self.rows:
            parts.append(draw(self.head, self.rows))
        parts += [draw(head, rows) for head, rows in self.tables]
        if self.checks:
            shown = [
                (what, measured, limit, "yes" if kept else "MISSED") for what, measured, limit, kept in self.checks
            ]
            parts.append(draw(("limit", "measured", "aim", "kept"), shown))
        command = shlex.join(["python", "-m", f"loadtests.{self.name}", *sys.argv[1:]])
        at = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime())
        made = f"Made {at} by `{command}` on: {machine.describe()}."
        return "\n\n".join([*parts, *self.notes, made])

    def finish(self, told: argparse.Namespace, document: Path = DOCUMENT) -> int:
        """Print, write into the document when asked to, and give the exit code."""
        print(f"\n{self._render(table.plain)}")
        if told.write:
            table.put(document, self.name, self._render(table.markdown))
        return 0 if self.kept else 1


def arguments(
    description: str | None, *, seconds: float, of: str, document: Path = DOCUMENT
) -> argparse.ArgumentParser:
    """The options that every load test has."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=seconds, help=f"{of} (default {seconds:g})")
    parser.add_argument("--write", action="store_true", help=f"put the figures into {document.relative_to(REPOSITORY)}")
    return parser


def say(text: str) -> None:
    """Progress, apart from the figures."""
    print(text, file=sys.stderr, flush=True)


def finish_with(main: Callable[[], int]) -> None:
    """Run a load test as a command: 0 all limits kept, 1 not, or no figures."""
    try:
        sys.exit(main())
    except Failed as error:
        say(f"no figures: {error}")
    except KeyboardInterrupt:
        say("no figures: interrupted")
    sys.exit(1)


def ms(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{seconds * 1e3:.2f} ms"


def mib(size: float) -> str:
    """Bytes as MiB."""
    return f"{size / MEBI:.1f} MiB"
