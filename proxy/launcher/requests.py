"""What control may ask for, one function per op. What can't be done raises Refused and changes nothing."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from proxy.launcher import handover
from proxy.launcher.child import Refused
from proxy.link.spawn import Address, Message, SpawnRequest

if TYPE_CHECKING:
    from proxy.launcher.launcher import Launcher

Answer = tuple[dict[str, object], tuple[int, ...]]


def answer(launcher: Launcher, message: Message, fds: list[int]) -> Answer | None:
    """Do it; None when the answer comes later or is not wanted. Raises Refused. `fds` stay the caller's."""
    op = message.get("op")
    found = OPS.get(op) if isinstance(op, str) else None
    if found is None:
        raise Refused("request", errno.EINVAL, f"there is no op {op!r}")
    try:
        return found(launcher, message, fds)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Refused(str(op), errno.EINVAL, f"{op}: not understood: {error!r}") from error
    except OSError as error:
        raise Refused(str(op), error.errno or 0, f"{op}: {error.strerror or error}") from error


def _spawn(launcher: Launcher, message: Message, fds: list[int]) -> None:
    request = cast(SpawnRequest, message["child"])
    if not request["argv"] or not request["name"]:
        raise ValueError("a child needs a name and a command")
    launcher.children.spawn(request, message["id"])


def _signal(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    child = launcher.children.by_name.get(message["name"])
    if child is None:
        raise Refused("name", errno.ESRCH, f"{message['name']} does not run")
    signum = int(message["signal"])
    if signum not in signal.valid_signals():
        raise ValueError(f"{signum} is not a signal")
    launcher.children.signal(child, signum, group=message.get("to") == "group")
    return {}, ()


def _hold(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    if len(fds) != 1:
        raise Refused("hold", errno.EBADF, f"hold takes one descriptor, {len(fds)} came")
    launcher.store.put(launcher.store.not_own(message["name"]), os.dup(fds[0]))
    return {}, ()


def _fetch(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    return {}, (launcher.children.descriptor(message["name"]),)


def _drop(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    name = launcher.store.not_own(message["name"])
    launcher.store.descriptor(name)
    launcher.store.release(name)
    return {}, ()


def _listen(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    return {"listener": launcher.store.listen(cast(Address, message["address"]))}, ()


def _unlisten(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    launcher.store.unlisten(message["name"])
    return {}, ()


def _slots(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    count = int(message["count"])
    if not 1 <= count <= 1024:
        raise ValueError(f"{count} worker slots: at least 1, at most 1024")
    return {"listeners": launcher.store.resize(count)}, ()


def _steer(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    launcher.store.steer(max(1, int(message["count"])))
    return {}, ()


def _beat(launcher: Launcher, message: Message, fds: list[int]) -> None:
    """That it came is all it says."""


def _ack(launcher: Launcher, message: Message, fds: list[int]) -> None:
    for number in message["exits"]:
        launcher.children.acknowledged(number)


def _again(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    launcher.control.planned = True
    return {}, ()


def _handover(launcher: Launcher, message: Message, fds: list[int]) -> Answer:
    return {"handover": handover.told(launcher)}, ()


def _exec(launcher: Launcher, message: Message, fds: list[int]) -> None:
    launcher.exec_asked(int(message["id"]))


def _bye(launcher: Launcher, message: Message, fds: list[int]) -> None:
    launcher.end(int(message.get("code", 0)), "control said bye")


OPS: Final[dict[str, Callable[[Any, Message, list[int]], Answer | None]]] = {
    "spawn": _spawn,
    "signal": _signal,
    "hold": _hold,
    "fetch": _fetch,
    "drop": _drop,
    "listen": _listen,
    "unlisten": _unlisten,
    "slots": _slots,
    "steer": _steer,
    "beat": _beat,
    "ack": _ack,
    "again": _again,
    "handover": _handover,
    "exec": _exec,
    "bye": _bye,
}
