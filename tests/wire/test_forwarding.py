"""Forwarding fields: what is believed, what is made, and that it is always well-formed."""

from __future__ import annotations

import ipaddress
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.wire.forwarding import MAX_PASSES, UNIX_PEER, Forwarding, is_forwarding, peer_text, via_loops

ID = "0123abcd"
US = b"triage-" + ID.encode()
FORWARDING = Forwarding(["10.0.0.0/8", "2001:db8::/32", UNIX_PEER], ID)


def fields(lines: bytes) -> dict[str, str]:
    assert lines.endswith(b"\r\n")
    return dict(line.split(": ", 1) for line in lines.decode("ascii").split("\r\n")[:-1])


def made(peer: str, inbound: dict[bytes, bytes] | None = None, **changed: object) -> dict[str, str]:
    arguments: dict[str, object] = {"tls": False, "local_port": 8080, "host": b"example.com", **changed}
    found = fields(FORWARDING.lines(peer, inbound=inbound, **arguments))  # type: ignore[arg-type]
    assert found.pop("Via") == f"1.1 triage-{ID}"
    return found


def test_an_untrusted_peer_is_the_client_whatever_it_says() -> None:
    expected = {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
        "X-Forwarded-Host": "example.com",
        "X-Forwarded-Port": "8080",
        "Forwarded": "for=192.0.2.1;host=example.com;proto=http",
    }
    lies = {
        b"x-forwarded-for": b"1.1.1.1",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"evil",
        b"x-forwarded-port": b"1",
        b"forwarded": b"for=1.1.1.1",
    }
    assert made("192.0.2.1") == made("192.0.2.1", lies) == expected
    assert FORWARDING.client("192.0.2.1", lies) == "192.0.2.1"


def test_ipv6_and_ports_are_quoted() -> None:
    found = made("2001:dead::1", host=b"[::1]:8443", tls=True, local_port=8443)
    assert found["Forwarded"] == 'for="[2001:dead::1]";host="[::1]:8443";proto=https'
    assert found["X-Forwarded-For"] == "2001:dead::1"
    assert found["X-Forwarded-Host"] == "[::1]:8443"


def test_no_host_no_port_and_an_older_version() -> None:
    lines = FORWARDING.lines("192.0.2.1", False, 0, b"", version=b"1.0")
    assert fields(lines) == {
        "X-Forwarded-For": "192.0.2.1",
        "X-Forwarded-Proto": "http",
        "Forwarded": "for=192.0.2.1;proto=http",
        "Via": f"1.0 triage-{ID}",
    }


def test_a_trusted_chain_is_kept_and_the_peer_appended() -> None:
    inbound = {
        b"x-forwarded-for": b"203.0.113.9, 10.1.1.1",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"shop.example",
    }
    assert made("10.0.0.2", inbound) == {
        "X-Forwarded-For": "203.0.113.9, 10.1.1.1, 10.0.0.2",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "shop.example",
        "X-Forwarded-Port": "443",
        "Forwarded": "for=203.0.113.9, for=10.1.1.1, for=10.0.0.2;host=shop.example;proto=https",
    }


def test_forwarded_alone_feeds_both_and_keeps_its_parameters() -> None:
    inbound = {b"forwarded": b'For="[2001:dead::5]:4711";by=_lb;secret="a\\"b,c", for=10.1.1.1'}
    found = made("10.0.0.2", inbound)
    assert found["X-Forwarded-For"] == "2001:dead::5, 10.1.1.1, 10.0.0.2"
    assert found["Forwarded"].startswith(str(inbound[b"forwarded"], "ascii") + ", for=10.0.0.2;host=")
    assert FORWARDING.client("10.0.0.2", inbound) == "2001:dead::5"


def test_two_chains_that_differ_become_one() -> None:
    inbound = {b"x-forwarded-for": b"203.0.113.9", b"forwarded": b"for=6.6.6.6"}
    assert made("10.0.0.2", inbound)["Forwarded"].startswith("for=203.0.113.9, for=10.0.0.2;")
    inbound[b"forwarded"] = b"for=203.0.113.9;by=_x"
    assert made("10.0.0.2", inbound)["Forwarded"].startswith("for=203.0.113.9;by=_x, for=10.0.0.2;")


