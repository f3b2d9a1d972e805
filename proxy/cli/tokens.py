"""`triage token` and `triage whoami`: who may ask this gateway for what."""

from __future__ import annotations

import os
from typing import Any, Final

import click

from proxy.cli import show
from proxy.cli.acts import lasting
from proxy.cli.client import segment
from proxy.cli.completing import token_names
from proxy.cli.find import Where
from proxy.cli.group import calls, examples, fail, gateway_options, print_json, reach
from proxy.cli.show import Column
from proxy.cli.watching import watchable

ROLES: Final = ("viewer", "operator", "admin")
COLUMNS: Final = (
    Column("id"),
    Column("name"),
    Column("role"),
    Column("made"),
    Column("by"),
    Column("expires"),
    Column("last used"),
    Column("from", flexible=True),
)


@click.command(epilog=examples("triage whoami", "TRIAGE_TOKEN_FILE=ci.token triage whoami --url https://ops.example.com"))
@gateway_options
def whoami(at: Where, as_json: bool) -> None:
    """As whom the gateway knows you, and what you may do.

    A viewer may look, an operator may act, an admin may also make tokens, and use the console where it is on.
    """
    answer = reach(at).get("whoami")
    if as_json:
        print_json(answer)
        return
    until = f", until {show.date(answer['expires'])}" if answer.get("expires") else ""
    click.echo(show.clean(f"{answer['name']}: {answer['role']}{until} ({answer['way']})"))
    click.echo(may(answer["role"], console=bool(answer.get("console"))))


def may(role: str, *, console: bool) -> str:
    """What a role is for, in a line."""
    if role == "viewer":
        return "You may look at everything; to act, an operator's token is needed."
    if role == "operator":
        return "You may look and act; tokens, files, commands and terminals need an admin's token."
    if console:
        return "You may do everything, files, commands and terminals included."
    return "You may do everything; the console (files, exec) is off: admin.console = true turns it on."


@click.group(short_help="Who may ask this gateway for what: make, list, revoke tokens.")
def token() -> None:
    """Tokens with a role, for whoever asks over TCP: people, CI, other machines.

    Over the Unix socket the owner of data_dir, root and the group `triage` are admins without one.
    """


@token.command("make", epilog=examples(
    "triage token make ci --role viewer --for 90d --output ci.token",
    'triage token make anna --role operator --note "on call in May"',
))  # fmt: skip
@click.argument("name")
@click.option("--role", type=click.Choice(ROLES), required=True, help="May look; act; everything.")
@click.option("--for", "for_", metavar="DURATION", help='It expires after so long: "90d". Default: never.')
@click.option(
    "-o", "--output", metavar="FILE", type=click.Path(),
    help="Write it there, for its owner alone, instead of printing it.",
)  # fmt: skip
@click.option("--note", "--reason", "note", metavar="TEXT", help="Why, for the events.")
@gateway_options
@calls("POST /api/v1/tokens")
def make(
    name: str, role: str, for_: str | None, output: str | None, note: str | None, at: Where, as_json: bool
) -> None:
    """Make a token for NAME. It is shown this once; Triage keeps a hash of it only.

    Whoever gets it uses it by --token-file, TRIAGE_TOKEN_FILE or TRIAGE_TOKEN.
    """
    gateway = reach(at)
    file = None
    if output is not None:
        try:
            file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            fail(f"{output}: {(error.strerror or str(error)).lower()}. No token was made.", as_json=as_json)
    try:
        fields = {"name": name, "role": role, **lasting(for_), **({"reason": note} if note else {})}
        made = gateway.post("tokens", fields)
        if file is not None:
            with open(file, "w", encoding="utf-8") as opened:
                opened.write(f"{made['token']}\n")
    except BaseException:
        if output is not None:
            os.unlink(output)
        raise
    if as_json:
        print_json({**made, **({"token": None, "file": output} if output else {})})
        return
    until = f", until {show.date(made['expires'])}" if made.get("expires") else ""
    click.echo(show.clean(f"{made['name']} ({made['id']}): {made['role']}{until}"), err=True)
    if output is None:
        click.echo("Keep it now: it can't be shown again. To take it back: triage token revoke " + made["id"], err=True)
        click.echo(show.word(made["token"]))
    else:
        click.echo(show.clean(f"It stands in {output}. To take it back: triage token revoke {made['id']}"), err=True)


@token.command("list", epilog=examples("triage token list"))
@gateway_options
@watchable()
def list_(at: Where, as_json: bool) -> None:
    """All tokens, never their text.

    Their roles, who made them, when and from where each was used last.
    """
    answer = reach(at).get("tokens")
    if as_json:
        print_json(answer)
    elif answer["items"]:
        show.table(COLUMNS, [row(one) for one in answer["items"]])
    else:
        click.echo("There is none but admin.token in the data folder. `triage token make NAME --role ROLE` makes one.")


def row(one: dict[str, Any]) -> list[str]:
    expires = show.date(one["expires"]) if one.get("expires") else "never"
    return [
        one["id"],
        one["name"],
        one["role"],
        show.clock(one["made"], with_offset=False) if one.get("made") else "",
        one.get("by") or "",
        f"expired {expires}" if one.get("expired") else expires,
        show.clock(one["last_used"], with_offset=False) if one.get("last_used") else "never",
        one.get("last_from") or "",
    ]


@token.command("revoke", epilog=examples("triage token revoke ci"))
@click.argument("id", metavar="TOKEN", shell_complete=token_names)
@gateway_options
@calls("DELETE /api/v1/tokens/{id}")
def revoke(id: str, at: Where, as_json: bool) -> None:
    """Refuse a TOKEN from now on, by its id or name.

    Its streams, terminals and logins end at once.
    """
    reach(at).call("DELETE", f"tokens/{segment(id)}", {})
    if as_json:
        print_json({"id": id, "revoked": True})
    else:
        click.echo(show.clean(f"{id} is revoked: it is refused from now on, and what it had open has ended."))
