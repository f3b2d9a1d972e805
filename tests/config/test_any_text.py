"""Whatever the text: a Config or ConfigProblems, and nothing else is ever raised."""

import string
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config import Config, ConfigProblems, diff, parse, shown, warnings
from proxy.config.command import toml_text
from proxy.config.conditions import AMOUNTS, Condition
from proxy.config.walk import spec_of

ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine is no failure

WHOLE = Path(__file__).with_name("whole.toml").read_text()


def attempt(text: str) -> Config | None:
    try:
        config = parse(text, "config.toml", {})
    except ConfigProblems as found:
        told = found
    else:
        msgspec.json.encode(shown(config))
        warnings(config)
        assert not diff(config, config)
        return config
    lines = str(told).split("\n")
    assert told.problems
    assert len(lines) == len(told.problems) + 1, "a problem is one line"
    assert all(line.startswith("config.toml") for line in lines[:-1])
    return None


@ANY
@given(st.text())
def test_any_text(text: str) -> None:
    attempt(text)


@ANY
@given(
    st.text(alphabet=string.printable + "é\x00", max_size=12), st.integers(0, len(WHOLE)), st.integers(0, 12)
)
def test_the_whole_file_with_a_bite_taken_out(text: str, at: int, gone: int) -> None:
    attempt(WHOLE[:at] + text + WHOLE[at + gone :])


def keys(cls: type[msgspec.Struct]) -> Iterator[str]:
    for field in msgspec.structs.fields(cls):
        yield field.encode_name
        spec = spec_of(field.type)
        for inner in [spec.type, *(spec_of(arg).type for arg in get_args(spec.type))]:
            if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
                yield from keys(inner)


NAMES = st.sampled_from(sorted({*keys(Config), *keys(Condition), *AMOUNTS, "web"}))
TEXTS = st.one_of(
    st.sampled_from(
        [
            "5s", "20%", "64KiB", "/", "auto", "client", "unix:x", "http://a", "127.0.0.1:80",
            "https://:443", "*",
            "root", "200-299",
            "app {port}", "${X}", "${X:-y}", "TERM", "collect", "fd", "hash", "head-timeout",
        ]
    ),
    st.text(max_size=5),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        TEXTS.map(toml_text),
        st.sampled_from(["true", "false", "nan", "-inf", "1979-05-27", "07:32:00", "1.5"]),
        st.integers(-(2**70), 2**70).map(str),
        st.integers(0, 3).map(str),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]"),
        st.dictionaries(NAMES, inner, max_size=3).map(
            lambda table: "{ " + ", ".join(f"{name} = {value}" for name, value in table.items()) + " }"
        ),
    ),
    max_leaves=5,
)


def tables(cls: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    """(header, key) of every table that the schema has."""
    yield from sorted(_tables(cls, ""))


def _tables(cls: type[msgspec.Struct], path: str) -> Iterator[tuple[str, str]]:
    for field in msgspec.structs.fields(cls):
        yield path, field.encode_name
        spec = spec_of(field.type)
        inner: Any = spec.type
        here = f"{path}.{field.encode_name}".lstrip(".")
        if spec.kind == "named":
            inner, here = spec_of(get_args(inner)[1]).type, f"{here}.web"
        if (
            isinstance(inner, type)
            and issubclass(inner, msgspec.Struct)
            and inner.__module__.endswith("schema")
        ):
            yield from _tables(inner, here)


@ANY
@given(st.lists(st.tuples(st.sampled_from(list(tables(Config))), VALUES), max_size=5))
def test_any_value_at_any_key(pairs: list[tuple[tuple[str, str], str]]) -> None:
    attempt("\n".join(f"{path + '.' if path else ''}{key} = {value}" for (path, key), value in pairs))


WRONG = {
    "gateway.slow": "5", "gateway.limits.head": '"64K"', "gateway.timeouts.idle": "true",
    "admin.metrics": '"yes"',
    "apps.web.max_body": "1", "apps.web.balance": '"none"', "apps.web.health.path": '"x"', "keep.store": "-1",
    "apps.web.ejection.ratio": "0.5", "apps.web.queue.size": "1.5", "apps.web.unknown": "1",
    "gateway.workers": "0",
}  # fmt: skip


@pytest.mark.parametrize("spaced", [False, True])
@ANY
@given(wrong=st.lists(st.sampled_from(sorted(WRONG)), unique=True, max_size=len(WRONG)))
def test_all_problems_are_told_at_once(spaced: bool, wrong: list[str]) -> None:
    """Each by its path and its line."""
    lines = ['apps.web.addresses = ["http://a"]']
    for path in wrong:
        lines += ["", f"{path} = {WRONG[path]}"] if spaced else [f"{path} = {WRONG[path]}"]
    if not wrong:
        assert attempt("\n".join(lines)) is not None
        return
    with pytest.raises(ConfigProblems) as found:
        parse("\n".join(lines), "config.toml", {})
    expected = [(path, 2 * index + 3 if spaced else index + 2) for index, path in enumerate(wrong)]
    assert [(problem.path, problem.line) for problem in found.value.problems] == expected
