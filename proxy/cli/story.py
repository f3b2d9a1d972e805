"""How `triage requests --story` prints: what happened when, each attempt, and both heads."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli import show


def print_story(one: dict[str, Any]) -> None:
    """As the admin API has it; what is secret is masked already."""
    own = one.get("answered_by") == "triage"
    show.headline(f"{one['id']}   kept by {one['rule']}{'   answered by Triage itself' if own else ''}", "")
    for phase in one.get("phases") or ():
        click.echo(show.clean(f"{phase['at_ms']:>12,.3f} ms  {phase['phase']:<18} {phase['note']}".rstrip()))
    for number, attempt in enumerate(one.get("attempts") or (), 1):
        click.echo(show.clean(f"\ntry {number}  {_attempt(attempt)}"))
    for name in ("request", "response"):
        head = one.get(name)
        if head:
            click.echo(show.clean(f"\n{head['line']}"))
            for field, value in head["fields"]:
                click.echo(show.clean(f"{field}: {value}"))
    if one.get("cut"):
        click.echo("\nIt was larger: the rest of it is not kept.")


def _attempt(one: dict[str, Any]) -> str:
    came = one.get("fault") or one.get("status") or "no answer"
    parts = [one["instance"], str(came)]
    if one.get("detail"):
        parts[-1] += f": {one['detail']}"
    parts.append("reused connection" if one.get("reused") else f"new connection in {show.ms(one.get('connect_ms'))}")
    if one.get("wait_ms") is not None:
        parts.append(f"waited {show.ms(one['wait_ms'])}")
    parts.append(f"{one.get('sent') or 0:,} bytes sent")
    return ", ".join(parts)
