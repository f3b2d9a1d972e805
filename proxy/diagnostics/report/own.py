"""Which frames are of the app's own code: by their files, as far as these tell. Only a colour rests on it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from typing import Final

_LIBRARY: Final = re.compile(
    r"(?:site|dist)-packages/|/lib/python\d|/lib64/python\d|node_modules/|^node:|^<frozen|^internal/|\.so(?:\.\d+)*$"
    r"|^/usr/(?:lib|share)/|^\[|^native|^kernel"
)
_FOLDERS: Final = re.compile(r"^.*/lib/python[\d.]+/(?:(?:site|dist)-packages/)?|^.*/node_modules/")


class Own:
    """`cwd`: the app's folder; `packages`: names of what it has installed."""

    def __init__(self, cwd: str = "", packages: Iterable[str] = ()) -> None:
        self.cwd = cwd.rstrip("/") + "/" if cwd else ""
        self.packages = {name.lower().replace("-", "_") for name in packages} | set(sys.stdlib_module_names)

    def short(self, file: str) -> str:
        """Without the folders that say nothing: those of the app, and of the library."""
        if self.cwd and file.startswith(self.cwd):
            return file[len(self.cwd) :]
        return _FOLDERS.sub("", file)

    def __call__(self, file: str) -> bool:
        if not file or _LIBRARY.search(file):
            return False
        if file.startswith("/"):
            return True
        first = re.split(r"[/.:]", file, maxsplit=1)[0].lower()
        return first not in self.packages
