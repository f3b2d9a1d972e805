"""`triage upgrade`: the running gateway becomes the code now on disk. Followed across control's own replacement."""

from __future__ import annotations

from typing import Any

import click

from proxy.cli.acts import act_options, perform
from proxy.cli.group import calls, examples, reach


@click.command(epilog=examples("triage upgrade --preview"))
@act_options
@calls("POST /api/v1/upgrade")
def upgrade(**given: Any) -> None:
    """Restart from the code now on disk; instances go on, no request is lost."""
    perform(reach(given["at"]), "upgrade", {}, given)
