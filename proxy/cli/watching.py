"""--watch: the same question again and again, what came of it drawn over what was there.

On a terminal on a screen of its own, which is taken away at the end; anywhere else one look after the other, with
--json each of them a line.
"""

from __future__ import annotations

import functools
import io
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from typing import Any, Final

import click
import orjson

from proxy import units
from proxy.cli import show
from proxy.cli.client import ApiError, NotThere
from proxy.cli.find import NoGateway
from proxy.cli.following import PATIENCE
from proxy.cli.group import let_go

EVERY: Final = "2s"
SHORTEST: Final = 0.2
"""Seconds between two looks, at least: a look is a call, and calls are rationed."""
BUSY: Final = (429, 503)
"""Answers after which one may ask again."""
_ALONE: Final = "\x1b[?1049h\x1b[?25l\x1b[?7l"  # another screen, no cursor, what is too long is cut
_BACK: Final = "\x1b[?7h\x1b[?25h\x1b[?1049l"
_HOME: Final = "\x1b[H"
_REST: Final = "\x1b[K"  # of the line
_BELOW: Final = "\x1b[J"


class Screen(io.StringIO):
    """What a verb prints, as it would on this terminal."""

    def isatty(self) -> bool:
        return True


def watchable(unless: Callable[[dict[str, Any]], str] = lambda given: "") -> Callable[..., Callable[..., Any]]:
    """Gives a verb --watch and --every. `unless` says why these options can't be watched; "" when they can."""

    def with_options(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def watched(watch: bool, every: str | None, **given: Any) -> Any:
            if not watch and every is None:
                return function(**given)
            if why := unless(given):
                raise click.UsageError(f"--watch looks again and again; {why}")
            pause = interval(every or EVERY)
            if given.get("as_json"):
                as_lines(lambda: function(**given), pause)
            elif show.on_terminal():
                on_screen(lambda: function(**given), pause)
            else:
                in_turn(lambda: function(**given), pause)

        decorated = click.option("--every", metavar="DURATION", help=f"Watch it so often; default: {EVERY}.")(watched)
        return click.option("--watch", "-w", is_flag=True, help="Look again and again, until Ctrl-C.")(decorated)

    return with_options


def interval(text: str) -> float:
    try:
        return max(units.parse_duration(text), SHORTEST)
    except ValueError:
        raise click.BadParameter(f'{text!r}: expected a duration such as "5s"', param_hint="--every") from None


def looked(look: Callable[[], Any]) -> str:
    """What one look printed. Raises what it raises."""
    with redirect_stdout(Screen() if show.on_terminal() else io.StringIO()) as said:
        try:
            look()
        finally:
            let_go()
    return said.getvalue()


def as_lines(look: Callable[[], Any], pause: float) -> None:
    """A JSON document a line, as it comes."""
    for said in again(look, pause):
        click.echo(orjson.dumps(orjson.loads(said)))


def in_turn(look: Callable[[], Any], pause: float) -> None:
    """Without a terminal: each under its time."""
    for said in again(look, pause):
        click.echo(f"{show.now():%H:%M:%S} {show.offset(show.now())}")
        click.echo(said)


def again(look: Callable[[], Any], pause: float) -> Iterator[str]:
    """What each look printed. A gateway that is away for a moment is waited for."""
    lost = 0.0
    while True:
        try:
            yield looked(look)
            lost = 0.0
        except (NotThere, NoGateway):
            lost = lost or time.monotonic()
            if time.monotonic() - lost > PATIENCE:
                raise
        except ApiError as error:
            if error.status not in BUSY:
                raise
        time.sleep(pause)


def on_screen(look: Callable[[], Any], pause: float) -> None:
    """Until it is interrupted. What is refused ends it; what is not there for a while, too."""
    said, lost = "", 0.0
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    sys.stdout.write(_ALONE)
    try:
        while True:
            try:
                said, lost, why = looked(look), 0.0, ""
            except (NotThere, NoGateway) as error:
                lost, why = lost or time.monotonic(), str(error)
                if time.monotonic() - lost > PATIENCE:
                    raise
            except ApiError as error:
                if error.status not in BUSY:
                    raise
                why = error.title
            draw(said, pause, why)
            time.sleep(pause)
    finally:
        sys.stdout.write(_BACK)
        sys.stdout.flush()


def draw(said: str, pause: float, why: str) -> None:
    """As many lines as fit, under one that says when that was."""
    high = shutil.get_terminal_size((show.WIDEST, 24)).lines
    lines = said.rstrip("\n").split("\n")
    head = f"{show.now():%H:%M:%S} {show.offset(show.now())}, every {units.duration(pause)}; Ctrl-C ends it"
    if why:
        head += f". No news: {show.word(why)}; trying again"
    room = max(high - 2, 1)
    if len(lines) > room:
        lines = [*lines[: room - 1], f"… {len(lines) - room + 1} lines more: a taller window shows them"]
    wide = show.width()
    sys.stdout.write(_HOME + "\n".join(f"{line}{_REST}" for line in (head[: wide - 1], *lines)) + f"{_REST}\n" + _BELOW)
    sys.stdout.flush()
