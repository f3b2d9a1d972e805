"""schemathesis against a real gateway and its own OpenAPI document: `python -m tests.api.fuzz [--deep] [ARGS…]`.

What it may find: an answer of 500 and above, a status, a content type or a shape that the document has not, bad input
that is taken. (Tokens and roles have a test of their own, which walks the table.) All acts are called but `upgrade`,
which makes control and launcher anew under the run's feet (tests/e2e has its tests), and the Console's `command`, as
what is made up there would run. `/readyz` is left out, as its 503 is an answer, and so are streams, which have no end.
The deep run has the Console on, over a folder of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.api.gateway import CONFIG, ROOT, Gateway, started

CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,allow_header_conformance"
)
SHALLOW = (2, "fuzzing")
DEEP = (50, "examples,coverage,fuzzing,stateful")
LEFT_OUT = (
    "/readyz", "/api/v1/upgrade", "/api/v1/metrics/stream", "/logout", "/login", "/api/v1/console", "/api/v1/command",
)  # fmt: skip
SEED = 6


def there() -> bool:
    """Whether schemathesis is installed."""
    return shutil.which("schemathesis", path=str(Path(sys.executable).parent)) is not None


def run(gateway: Gateway, examples: int, phases: str, more: Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and what it said. `examples`: of each operation."""
    with tempfile.TemporaryDirectory(prefix="triage-fuzz-") as folder:
        run = subprocess.run(
            [
                str(Path(sys.executable).parent / "schemathesis"), "run",
                f"{gateway.admin}/api/v1/openapi.json", "-u", gateway.admin,
                "-H", f"Authorization: Bearer {gateway.token}", "--checks", CHECKS, "--phases", phases,
                "--max-examples", str(examples), "--seed", str(SEED),
                "--request-timeout", "20", "--continue-on-failure", "--warnings", "off", "--no-color",
                "--suppress-health-check", "all", "--generation-database", "none",
                *[part for path in LEFT_OUT for part in ("--exclude-path", path)], *more,
            ],
            cwd=folder, capture_output=True, text=True, timeout=3600,
            env={"PATH": "/usr/bin:/bin", "SCHEMATHESIS_HOOKS": "tests.api.hooks", "PYTHONPATH": str(ROOT),
                 "HOME": folder, "COLUMNS": "120"},
        )  # fmt: skip
    return run.returncode, run.stdout + run.stderr


def main(args: list[str]) -> int:
    deep = "--deep" in args
    more = [arg for arg in args if arg != "--deep"]
    with tempfile.TemporaryDirectory(prefix="triage-files-") as files:
        config = CONFIG.replace("[admin]\n", f'[admin]\nconsole = true\nroots = {{ web = "{files}" }}\n')
        return _fuzzed(config if deep else CONFIG, deep, more)


def _fuzzed(config: str, deep: bool, more: list[str]) -> int:
    with started(config) as gateway:
        code, said = run(gateway, *(DEEP if deep else SHALLOW), more)
        print(said)
        print(gateway.said() if code else "")
        wrong = errors(gateway)
        print("\n".join(wrong[:20]))
    return code or bool(wrong)


def errors(gateway: Gateway) -> list[str]:
    """Lines of Triage's own log that tell of a defect, each kind once."""
    found = {}
    for line in (gateway.folder / "log").read_text(errors="replace").splitlines():
        if '"level":"error"' in line and ('"event":"admin"' in line or '"event":"defect"' in line):
            found.setdefault(re.sub(r"[0-9]+", "", line)[:200], line)
    return list(found.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
