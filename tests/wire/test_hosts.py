"""Authorities, request targets, routing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.hosts import (
    Authority,
    HostError,
    HostTable,
    TargetError,
    parse_authority,
    parse_target,
    strip_prefix,
)


@pytest.mark.parametrize(
    ("raw", "host", "port"),
    [
        (b"example.com", b"example.com", None),
        (b"EXAMPLE.com:80", b"example.com", 80),
        (b"example.com.", b"example.com", None),
        (b"example.com.:8080", b"example.com", 8080),
        (b"example.com:", b"example.com", None),
        (b"localhost", b"localhost", None),
        (b"my_service-1", b"my_service-1", None),
        (b"10.0.0.1:65535", b"10.0.0.1", 65535),
        (b"[::1]", b"[::1]", None),
        (b"[2001:DB8:0:0::1]:443", b"[2001:db8::1]", 443),
        (b"xn--bcher-kva.example", b"xn--bcher-kva.example", None),
        (b"a" * 255, b"a" * 255, None),
    ],
)
def test_valid_authorities(raw: bytes, host: bytes, port: int | None) -> None:
    assert parse_authority(raw) == Authority(host, port)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b".", b"..", b".a", b"a..b", b"a b", b" a", b"a ", b"a\t", b"a,b", b"a;b", b"a/b", b"a@b",
        b"a:b@c", b"a:80:80",
        b"a:-1", b"a:+1", b"a:65536", b"a:1 ", b"a:8x", b":80", b"\xc3\xa9.com", b"a\x00", b"a\r\n",
        b"a%20b", b"a?b", b"a#b",
        b"a\\b", b"::1", b"[::1", b"[]", b"[::1]x", b"[::1%eth0]", b"[v1.a]", b"[1.2.3.4]", b"[:::1]",
        b'"a"', b"<a>",
        b"a" * 256,
    ],
)  # fmt: skip
def test_invalid_authorities(raw: bytes) -> None:
    with pytest.raises(HostError):
        parse_authority(raw)
    if b"/" not in raw and b"?" not in raw:
        with pytest.raises(TargetError):
            parse_target(b"GET", b"http://" + raw + b"/")


@pytest.mark.parametrize(
    ("method", "target", "expected"),
    [
        (b"GET", b"/", (b"/", None)),
        (b"GET", b'/a/../b?c=d&e=%2e|{}^"[]', (b'/a/../b?c=d&e=%2e|{}^"[]', None)),
        (b"GET", b"//evil.example/x", (b"//evil.example/x", None)),
        (b"OPTIONS", b"*", (b"*", None)),
        (b"GET", b"http://a.example/b?c", (b"/b?c", b"a.example")),
        (b"GET", b"HTTPS://A.example:444", (b"/", b"A.example:444")),
        (b"GET", b"http://a.example?b=/c", (b"/?b=/c", b"a.example")),
        (b"OPTIONS", b"http://a.example", (b"*", b"a.example")),
        (b"OPTIONS", b"http://a.example/", (b"/", b"a.example")),
        (b"GET", b"http://[::1]:80/x", (b"/x", b"[::1]:80")),
    ],
)
def test_valid_targets(method: bytes, target: bytes, expected: tuple[bytes, bytes | None]) -> None:
    assert parse_target(method, target) == expected


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        (b"GET", b"", 400), (b"GET", b"*", 400), (b"OPTIONS", b"**", 400), (b"GET", b"a", 400), (b"GET",
        b"a.example:80", 400),
        (b"GET", b"/a#b", 400), (b"GET", b"/a b", 400), (b"GET", b"/a\tb", 400), (b"GET", b"/\x00", 400),
        (b"GET", b"/\x7f", 400),
        (b"GET", b"/\xc3\xa9", 400), (b"GET", b"ftp://a/", 400), (b"GET", b"http:/a", 400), (b"GET",
        b"http:///a", 400),
        (b"GET", b"http://u:p@a/", 400), (b"GET", b"http://@a/", 400), (b"GET", b"http://a,b/", 400),
        (b"GET", b"?a", 400),
        (b"CONNECT", b"a.example:443", 501), (b"CONNECT", b"/", 501),
    ],
)  # fmt: skip
def test_invalid_targets(method: bytes, target: bytes, status: int) -> None:
    with pytest.raises(TargetError) as caught:
        parse_target(method, target)
    assert caught.value.status == status


@given(st.binary(max_size=60))
def test_a_target_that_passes_is_safe_to_forward(raw: bytes) -> None:
    try:
        target, authority = parse_target(b"GET", raw)
    except TargetError:
        return
    assert target[:1] == b"/"
    assert all(0x21 <= byte <= 0x7E and byte != 0x23 for byte in target)
    assert authority is None or parse_authority(authority)


def app(table: HostTable, host: bytes, target: bytes) -> str | None:
    found = table.match(host, target)
    return found.app if found else None


def test_one_app_without_hosts_takes_everything() -> None:
    table = HostTable([("web", [], ["/"])])
    assert table.match(b"any.example", b"/x") is table.match(b"", b"*") is not None
    assert repr(table) == "<HostTable every host>"


def test_exact_then_longest_wildcard_then_every_host() -> None:
    table = HostTable(
        [
            ("exact", ["a.example.com", "Example.COM."], ["/"]),
            ("wild", ["*.example.com"], ["/"]),
            ("deep", ["*.b.example.com"], ["/"]),
            ("rest", [], ["/"]),
        ]
    )
    hosts = {
        b"a.example.com": "exact",
        b"example.com": "exact",
        b"x.example.com": "wild",
        b"x.y.example.com": "wild",
        b"b.example.com": "wild",
        b"x.b.example.com": "deep",
        b"notexample.com": "rest",
        b"[::1]": "rest",
        b"": "rest",
    }
    assert {host: app(table, host, b"/") for host in hosts} == hosts


def test_longest_prefix_on_segment_boundaries() -> None:
    table = HostTable([("web", [], ["/"]), ("api", [], ["/api/"]), ("v2", [], ["/api/v2"])])
    targets = {
        b"/": "web",
        b"/apix": "web",
        b"/api": "api",
        b"/api?x=/api/v2": "api",
        b"/api/": "api",
        b"/api/v1": "api",
        b"/api/v2": "v2",
        b"/api/v2/x": "v2",
        b"/api/v22": "api",
        b"*": "web",
        # Raw bytes decide: see the module's docstring.
        b"/api/../admin": "api",
        b"/%61pi": "web",
        b"/API": "web",
        b"//api": "web",
    }
    assert {target: app(table, b"h", target) for target in targets} == targets


def test_a_path_not_found_falls_through_to_less_exact_hosts() -> None:
    table = HostTable([("api", ["example.com"], ["/api"]), ("wild", ["*.com"], ["/w"]), ("rest", [], ["/r"])])
    assert app(table, b"example.com", b"/api/x") == "api"
    assert app(table, b"example.com", b"/w") == "wild"
    assert app(table, b"example.com", b"/r") == "rest"
    assert app(table, b"example.com", b"/") is None
    assert app(table, b"other.org", b"/api") is None


def test_two_apps_in_one_place_are_refused() -> None:
    with pytest.raises(ValueError, match=r"one and two both have host a\.example, path /x/"):
        HostTable([("one", ["a.example"], ["/x"]), ("two", ["A.example"], ["/x/"])])
    HostTable([("one", ["a.example"], ["/x", "/x/"])])


@given(
    st.lists(
        st.sampled_from(["a.com", "*.a.com", "*.com", "b.a.com", "*.b.a.com", ""]), min_size=1, unique=True
    ),
    st.sampled_from(["a.com", "b.a.com", "c.b.a.com", "x.com", "com", "x.org"]),
)
def test_the_most_exact_rule_wins(rules: list[str], host: str) -> None:
    table = HostTable([(f"app {rule}", [rule] if rule else [], ["/"]) for rule in rules])

    def fits(rule: str) -> bool:
        return not rule or (host.endswith(rule[1:]) if rule[0] == "*" else host == rule)

    fitting = sorted(filter(fits, rules), key=lambda rule: (rule[:1] not in ("*", ""), len(rule)))
    assert app(table, host.encode(), b"/") == (f"app {fitting[-1]}" if fitting else None)


@pytest.mark.parametrize(
    ("target", "prefix", "expected"),
    [
        (b"/api/x?y", b"/api", b"/x?y"), (b"/api", b"/api", b"/"), (b"/api?y", b"/api", b"/?y"),
        (b"/api//e.example", b"/api", b"/e.example"),
        (b"/x", b"", b"/x"), (b"//x", b"", b"//x"), (b"*", b"", b"*"),
    ],
)  # fmt: skip
def test_strip_prefix(target: bytes, prefix: bytes, expected: bytes) -> None:
    assert strip_prefix(target, prefix) == expected
