"""Where a process that does not get ready really listens, in one word and in words. Pure, but for `listening`."""

from __future__ import annotations

from proxy.control import ports, sampling
from proxy.control.state import InstanceState


def wrong_place(state: InstanceState, bind: str) -> tuple[str, str]:
    """("wrong-port", "runs but listens on 5000, not 41233: pass {port} or read $PORT"), or two empty ones.

    By `state.listens_on`, which must have been looked up.
    """
    found = state.listens_on
    if state.path:
        if f"unix:{state.path}" in found:
            return "", ""
        where = ", ".join(found)
        kind = "wrong-address" if where else "listens-nowhere"
        return kind, f"runs but listens on {where or 'nothing'}, not {state.path}: pass {{socket}}"
    if bind == "fd" or ports.reaches(found, f"{ports.LOOPBACK}:{state.port}"):
        return "", ""
    own = [int(one.rpartition(":")[2]) for one in found if not one.startswith("unix:")]
    if state.port in own:
        return "wrong-address", f"runs but listens on {', '.join(found)}, not {ports.LOOPBACK}:{state.port}"
    if not found:
        said = f"runs but listens nowhere yet; expected on {state.port}: pass {{port}} or read $PORT"
        return "listens-nowhere", said
    where = ", ".join(str(port) for port in own) or ", ".join(found)
    return "wrong-port", f"runs but listens on {where}, not {state.port}: pass {{port}} or read $PORT"


def listening(pid: int, known: tuple[int, ...]) -> tuple[str, ...]:
    """Of the whole tree below `pid`. Slow: for a thread."""
    tree = sampling.trees(sampling.sweep(), {"": pid}).get("", known)
    return tuple(ports.listening(tree))
