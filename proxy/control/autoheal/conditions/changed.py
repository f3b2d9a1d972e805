"""Files or the config changed."""

from __future__ import annotations

from proxy import units
from proxy.config.conditions import Condition
from proxy.control.autoheal.contract import CONFIG, FILES, Kind, Seen, Series


def key(files: tuple[str, ...]) -> str:
    """Of a rule's own files in Reading.changes."""
    return "\n".join(files)


def look(condition: Condition, series: Series, now: float) -> Seen:
    last = series.last
    changes = last.changes if last is not None else {}
    names = (key(condition.files),) if condition.files else (FILES, CONFIG)
    name, at = max(((name, changes.get(name, 0.0)) for name in names), key=lambda item: item[1])
    if not at or now - at > condition.within:
        return Seen(False, 0.0, 1.0, "", f"no change in the last {units.write_duration(condition.within)}")
    what = "the process table" if name == CONFIG else "files"
    return Seen(True, 1.0, 1.0, "", f"{what} changed {units.duration(now - at)} ago", token=at)


KIND = Kind(
    name="changed",
    scope="app",
    about="`files` changed (patterns, relative to `cwd`); without them, the files of `process.watch` or"
    " the app's process table. Once per change; with `for`, when nothing more has changed for so long. `process.watch`"
    " alone recycles already: a rule is for other files, or for other acts.",
    look=look,
    once=True,
    recorded=lambda condition: "changes of these files before the rule was there" if condition.files else "",
    example='{ changed = { files = ["settings/*.json"], for = "5s" } }',
)
