"""What the API's hints say, as one types it here: they name its paths, and who reads them is at a shell."""

from __future__ import annotations

import re
from typing import Final

_SAID: Final = tuple(
    (re.compile(there), here)
    for there, here in (
        (r"^Send \{.*", ""),  # the command writes the JSON
        (r"^Send it as: Authorization: Bearer TOKEN$", ""),
        (r"^GET /api/v1/openapi\.json lists all there is\.", "This gateway may be older than this command."),
        (r"GET /api/v1/tokens\b", "triage token list"),
        (r"GET /api/v1/exceptions\b", "triage exceptions"),
        (r"GET /api/v1/metrics\b", "triage metrics"),
        (r"GET /api/v1/vfs/(?= |$)", "triage files ls"),
        (r"GET /api/v1/consoles\b", "triage consoles"),
        (r"DELETE /api/v1/consoles/ID", "triage consoles --end ID"),
        (r"DELETE /api/v1/sessions/ID", "triage sessions ID --delete"),
        (r"\bPOST sessions/([\w-]+)/analyze", r"triage sessions \1 --analyze"),
        (r"\bGET apps/([^/\s]+)/instances/([^/\s]+)/processes", r"triage processes \1/\2"),
        (r"\bGET (threads|files|connections)\?pid=(\d+)", r"triage processes APP/INSTANCE --\1 \2"),
    )
)


def here(line: str) -> str:
    """A line of an answer; "" where it says nothing to who types."""
    for there, typed in _SAID:
        line = there.sub(typed, line)
    return line
