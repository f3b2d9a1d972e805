"""What Triage refuses to do, said so that the one who asked knows what would be right."""

from __future__ import annotations


class NotPossible(Exception):
    """The act cannot be done now. `kind` is a slug for the API's problem type, `hint` says what would be right."""

    def __init__(self, kind: str, text: str, hint: str = "") -> None:
        super().__init__(text)
        self.kind = kind
        self.hint = hint