def test_a_malformed_x_forwarded_for_does_not_hand_over_to_forwarded() -> None:
    inbound = {b"x-forwarded-for": b"nonsense!", b"forwarded": b"for=6.6.6.6"}
    assert made("10.0.0.2", inbound)["X-Forwarded-For"] == "10.0.0.2"
    assert FORWARDING.client("10.0.0.2", inbound) == "10.0.0.2"


@pytest.mark.parametrize(
    ("chain", "client"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"1.1.1.1, 203.0.113.9", "203.0.113.9"),
        (b"1.1.1.1, 203.0.113.9, 10.9.9.9", "203.0.113.9"),
        (b"10.1.1.1, 10.2.2.2", "10.1.1.1"),
        (b"203.0.113.9:4711", "203.0.113.9"),
        (b"[2001:dead::1]:80 ,10.1.1.1", "2001:dead::1"),
        (b"::ffff:203.0.113.9", "203.0.113.9"),
        (b"1.1.1.1, unknown, 10.1.1.1", "10.1.1.1"),
        (b"1.1.1.1, <script>, 10.1.1.1", "10.1.1.1"),
        (b"unknown", "10.0.0.2"),
        (b"_hidden", "10.0.0.2"),
        (b"203.0.113.9,", "10.0.0.2"),
        (b"", "10.0.0.2"),
        (b"1.2.3.4, " * 1000 + b"203.0.113.9", "10.0.0.2"),  # over the limit: not believed
    ],
)
def test_the_client_is_the_rightmost_that_is_not_trusted(chain: bytes, client: str) -> None:
    assert FORWARDING.client("10.0.0.2", {b"x-forwarded-for": chain}) == client


@pytest.mark.parametrize(
    ("inbound", "expected"),
    [
        ({b"x-forwarded-proto": b"HTTPS"}, ("https", "example.com", "443")),
        ({b"x-forwarded-proto": b"http, https"}, ("https", "example.com", "443")),
        ({b"x-forwarded-proto": b"gopher"}, ("http", "example.com", "8080")),
        ({b"x-forwarded-proto": b"https", b"x-forwarded-port": b"8443"}, ("https", "example.com", "8443")),
        ({b"x-forwarded-proto": b"https", b"x-forwarded-host": b"a:444"}, ("https", "a:444", "444")),
        ({b"x-forwarded-host": b"a.example, b.example"}, ("http", "b.example", "8080")),
        ({b"x-forwarded-host": b'a";proto=x'}, ("http", "example.com", "8080")),
        ({b"x-forwarded-port": b"0"}, ("http", "example.com", "8080")),
        ({b"x-forwarded-port": b"65536"}, ("http", "example.com", "8080")),
    ],
)
def test_what_a_trusted_proxy_says_is_kept_if_valid(
    inbound: dict[bytes, bytes], expected: tuple[str, str, str]
) -> None:
    found = made("10.0.0.2", inbound)
    assert (found["X-Forwarded-Proto"], found["X-Forwarded-Host"], found["X-Forwarded-Port"]) == expected


def test_who_is_trusted() -> None:
    trusted = ["10.0.0.1", "::ffff:10.0.0.1", "2001:db8:5::1", UNIX_PEER]
    untrusted = ["11.0.0.1", "::1", "fe80::1%eth0", "", "nonsense", "10.0.0.1 "]
    for _ in range(2):  # the second time from the cache
        assert [text for text in trusted + untrusted if FORWARDING.is_trusted(text)] == trusted
    assert not Forwarding([], ID).is_trusted(UNIX_PEER)
    for number in range(10_000):
        FORWARDING.is_trusted(str(ipaddress.IPv4Address(number)))
    assert len(FORWARDING._cache) <= 4096


