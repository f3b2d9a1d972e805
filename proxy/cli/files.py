"""`triage files`: the files below the roots that the gateway shows: list, fetch, put, remove, whole folders as zip.

What is there is never overwritten or removed unseen: its ETag is asked for, what it is is said, and the change is made
only if it is still that (If-Match). Without a terminal --force is needed instead of a yes.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import IO, Any, Final
from urllib.parse import quote

import click

from proxy import units
from proxy.cli import show
from proxy.cli.acts import on_terminal
from proxy.cli.client import ApiError, Gateway
from proxy.cli.completing import remote_paths
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, fail, gateway_options, print_json, reach
from proxy.cli.sessions import save
from proxy.cli.show import Column
from proxy.cli.watching import watchable

COLUMNS: Final = (
    Column("kind"),
    Column("size", right=True),
    Column("changed"),
    Column("name", flexible=True),
    Column("mode"),
    Column("folder"),
)
PATIENT: Final = 600.0
"""Seconds for an answer that comes when all of a large file is on the disk, or an archive is unpacked."""


@click.group(short_help="Files below the gateway's roots: ls, get, put, rm, mkdir, zip, unzip.")
def files() -> None:
    """Files on the gateway's machine, below its roots (`triage files ls` lists them).

    PATH is ROOT/FOLDER/FILE. Needs an admin's token, and admin.console = true; each change is in the events.
    """


def remote(path: str) -> str:
    """A path as the API wants it. Raises UsageError for what leads nowhere."""
    parts = path.lstrip("/").split("/")
    if any(part in (".", "..") for part in parts):
        raise click.BadParameter(f"{path!r}: a path begins with a root, and has no . or .. in it", param_hint="PATH")
    return "/".join(quote(part, safe="") for part in parts)


@files.command("ls", epilog=examples("triage files ls", "triage files ls logs", "triage files ls web/static --watch"))
@click.argument("path", default="", shell_complete=remote_paths)
@gateway_options
@watchable()
def ls(path: str, at: Where, as_json: bool) -> None:
    """What is in a folder; without a PATH the roots."""
    gateway = reach(at)
    folder = remote(path.rstrip("/"))
    answer = listed(gateway, folder)
    if as_json:
        print_json(answer)
    elif answer["items"]:
        show.table(COLUMNS, [row(one, roots=not folder) for one in answer["items"]])
        if answer.get("next"):
            click.echo("… there are more; --json has `next`.", err=True)
    else:
        click.echo("It is empty." if folder else "There are no roots: admin.roots names them.")


def listed(gateway: Gateway, folder: str) -> Any:
    """A folder's items; of a file, itself alone."""
    try:
        return gateway.get(f"vfs/{folder}/" if folder else "vfs/")
    except ApiError as error:
        if error.status not in (400, 404, 409) or "/" not in folder:
            raise
        above, _, name = folder.rpartition("/")
        try:
            items = gateway.get(f"vfs/{above}/")["items"]
        except ApiError:
            raise error from None
        found = [one for one in items if quote(one["name"], safe="") == name and one["kind"] != "folder"]
        if not found:
            raise
        return {"items": found, "next": None}


def row(one: dict[str, Any], *, roots: bool) -> list[str]:
    return [
        one["kind"], units.size(one["size"]) if one["kind"] == "file" and one.get("size") is not None else "",
        show.clock(one["mtime"], with_offset=False) if one.get("mtime") and not roots else "",
        one["name"] + ("/" if one["kind"] == "folder" else "") + (f" -> {one['target']}" if one.get("target") else ""),
        one.get("mode") or "" if not roots else "", place(one) if roots else "",
    ]  # fmt: skip


def place(one: dict[str, Any]) -> str:
    """Of a root: which folder it is, and whether anything may be changed there."""
    return f"{one.get('folder') or ''}{'' if one.get('writable', True) else ', read only'}"


@files.command("get", epilog=examples("triage files get logs/access.jsonl", "triage files get web/app.py - | less"))
@click.argument("path", shell_complete=remote_paths)
@click.argument("local", metavar="[FILE]", required=False, type=click.Path(allow_dash=True))
@click.option("--force", is_flag=True, help="Also over a FILE that is there.")
@gateway_options
def get(path: str, local: str | None, force: bool, at: Where, as_json: bool) -> None:
    """Fetch a file; as FILE, or under its own name here. `-` prints it."""
    gateway = reach(at)
    target = local_file(path, local, force=force, as_json=as_json)
    if look(gateway, path) is None:
        fail(f"{path} is a folder.", f"To fetch it with all in it: triage files zip {path}", as_json=as_json)
    size = save(gateway, f"vfs/{remote(path)}", target, {}, as_json)
    told(path, target, size, as_json=as_json)


