"""A folder with a config in it, and what the config names."""

from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from proxy.config import Config, ConfigProblems, parse

PROCESS = '[apps.web.process]\ncommand = "app --port {port}"\nuser = "root"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a certificate and its key, their authority, and a folder of error pages."""
    authority = trustme.CA()
    pair = authority.issue_cert("localhost")
    pair.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    pair.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    authority.issue_cert("localhost").private_key_pem.write_to_path(str(tmp_path / "other.pem"))
    (tmp_path / "errors").mkdir()
    return tmp_path


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Config]:
    """Parse text as a file of `tmp_path`, with a good process table in front of it, and no environment."""

    def read(text: str, process: str = PROCESS, environ: dict[str, str] | None = None) -> Config:
        return parse(process + text, tmp_path / "config.toml", environ or {})

    return read


@pytest.fixture
def problems(tmp_path: Path) -> Callable[..., list[str]]:
    """All problems of a text, as they are printed, without the folder in front."""

    def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
        try:
            parse(text, tmp_path / "config.toml", environ or {})
        except ConfigProblems as found:
            return [str(problem).replace(f"{tmp_path}/", "") for problem in found.problems]
        return []

    return problems
