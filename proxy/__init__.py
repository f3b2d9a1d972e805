"""Triage: a reverse-proxy gateway that keeps web apps answering, and says why when they don't.

faults, units, masking, py_spy   what all use         config/      text to a frozen Config, or all problems
wire/           HTTP heads, framing, forwarding       link/        what the processes say to each other
launcher/       holds sockets and children            control/     decides: lifecycle, health, routing
dataplane/      the worker: bytes in, bytes out       admin/, cli/ asked by people, over HTTP
main            composition root: puts them together  (a folder per process: docs/architecture.md is the map)
"""

__version__ = "0.1.0"
