"""What a reload has to do: which apps came, went or changed, and what waits for the next start."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import Struct

from proxy.config.schema import App, Config

AT_NEXT_START: Final = ("gateway.data_dir", "admin.listen")


class AppChange(Struct, frozen=True):
    """`keys`: of the app's table, those that differ ("process" and "addresses" among them)."""

    keys: tuple[str, ...]
    process_keys: tuple[str, ...] = ()

    @property
    def process(self) -> bool:
        """Its process table differs, so instances may have to be replaced."""
        return "process" in self.keys

    @property
    def fresh_instances(self) -> bool:
        """Running instances do not fit the new table; a count or a stop rule alone is no reason."""
        return bool(set(self.process_keys) - IN_PLACE)

    @property
    def addresses(self) -> bool:
        return "addresses" in self.keys


IN_PLACE: Final = frozenset({"instances", "stop", "overlap", "watch", "logs", "diagnose"})
"""Keys of [process] that are about the future of an instance, not about how it was started."""


class Changes(Struct, frozen=True):
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: dict[str, AppChange] = {}
    gateway: tuple[str, ...] = ()  # keys that differ and are applied now
    admin: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    alerting: bool = False  # alerts or notify
    traces: tuple[str, ...] = ()
    status_page: tuple[str, ...] = ()
    at_next_start: tuple[str, ...] = ()  # whole key paths

    def __bool__(self) -> bool:
        return self != Changes()


def diff(old: Config, new: Config) -> Changes:
    """From `old`, which runs, to `new`."""
    gateway, admin = _keys(old.gateway, new.gateway), _keys(old.admin, new.admin)
    paths = [*(f"gateway.{key}" for key in gateway), *(f"admin.{key}" for key in admin)]
    return Changes(
        added=tuple(name for name in new.apps if name not in old.apps),
        removed=tuple(name for name in old.apps if name not in new.apps),
        changed={
            name: _app(old.apps[name], app)
            for name, app in new.apps.items()
            if name in old.apps and old.apps[name] != app
        },
        gateway=tuple(key for key in gateway if f"gateway.{key}" not in AT_NEXT_START),
        admin=tuple(key for key in admin if f"admin.{key}" not in AT_NEXT_START),
        keep=_keys(old.keep, new.keep),
        traces=_keys(old.traces, new.traces),
        status_page=_keys(old.status_page, new.status_page),
        alerting=(old.alerts, old.notify) != (new.alerts, new.notify),
        at_next_start=tuple(path for path in paths if path in AT_NEXT_START),
    )


def _app(old: App, new: App) -> AppChange:
    inner = _keys(old.process, new.process) if old.process and new.process else ()
    return AppChange(_keys(old, new), inner)


def _keys(old: Struct, new: Struct) -> tuple[str, ...]:
    return tuple(
        field.encode_name
        for field in msgspec.structs.fields(new)
        if getattr(old, field.name) != getattr(new, field.name)
    )
