"""Evidence is lost: requests go on, but what happened now can't be looked up later."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.control.incidents.contract import Found, Signal
from proxy.control.incidents.scene import GatewayScene, Loss

WORDS: Final = {
    "ledger": "the ledger can't be written, so a new control would begin anew",
    "store": "the store can't be written",
    "output": "output of instances is lost",
    "access-log": "lines of the access log are lost",
    "records": "kept requests are lost on their way to control",
}
"""Records of a storm of faults are not lost: 200 a second are kept of it by design, and all are counted."""


def look(scene: GatewayScene) -> Found | None:
    bad = [one for one in scene.losses if one.why or one.lately]
    if not bad:
        return None
    return Found("lost-evidence", "; ".join(map(_said, bad)), "degraded", "certain", scene.unix)


def _said(one: Loss) -> str:
    unit = " bytes" if one.name == "output" else ""
    lost = f" ({units.count(one.lost)}{unit} so far)" if one.lost else ""
    return f"{WORDS[one.name]}{lost}{f': {one.why}' if one.why else ''}"


SIGNAL = Signal(
    "lost-evidence", "gateway", "store, ledger, access log, output or kept requests can't be written, or were dropped",
    look, touches=False,
)  # fmt: skip
