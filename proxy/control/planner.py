"""What a pool shall start and let go now: the pure plan (pool.py), fed with marks, operations and free memory.

Always true: where memory is short, what was let go for want of room has ended before another is started.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from proxy import units
from proxy.control import room
from proxy.control.operations import Operation
from proxy.control.pool import Member, Plan, plan
from proxy.control.state import InstanceState, Lifecycle

if TYPE_CHECKING:
    from proxy.control.supervisor import Pool

REPLACING: Final = ("recycle", "restart")
STARTING: Final = (*REPLACING, "scale", "start")
"""Acts that instances are started for."""


class Planner:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.app = pool.app
        self.shared = pool.shared
        self.no_room = ""
        """Why a replacement can't run beside the old one now, "" when it can."""
        self.stuck = ""
        """Why, for that reason, nothing can be done."""

    def plan(self) -> Plan:
        """With overlap, unless the config says otherwise or memory is short."""
        process = self.pool.process
        if process is None:
            return plan(self._members(), 0)
        members, wanted, batch = self._members(), self.app.wanted, self._batch()
        steps = plan(members, wanted, process.overlap, batch)
        going = [one for one in members if one.lifecycle in (Lifecycle.DRAINING, Lifecycle.STOPPING)]
        self.stuck = ""
        if len(members) - len(going) >= wanted or not going:  # else one was let go for want of room: it decides still
            wants = process.overlap and steps.start and len(members) - len(going) >= wanted
            old = [one.name for one in self.app.instances.values() if self.is_old(one)]
            self.no_room = self.short_of_room(old) if wants else ""
        if not self.no_room:
            return steps
        steps = plan(members, wanted, overlap=False, keep_last=True)
        if not steps.leave and all(member.lifecycle is Lifecycle.READY for member in members):
            last = ", ".join(member.name for member in members)
            self.stuck = f"{self.no_room}, and {last} is the last one that is ready: it is not ended for that"
        for operation in self.replacing():
            if not operation.details.get("no_room"):
                operation.details["no_room"] = self.no_room
                how = "one at a time, the old one first" if steps.leave else "the last ready one is not ended for it"
                self.shared.operations.step(operation, f"{self.no_room}: no overlap, {how}")
        return steps

    def short_of_room(self, names: Iterable[str]) -> str:
        """Why a second one of the largest of these has no room, or ""."""
        free = room.free()
        usages = [self.app.instances[name].usage for name in names]
        used = max((usage.rss for usage in usages if usage), default=0)
        if free is None or free >= used:
            return ""
        return f"free memory ({units.size(free)}) is less than the {units.size(used)} of the one to be replaced"

    def replacing(self) -> list[Operation]:
        """Operations under way that replace instances, the oldest first."""
        running = self.shared.operations.running(self.app.name)
        return [one for one in running if one.act in REPLACING or (one.act == "scale" and one.targets)]

    def _batch(self) -> int:
        shares = [one.asked.batch for one in self.replacing()]
        return max(1, int(max(shares, default=0.0) * self.app.wanted))

    def _members(self) -> list[Member]:
        states = [state for state in self.app.instances.values() if state.kind == "process"]
        rolls = any(not self.pool.is_current(state.name) and self.pool.stays(state.name) for state in states)
        running = {one.id for one in self.shared.operations.running(self.app.name)}
        return [
            Member(
                state.name,
                self.lifecycle(state),
                not self.is_old(state),
                order(state),
                aside=not rolls and state.under not in running,
            )
            for state in states
        ]

    def is_old(self, state: InstanceState) -> bool:
        return bool(state.marked) or not self.pool.is_current(state.name)

    def lifecycle(self, state: InstanceState) -> Lifecycle:
        """One that was told to leave counts as draining, also before its task has taken the step."""
        leaving = self.pool.runners[state.name].leaving.is_set() and state.lifecycle is not Lifecycle.STOPPED
        return Lifecycle.DRAINING if leaving else state.lifecycle


def order(state: InstanceState) -> int:
    """The smallest number is the oldest; addresses have none."""
    number = state.name.rpartition("-")[2]
    return int(number) if number.isdigit() else 0
