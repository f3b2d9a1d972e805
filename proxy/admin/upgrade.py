"""The upgrade, asked for or only foreseen; how it goes on is an operation like any other."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from aiohttp import web

from proxy import units
from proxy.admin import mending
from proxy.admin.acts import asked
from proxy.admin.common import answer
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY
from proxy.control.mend import NotPossible

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway


async def upgrade(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    if request["body"].get("preview", False):
        tunnels = sum(one.stats.tunnels for one in gateway.workers if one.stats is not None)
        return answer(
            {"act": "upgrade", "target": "gateway", "will": _foreseen(gateway, tunnels), "at_stake": tunnels > 0}
        )
    try:
        operation = gateway.upgrade.begin(asked(request))
    except NotPossible as error:
        raise ApiProblem(409, error.kind, "upgrade is not possible", str(error), error.hint) from None
    response = answer(mending.operation(operation), 202)
    response.headers["Location"] = f"/api/v1/operations/{quote(operation.id)}"
    return response


def _foreseen(gateway: Gateway, tunnels: int) -> list[str]:
    count = len(gateway.worker_set.present)
    lines = [
        "the code on disk is tried first; when it can't start, nothing is changed",
        f"control, {count} {'worker' if count == 1 else 'workers'} and the launcher become the code on disk;"
        " instances and listening sockets stay",
    ]
    if tunnels:
        limit = units.duration(gateway.worker_set.drain_limit)
        lines.append(f"{tunnels} {'tunnel' if tunnels == 1 else 'tunnels'} may go on for {limit}, and are closed then")
    return lines