def test_the_peer_of_a_unix_socket_is_unknown() -> None:
    assert made(UNIX_PEER)["X-Forwarded-For"] == "unknown"
    inbound = {b"x-forwarded-for": b"203.0.113.9"}
    assert made(UNIX_PEER, inbound)["Forwarded"].startswith("for=203.0.113.9, for=unknown;")
    assert FORWARDING.client(UNIX_PEER, inbound) == "203.0.113.9"


def test_peer_text() -> None:
    peers = {
        "192.0.2.1": "192.0.2.1",
        "::ffff:192.0.2.1": "192.0.2.1",
        "fe80::1%eth0": "fe80::1",
        "::1": "::1",
    }
    assert {peer: peer_text(peer) for peer in peers} == peers


def test_names_that_claim_who_asks() -> None:
    for name in (
        b"x-forwarded-for",
        b"x-forwarded-prefix",
        b"x_forwarded_for",
        b"forwarded",
        b"x-real-ip",
        b"x-real_ip",
    ):
        assert is_forwarding(name)
    for name in (b"x-forward", b"via", b"host", b"x-request-id", b"forwarded-x"):
        assert not is_forwarding(name)


_VALUE = st.one_of(
    st.binary(max_size=60),
    st.lists(
        st.sampled_from(
            [b"for", b"=", b";", b",", b" ", b'"', b"\\", b"[", b"]", b":", b"1.2.3.4", b"::1", b"_x",
            b"unknown", b"proto=",
             b"https", b"\r\n", b"\x00", b"host=", b"\xff"]
        ), max_size=14,
    ).map(b"".join),
)  # fmt: skip
_NODE = r'(?:[0-9.]+|"\[[0-9a-f:.]+\]"|unknown|_[\w.-]+)'


@given(
    st.dictionaries(
        st.sampled_from(
            [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-port", b"forwarded"]
        ),
        _VALUE,
    )
)
def test_whatever_comes_in_what_goes_out_is_well_formed(inbound: dict[bytes, bytes]) -> None:
    lines = FORWARDING.lines("10.0.0.2", True, 443, b"example.com", inbound)
    found = fields(lines)
    assert list(found) == [
        "X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port", "Forwarded", "Via",
    ]  # fmt: skip
    assert re.fullmatch(rb"(?:[A-Za-z-]+: [\x20-\x7e\t]*\r\n){6}", lines)
    assert found["X-Forwarded-For"].endswith("10.0.0.2")
    assert found["X-Forwarded-Proto"] in ("http", "https", "ws", "wss")
    assert 0 < int(found["X-Forwarded-Port"]) < 65536
    # Both name the same chain, and a second gateway that trusts us reads back what we wrote.
    again = Forwarding(["10.0.0.0/8"], ID)
    alone = again._chain({b"forwarded": found["Forwarded"].encode()})
    assert alone == again._chain({b"x-forwarded-for": found["X-Forwarded-For"].encode()})


def test_a_loop_is_our_own_name_several_times() -> None:
    once = b"1.1 " + US
    assert not via_loops(b"", US)
    assert not via_loops(once, US)
    assert not via_loops(b", ".join([once] * (MAX_PASSES - 1)), US)
    assert via_loops(b", ".join([once] * MAX_PASSES), US)
    assert via_loops(b"1.0 fred (x, y), HTTP/1.1 " + US + b" (c),1.1 a," + once + b"," + once, US)
    assert not via_loops(b"1.1 a (" + US * 5 + b")", US)
    assert not via_loops(b", ".join([once + b"0"] * 5), US)
    assert not via_loops(b", ".join([b"1.1 triage-ffffffff"] * 5), US)


def test_the_id_is_checked() -> None:
    for bad in ("", "0123ABCD", "0123abcd\r\n", "0123abcde"):
        with pytest.raises(ValueError, match="gateway_id"):
            Forwarding([], bad)
    with pytest.raises(ValueError, match="33"):
        Forwarding(["10.0.0.0/33"], ID)
