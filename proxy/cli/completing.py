"""`triage completion`: a script for the shell; and what it completes from the running gateway.

What does not answer at once completes nothing, without a word: who types must not wait, and an error would stand in
the middle of their line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any, Final
from urllib.parse import quote

import click

from proxy.cli import show
from proxy.cli.client import ApiError, Gateway, NotThere
from proxy.cli.find import NoGateway, SeveralGateways, Where, find, token_of
from proxy.cli.group import examples, fail

TIMEOUT: Final = 1.0
"""Seconds for the gateway to answer."""
MOST: Final = 50
"""Names of a list that are offered."""
LONGEST: Final = 60
"""Characters of what is said about a name."""
SHELLS: Final = ("bash", "zsh", "fish")
INSTALL: Final = {
    "bash": 'eval "$(triage completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(triage completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "triage completion fish | source   # in ~/.config/fish/config.fish",
}

Completer = Callable[[click.Context, click.Parameter, str], list[Any]]


@click.command(epilog=examples(*INSTALL.values()))
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a SHELL complete verbs, options, apps, instances, ids.

    Names come from the running gateway; where none answers within a second, nothing is offered.
    """
    from click.shell_completion import get_completion_class

    found = get_completion_class(shell)
    command = click.get_current_context().find_root().command
    if found is None:
        fail(f"{shell} can't be completed")
    click.echo(found(command, {}, "triage", "_TRIAGE_COMPLETE").source())


def completer(names: Callable[..., Iterator[tuple[str, str]]], *, by_text: bool = False) -> Completer:
    """Of a function that gives names, each with a few words. `by_text`: it is told what was typed."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        try:
            with closing(find(where(ctx.params))) as gateway:
                known = names(gateway, incomplete) if by_text else names(gateway)
                found = [one for one in known if one[0].startswith(incomplete) and typable(one[0])]
        except (NoGateway, SeveralGateways, NotThere, ApiError, ValueError, KeyError, TypeError):
            return []
        return [CompletionItem(name, help=show.word(about)[:LONGEST]) for name, about in found]

    return complete


def typable(name: str) -> bool:
    """Whether it can stand in a line as it is: one line, nothing in it that acts on a terminal."""
    return name.isprintable() and not set(name) & set(" \t\"'`$\\;&|<>()*?[]{}!#~")


def where(given: dict[str, Any]) -> Where:
    """What was typed so far says it, or the environment."""
    file = given.get("token_file") or ""
    token = token_of(file, "--token-file") if file else given.get("token") or ""
    return Where(
        given.get("url") or "", token, given.get("config") or "", given.get("ca") or "", TIMEOUT
    )


def _apps(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("apps")["items"]:
        yield one["id"], one["state"]


def _instances(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("apps")["items"]:
        for each in one["instances"]:
            yield f"{one['id']}/{each['id']}", each["lifecycle"]


def _either(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("apps")["items"]:
        yield one["id"], one["state"]
        for each in one["instances"]:
            yield f"{one['id']}/{each['id']}", each["lifecycle"]


def _sessions(gateway: Gateway) -> Iterator[tuple[str, str]]:
    yield "latest", "the newest"
    for one in gateway.get("sessions", limit=MOST)["items"]:
        yield one["id"], f"{one['app']}: {one['state']}"


def _incidents(gateway: Gateway) -> Iterator[tuple[str, str]]:
    yield "latest", "the newest open one, else the newest"
    for one in gateway.get("incidents", limit=MOST)["items"]:
        yield one["id"], one["cause"]


def _operations(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("operations", limit=MOST)["items"]:
        yield one["id"], f"{one['act']} of {one['target']}"


def _requests(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("requests", limit=MOST)["items"]:
        yield one["id"], f"{one['method']} {one['target']} {one['status'] or 'cut'}"


def _asked_why(gateway: Gateway) -> Iterator[tuple[str, str]]:
    yield from _apps(gateway)
    yield from (one for one in _incidents(gateway) if one[0] != "latest")
    yield from _requests(gateway)


def _exceptions(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("exceptions", limit=MOST)["items"]:
        yield one["id"], f"{one['app']}: {one['type']}"


def _metrics(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("metrics")["items"]:
        yield one["id"], one["meaning"]


def _tokens(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("tokens")["items"]:
        if one["id"] != one["name"]:  # admin.token is a file, and can't be revoked
            yield one["name"], one["role"]


def _consoles(gateway: Gateway) -> Iterator[tuple[str, str]]:
    for one in gateway.get("consoles")["items"]:
        yield one["id"], f"of {one['by']}"


def _remote(gateway: Gateway, typed: str) -> Iterator[tuple[str, str]]:
    """What is in the folder that was typed so far."""
    folder = typed.rpartition("/")[0]
    path = "/".join(quote(part, safe="") for part in folder.split("/"))
    for one in gateway.get(f"vfs/{path}/" if folder else "vfs/")["items"][:MOST]:
        name = f"{folder}/{one['name']}" if folder else one["name"]
        yield f"{name}/" if one["kind"] == "folder" or not folder else name, one["kind"]


app_names: Final = completer(_apps)
instance_names: Final = completer(_instances)
app_or_instance_names: Final = completer(_either)
session_ids: Final = completer(_sessions)
incident_ids: Final = completer(_incidents)
operation_ids: Final = completer(_operations)
request_ids: Final = completer(_requests)
why_names: Final = completer(_asked_why)
exception_ids: Final = completer(_exceptions)
metric_names: Final = completer(_metrics)
token_names: Final = completer(_tokens)
console_ids: Final = completer(_consoles)
remote_paths: Final = completer(_remote, by_text=True)