def local_file(path: str, local: str | None, *, force: bool, as_json: bool, end: str = "") -> str:
    """Where it is to be saved; what is there stays unless --force was said."""
    target = local or os.path.basename(path.rstrip("/")) + end
    if target != "-" and os.path.isdir(target):
        target = os.path.join(target, os.path.basename(path.rstrip("/")) + end)
    if target != "-" and not force and os.path.lexists(target):
        fail(f"{target} is there already. Say another name, or --force.", as_json=as_json)
    return target


def told(path: str, target: str, size: int, *, as_json: bool) -> None:
    if as_json:
        if target != "-":
            print_json({"path": path, "file": target, "size": size})
    elif target != "-":
        click.echo(show.clean(f"{path}: {target} ({units.size(size)})"))


@files.command("put", epilog=examples("triage files put new.json web/settings.json", "triage files put a.txt web/in/"))
@click.argument("local", metavar="FILE", type=click.Path(allow_dash=True))
@click.argument("path", shell_complete=remote_paths)
@click.option("--force", is_flag=True, help="Replace what is there without asking.")
@gateway_options
@calls("PUT /api/v1/vfs/{path}")
def put(local: str, path: str, force: bool, at: Where, as_json: bool) -> None:
    """Put FILE there as PATH; `-` is standard input. A PATH that ends with / is a folder to put it into.

    What is there is replaced whole, and only if nobody changed it meanwhile.
    """
    if path.endswith("/"):
        if local == "-":
            raise click.UsageError("say the name too: standard input has none")
        path += os.path.basename(local)
    gateway = reach(replace(at, timeout=PATIENT))
    with opened_here(local, as_json=as_json) as opened:
        headers = {"Content-Type": "application/octet-stream", **replacing(gateway, path, force, as_json=as_json)}
        with folder_named(path):
            send(gateway, f"vfs/{remote(path)}", opened, headers)
    if as_json:
        print_json({"path": path, "replaced": "If-Match" in headers})
    else:
        click.echo(show.clean(f"{path}: {'replaced' if 'If-Match' in headers else 'made'}"))


@contextmanager
def folder_named(path: str) -> Iterator[None]:
    """What is not there is the folder that something was to be put into."""
    try:
        yield
    except ApiError as error:
        folder = path.rstrip("/").rpartition("/")[0]
        if error.status == 404 and folder:
            error.hint = f"If the folder is missing: triage files mkdir {folder}"
        raise


def opened_here(local: str, *, as_json: bool) -> IO[bytes]:
    if local == "-":
        return sys.stdin.buffer
    try:
        return open(local, "rb")
    except OSError as error:
        fail(f"{local}: {(error.strerror or str(error)).lower()}", as_json=as_json)


def send(gateway: Gateway, path: str, opened: IO[bytes], headers: dict[str, str]) -> Any:
    """PUT it, with its size where that is known."""
    try:
        size = os.fstat(opened.fileno()).st_size if opened.seekable() else None
    except OSError:
        size = None
    length = {} if size is None else {"Content-Length": str(size)}
    return gateway.file("PUT", path, {**headers, **length}, opened)[0]


def replacing(gateway: Gateway, path: str, force: bool, *, as_json: bool) -> dict[str, str]:
    """The head that lets a file be replaced: If-Match with what it is now; nothing where there is none."""
    try:
        head = look(gateway, path)
    except ApiError as error:
        if error.status != 404:
            raise
        return {}
    if head is None:
        fail(f"{path} is a folder. To put it in there: {path}/", as_json=as_json)
    agree(f"{path} is there: {described(head)}", "It is replaced by this. Go on?", force, as_json=as_json)
    return {"If-Match": head["ETag"]}


def described(head: Mapping[str, str]) -> str:
    """ "8 bytes, changed Mon, 23 Nov 2026 23:26:29 GMT" """
    return f"{units.size(int(head['Content-Length']))}, changed {head['Last-Modified']}"


def look(gateway: Gateway, path: str) -> Mapping[str, str] | None:
    """What a file is now; None: it is a folder. Raises ApiError."""
    try:
        _, head = gateway.file("HEAD", f"vfs/{remote(path)}", {})
    except ApiError:
        gateway.file("GET", f"vfs/{remote(path)}", {"Range": "bytes=0-0"})  # the answer to HEAD has no words
        raise
    return head if head.get("ETag") else None


