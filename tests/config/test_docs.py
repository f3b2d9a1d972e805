"""docs/configuration.md is what the code says; every key has a meaning; the package stays light."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest

from proxy.config import Config, docs
from proxy.config.conditions import KINDS
from proxy.config.readers import READERS
from proxy.config.walk import Spec, spec_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_the_page_is_the_code() -> None:
    assert PAGE.read_text() == docs.markdown(), "run `make docs`"


def specs(cls: type[msgspec.Struct], path: str = "") -> Iterator[tuple[str, Spec]]:
    for field in msgspec.structs.fields(cls):
        spec = spec_of(field.type)
        yield f"{path}{field.encode_name}", spec
        for inner in [spec.type, *(spec_of(arg).type for arg in get_args(spec.type))]:
            if (
                isinstance(inner, type)
                and issubclass(inner, msgspec.Struct)
                and inner.__module__.endswith("schema")
            ):
                yield from specs(inner, f"{path}{field.encode_name}.")


@pytest.mark.parametrize(
    ("path", "spec"), list(specs(Config)), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_key_has_a_meaning_and_a_reader(path: str, spec: Spec) -> None:
    assert spec.description, f"{path} has no meaning"
    inner: list[Any] = [spec_of(arg) for arg in get_args(spec.type) if arg is not ...]
    assert {spec.kind, *(item.kind for item in inner)} <= {"", "named", "env", *KINDS, *READERS}


def test_importing_it_brings_no_servers() -> None:
    heavy = {"aiohttp", "uvloop", "psutil", "asyncio", "ssl"}
    code = f"import sys, proxy.config; print({heavy} & set(sys.modules))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PAGE.parents[1]
    )
    assert run.stdout == "set()\n"
