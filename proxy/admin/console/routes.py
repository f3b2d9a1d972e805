"""The Console's rows of the route table: admins only, and only where `admin.console` is true."""

from __future__ import annotations

from typing import Final

from proxy.admin.console import command, terminal, vfs, zips
from proxy.admin.console.desk import guarded
from proxy.admin.fields import Field
from proxy.admin.params import PAGE, Param
from proxy.admin.routing import Route

_ITEM: Final = {
    "id": "app.log", "name": "app.log", "kind": "file", "size": 4711, "mtime": "2026-01-05T03:07:41.000Z",
    "mime": "text/plain", "mode": "0644", "etag": '"2a1-1267-18c-18c"', "target": "", "path": "web/log/app.log",
    "href": "/api/v1/vfs/web/log/app.log",
}  # fmt: skip
_ROOT: Final = {
    **_ITEM, "id": "web", "name": "web", "kind": "folder", "size": 0, "mime": "", "etag": "", "path": "web/",
    "href": "/api/v1/vfs/web/", "folder": "/srv/web", "writable": True,
}  # fmt: skip
_FOLDER: Final = {"items": [_ITEM], "next": None, "path": "web/log/", "writable": True}
_TERMINAL: Final = {
    "id": "c-3", "by": "ops", "way": "token ops, from 127.0.0.1", "app": "web", "instance": "web-7",
    "where": "web-7's place", "user": "www", "shell": "/bin/bash", "cwd": "/srv/web",
    "began": "2026-01-05T03:07:41.000Z", "idle_s": 4.1, "pid": 4711, "cols": 120, "rows": 40, "typed": 12,
    "printed": 4711,
}  # fmt: skip
_PLACE: Final = {
    "app": "name of an app: in its place, that is as its user, in its folder, with its environment",
    "instance": "name of an instance; default: the app's first ready one",
    "root": "name of a root: in that folder instead", "dir": "a folder below `root`",
}  # fmt: skip

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", "/api/v1/vfs/", guarded(vfs.listed), "The roots: folders whose files may be seen.",
        {"items": [_ROOT], "next": None, "path": "", "writable": False}, params=PAGE, role="admin", errors=(503,),
    ),
    Route(
        "GET", "/api/v1/vfs/{path}", guarded(vfs.get),
        "A folder's items, by name, or a file's content (application/octet-stream or what it is), whole or a range of "
        "it. Links are not followed. If-None-Match, If-Range and Range are understood.",
        _FOLDER, params=PAGE, tail=True, role="admin", errors=(409, 412, 416, 503), others=("*/*",),
        also={206: "The range of the file that was asked for", 304: "If-None-Match: it is the same still"},
    ),
    Route(
        "PUT", "/api/v1/vfs/{path}", guarded(vfs.put),
        "The content of a file, which is replaced at once and keeps mode and owner. What is there already is replaced "
        "only with If-Match: its ETag, or `*`. A path that ends with a slash makes a folder, without content. "
        "201 where it is new.",
        _ITEM, tail=True, role="admin", takes="application/octet-stream", errors=(412, 503, 507),
        also={201: "It is new"},
    ),
    Route(
        "DELETE", "/api/v1/vfs/{path}", guarded(vfs.delete),
        "Remove a file or a link, with If-Match: its ETag, or `*`; or a folder, whose path ends with a slash.",
        None, status=204, tail=True, role="admin", errors=(412, 503),
        params={"recursive": Param("true: with all that is in the folder", "flag")},
    ),
    Route(
        "GET", "/api/v1/zip/{dir}", guarded(zips.get),
        "A folder with all plain files in it as a zip; triage-left-out.txt in it lists what is not.",
        "PK…", tail=True, role="admin", content="application/zip", errors=(409, 413, 503), audit=True,
    ),
    Route(
        "PUT", "/api/v1/zip/{dir}", guarded(zips.put),
        "Unpack a zip over a folder: files there are replaced, none is removed. All of it is looked at first; links, "
        "names that lead out, and zips made to fill disks are refused, and then nothing is changed.",
        {"id": "web/", "path": "web/", "href": "/api/v1/vfs/web/", "words": "12 files, of which 3 were there before; "
         "1.2 MB", "files": 12, "replaced": 3, "folders": 2, "bytes": 1200000},
        tail=True, role="admin", takes="application/zip", errors=(422, 503, 507),
    ),
    Route(
        "POST", "/api/v1/command", guarded(command.run),
        "Run a command and stream what it prints, as server-sent events: `out` and `err` with text, `dropped` with "
        "`bytes` that were too many, at the end `exit` with `code` or `signal` and `words`. It ends with the call.",
        {"code": 0, "signal": None, "words": "exit code 0", "late": False, "took_s": 0.1, "out": 12, "err": 0,
         "dropped": 0, "left": 0},
        content="text/event-stream", role="admin", errors=(404, 409, 422, 503),
        body={
            "command": Field('an argument list, or text that is split like a shell would; no shell runs it', "command",
                             required=True),
            **{name: Field(about) for name, about in _PLACE.items()},
            "timeout": Field('it is ended after so long: "60s" (default), 1 h at most', "duration"),
            "reason": Field("why, for the events", "reason"),
        },
    ),
    Route(
        "GET", "/api/v1/console", guarded(terminal.begin),
        "A terminal over a WebSocket. Binary frames are what is typed and printed; text frames are JSON: "
        '`{"begun": …}` first, `{"exit": code, "words": …}` last, and from the client `{"resize": [cols, rows]}`.',
        None, status=101, role="admin", errors=(404, 409, 422, 426, 503), audit=True,
        params={**_PLACE, "cols": Param("columns of the screen, 1 to 1000; default 80", "whole", 1, 1000, 80),
                "rows": Param("rows of it; default 24", "whole", 1, 1000, 24)},
    ),
    Route(
        "GET", "/api/v1/consoles", guarded(terminal.listed), "The terminals that are open.",
        {"items": [_TERMINAL], "next": None}, params=PAGE, role="admin",
    ),
    Route(
        "DELETE", "/api/v1/consoles/{id}", guarded(terminal.end), "End a terminal with all that runs in it.",
        None, status=204, role="admin",
    ),
)  # fmt: skip