def agree(what: str, question: str, force: bool, *, as_json: bool) -> None:
    """Say what is at stake; a person agrees, or --force does."""
    if force:
        return
    if as_json or not on_terminal():
        fail(f"{what}. Nothing was done: say --force.", as_json=as_json)
    click.echo(show.clean(f"{what}."))
    if not click.confirm(question, default=False):
        fail("Nothing was done.")


@files.command("rm", epilog=examples("triage files rm web/cache.db", "triage files rm web/tmp/ --recursive"))
@click.argument("path", shell_complete=remote_paths)
@click.option("-r", "--recursive", is_flag=True, help="A folder, with all in it.")
@click.option("--force", is_flag=True, help="Without asking.")
@gateway_options
@calls("DELETE /api/v1/vfs/{path}")
def rm(path: str, recursive: bool, force: bool, at: Where, as_json: bool) -> None:
    """Remove a file, or with --recursive a folder and all in it. It can't be brought back."""
    gateway = reach(at)
    head = None if path.endswith("/") else look(gateway, path)
    if head is None:
        if not recursive:
            fail(f"{path} is a folder: say --recursive to remove it with all in it.", as_json=as_json)
        folder = remote(path.rstrip("/"))
        items = gateway.get(f"vfs/{folder}/")["items"]
        agree(f"{path} is a folder with {units.several(len(items), 'entry').replace('entrys', 'entries')}",
              "It is removed with all in it. Go on?", force, as_json=as_json)  # fmt: skip
        gateway.call("DELETE", f"vfs/{folder}/", {"recursive": "true"})
    else:
        agree(f"{path}: {described(head)}", "It is removed. Go on?", force, as_json=as_json)
        gateway.file("DELETE", f"vfs/{remote(path)}", {"If-Match": head["ETag"]})
    print_json({"path": path, "removed": True}) if as_json else click.echo(show.clean(f"{path}: removed"))


@files.command("mkdir", epilog=examples("triage files mkdir web/incoming"))
@click.argument("path", shell_complete=remote_paths)
@gateway_options
@calls("PUT /api/v1/vfs/{path}")
def mkdir(path: str, at: Where, as_json: bool) -> None:
    """Make a folder."""
    reach(at).file("PUT", f"vfs/{remote(path.rstrip('/'))}/", {"Content-Length": "0"})
    print_json({"path": path, "made": True}) if as_json else click.echo(show.clean(f"{path}: made"))


@files.command("zip", epilog=examples("triage files zip web/static", "triage files zip logs -o logs.zip"))
@click.argument("path", shell_complete=remote_paths)
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(),
    help="Save it there; default: its name with .zip; `-` prints it.",
)  # fmt: skip
@click.option("--force", is_flag=True, help="Also over a FILE that is there.")
@gateway_options
def zip_(path: str, output: str | None, force: bool, at: Where, as_json: bool) -> None:
    """Fetch a folder with all in it, as a zip."""
    gateway = reach(at)
    target = local_file(path, output, force=force, as_json=as_json, end=".zip")
    told(path, target, save(gateway, f"zip/{remote(path.rstrip('/'))}/", target, {}, as_json), as_json=as_json)


@files.command("unzip", epilog=examples("triage files unzip site.zip web/static"))
@click.argument("local", metavar="FILE", type=click.Path(allow_dash=True))
@click.argument("path", shell_complete=remote_paths)
@click.option("--force", is_flag=True, help="Without asking.")
@gateway_options
@calls("PUT /api/v1/zip/{dir}")
def unzip(local: str, path: str, force: bool, at: Where, as_json: bool) -> None:
    """Unpack a zip into a folder. Files of the same name are replaced, nothing else is touched."""
    gateway = reach(replace(at, timeout=PATIENT))
    agree(f"{local} is unpacked into {path}, over files of the same name", "Go on?", force, as_json=as_json)
    with opened_here(local, as_json=as_json) as opened:
        with folder_named(f"{path.rstrip('/')}/_"):
            answer = send(gateway, f"zip/{remote(path.rstrip('/'))}/", opened, {"Content-Type": "application/zip"})
    if as_json:
        print_json(answer)
    else:
        click.echo(show.clean(f"{local}: unpacked into {path}: {answer['words']}"))
