"""Where a call wants a command or a terminal: an instance's place, an app's, a folder below a root, the gateway's."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from proxy.admin.common import no_app
from proxy.admin.console import roots, walk
from proxy.admin.console.desk import Descriptor, Desk
from proxy.admin.errors import ApiProblem
from proxy.control.console import where
from proxy.control.console.where import Where
from proxy.control.refusal import NotPossible

REFUSED: Final = {"too-many-consoles": 429, "too-many-commands": 429, "no-terminal": 503, "not-started": 422}


async def found(
    desk: Desk, app: str, instance: str, root: str = "", folder: str = ""
) -> tuple[Where, Descriptor | None]:
    """The place, and its folder where the call named one, which the caller closes. Raises ApiProblem."""
    gateway = desk.gateway
    if instance and not app:
        app = next((name for name, state in gateway.apps.items() if instance in state.instances), "")
        if not app:
            raise ApiProblem(404, "no-such-instance", f"There is no instance {instance[:60]!r}",
                             hint="triage status lists them.")  # fmt: skip
    if app and app not in gateway.apps:
        raise no_app(gateway, app)
    if instance and instance not in gateway.apps[app].instances:
        names = ", ".join(list(gateway.apps[app].instances)[:20]) or "none"
        raise ApiProblem(404, "no-such-instance", f"{app} has no instance {instance[:60]!r}",
                         hint=f"Instances are: {names}.")  # fmt: skip
    try:
        place = await (where.of_app(gateway, app, instance) if app else where.of_gateway(gateway))
    except NotPossible as error:
        raise refused(error) from None
    except KeyError as error:
        raise ApiProblem(409, "no-user", f"The user of {app} is not known on this machine", str(error)) from None
    if not root:
        if folder:
            raise ApiProblem(400, "missing-field", "`root` is missing", "`dir` is below a root.",
                             "GET /api/v1/vfs/ lists the roots.")  # fmt: skip
        return place, None
    steps = "/".join([walk.quoted(root.encode()), *(walk.quoted(one.encode()) for one in folder.split("/") if one)])
    path = walk.parse(f"{steps}/", roots.roots(gateway))
    closed = await desk.closed()
    opened = await desk.thread(lambda: Descriptor(walk.descend(path, path.names, closed)))
    return place.inside(opened.fd, path.shown), opened


def refused(error: NotPossible, title: str = "It cannot be started") -> ApiProblem:
    """In the one error shape."""
    status = REFUSED.get(error.kind, 409)
    headers = {"Retry-After": "10"} if status in (429, 503) else {}
    return ApiProblem(status, error.kind, title, str(error), error.hint, headers)


def close(folder: Descriptor | None) -> None:
    """Of what `found` opened."""
    if folder is not None:
        with suppress(OSError):
            folder.close()
