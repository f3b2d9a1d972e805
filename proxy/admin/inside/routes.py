"""The routes of looking inside, and of what is done to processes by hand."""

from __future__ import annotations

from typing import Final

from proxy.admin import bundle
from proxy.admin.examples import OPERATION, SESSION
from proxy.admin.fields import Field
from proxy.admin.inside import doing, own, seeing
from proxy.admin.inside import examples as x
from proxy.admin.params import PAGE, WHOLE_PAGE, Param
from proxy.admin.routing import Route

_INSTANCE: Final = "/api/v1/apps/{app}/instances/{instance}"
_PID: Final = Param("a process of the instance; default: its first one", "whole")
_REASON: Final = Field("why, for the events; default: by hand", "reason")
_ERRORS: Final = (409, 503)
"""It has no process, or may not be looked at; it could not be looked at in time."""

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", "/api/v1/environment", own.environment,
        "Of gateway and host: versions, settings, variables, limits, cgroup with pressure, disks; secrets masked.",
        x.OWN_ENVIRONMENT, errors=(503,),
    ),
    Route(
        "GET", "/api/v1/processes", own.processes,
        "Triage's own tree: launcher, control, workers, sessions, instances and all that they started.",
        x.OWN_PROCESSES, params=WHOLE_PAGE, errors=(503,),
    ),
    Route(
        "GET", f"{_INSTANCE}/environment", seeing.environment,
        "Versions of its runtimes and packages, settings, variables (masked), limits, cgroup with pressure.",
        x.ENVIRONMENT, errors=_ERRORS,
    ),
    Route(
        "GET", f"{_INSTANCE}/processes", seeing.tree,
        "Its processes as a tree, parents first; those that left it too, where they can be told.",
        x.PROCESSES, params=WHOLE_PAGE, errors=_ERRORS,
    ),
    Route(
        "GET", f"{_INSTANCE}/processes/{{pid}}", seeing.one,
        "One process whole: memory by kind, mapped files, variables (masked), limits, files, connections.",
        x.WHOLE_PROCESS, errors=_ERRORS,
    ),
    Route(
        "GET", f"{_INSTANCE}/threads", seeing.thread_list, "Threads of a process: where each stands.",
        x.THREADS, params={"pid": _PID, **PAGE}, errors=_ERRORS,
    ),
    Route(
        "GET", f"{_INSTANCE}/files", seeing.file_list, "Descriptors of a process, in their order.",
        x.FILES, params={"pid": _PID, **PAGE}, errors=_ERRORS,
    ),
    Route(
        "GET", f"{_INSTANCE}/connections", seeing.connection_list,
        "Sockets, and who of this machine is at the other end.",
        x.CONNECTIONS, params={"pid": Param("a process of the instance; default: all of them", "whole"), **PAGE},
        errors=_ERRORS,
    ),
    Route(
        "GET", f"{_INSTANCE}/stacks", seeing.stacks,
        "What runs at this moment, of its processes that have connections, 8 at most: by py-spy, Node's inspector "
        "where it is open, jcmd, eu-stack; else where its threads are in the kernel.",
        x.STACKS, params={"pid": Param("only this process of the instance", "whole")}, errors=_ERRORS,
        role="operator", audit=True,
    ),
    Route(
        "GET", "/api/v1/bundle", bundle.bundle_of_now,
        "All that support would ask for of now, without a session, as a zip: status, processes, masked config and "
        "environment, events, incidents, logs.",
        "PK…", params={"app": "only this app"}, audit=True, content="application/zip", errors=(404, 429),
    ),
    Route(
        "POST", f"{_INSTANCE}/processes/{{pid}}/kill", doing.kill_process,
        "Send a signal to a process of the instance, and say whether it ended. Of its first process that is an exit "
        "of the instance: recycle loses no request.",
        OPERATION, status=202, errors=_ERRORS,
        body={
            "signal": Field("TERM (default), KILL, INT, QUIT, ABRT, HUP, USR1 or USR2", "signal"),
            "start": Field("`start` of the process that is meant: another with its number is left alone", "whole"),
            "reason": _REASON,
            "preview": Field('do nothing, and answer 200 with `will`, lines, and `at_stake`, a flag', "flag"),
        },
    ),
    Route(
        "POST", f"{_INSTANCE}/profile", doing.profile,
        "Where its CPU time goes: a session with that collector alone. 409 or 429 where none can begin now.",
        SESSION, status=202, errors=(409, 429, 503),
        body={"seconds": Field('for so long: "30s", 2 s to 60 s; default: 10', "duration"), "reason": _REASON},
    ),
    Route(
        "POST", f"{_INSTANCE}/memory-dump", doing.memory_dump,
        "Its memory as a file: a session with that collector alone, which holds all secrets of the process.",
        SESSION, status=202, errors=(409, 429, 503), body={"reason": _REASON},
    ),
)  # fmt: skip
