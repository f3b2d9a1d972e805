"""Key paths to lines, in every way that TOML can write a key."""

import tomllib
from collections.abc import Iterator
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.config.lines import find_lines
from proxy.config.problems import Keys

ANY = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a slow machine is no failure

TEXT = '''# a comment with [brackets] and "quotes
[gateway]
listen = [
    "127.0.0.1:80",   # one
    "https://[::]:443",

    "unix:a",
]
limits = { head = "64KiB", "headers" = 100 }
timeouts.head = "5s"

  [apps . "my.app" . process]
command = """
first = "no key"
[nor.a.table]
"""
env = { A = "}", B = '#', C = { D = [1, { E = 2 }] } }

[[apps.web.autoheal]]
name = "a"
[[apps.web.autoheal]]
name = "b"
[apps.web.autoheal.when]
slow.above = "5s"
[keep]
last = \'\'\'
x\'\'\'
size = 1.5
when = 2020-01-01 10:00:00
'''


def test_where_keys_stand() -> None:
    lines = find_lines(TEXT)
    assert lines["gateway",] == 2
    assert lines["gateway", "listen"] == 3
    assert [lines["gateway", "listen", index] for index in range(3)] == [4, 5, 7]
    assert lines["gateway", "limits", "headers"] == 9
    assert lines["gateway", "timeouts", "head"] == 10
    assert lines["apps", "my.app"] == 12
    assert lines["apps", "my.app", "process", "command"] == 13
    assert lines["apps", "my.app", "process", "env", "C", "D", 1, "E"] == 17
    assert lines["apps", "web", "autoheal", 0, "name"] == 20
    assert lines["apps", "web", "autoheal", 1, "name"] == 22
    assert lines["apps", "web", "autoheal", 1, "when", "slow", "above"] == 24
    assert lines["keep", "size"] == 28
    assert lines["keep", "when"] == 29


def test_it_finds_every_key_and_nothing_else() -> None:
    assert set(find_lines(TEXT)) == set(paths(tomllib.loads(TEXT)))


def paths(value: Any, keys: Keys = ()) -> Iterator[Keys]:
    """Of a parsed text: every key, and every item of an array."""
    if keys:
        yield keys
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from paths(item, (*keys, key))


keys = st.sampled_from(["a", "b-1", '"c d"', "'e.f'", '"\\u00e9"', "1"])
scalars = st.sampled_from(
    ['"x"', "'#'", "1.5", "true", '"""\n]\n"""', "'''\n\n[a]'''", '"\\"}"', "1979-05-27", '""']
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: "[" + ",\n # ]\n".join(items) + "\n]"),
        st.dictionaries(keys, inner.filter(lambda text: "\n" not in text), max_size=2).map(
            lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"
        ),
    ),
    max_leaves=6,
)
headers = st.lists(keys, min_size=1, max_size=3).map(".".join)
statements = st.one_of(
    st.tuples(headers, values).map(lambda pair: f"{pair[0]} = {pair[1]}"),
    headers.map(lambda name: f"[{name}] # ]"),
    headers.map(lambda name: f"[[ {name} ]]"),
    st.just(""),
)


@ANY
@given(st.lists(statements, max_size=8).map("\n".join))
def test_any_valid_text(text: str) -> None:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return
    lines = find_lines(text)
    assert set(paths(raw)) == set(lines)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())
