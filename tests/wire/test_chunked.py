"""The chunked coding: the triple, the limits, and two independent parsers as judges."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import h11
import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.wire.chunked import (
    LAST_CHUNK,
    MAX_EXTENSIONS,
    MAX_LINE,
    ChunkedDecoder,
    ChunkedError,
    encode_chunk,
    encode_last,
    encode_pieces,
)

NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\n\r\n"


def decode(reads: Iterable[bytes]) -> tuple[object, bytes]:
    decoder = ChunkedDecoder()
    content = b""
    for read in reads:
        content += b"".join(decoder.feed(read))
    if not decoder.done:
        return "more", b""
    return (content, decoder.trailers), decoder.rest


VALID: list[tuple[bytes, bytes, list[tuple[bytes, bytes]]]] = [
    (b"0\r\n\r\n", b"", []),
    (b"0000000000000000\r\n\r\n", b"", []),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", []),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", []),
    (b"A\r\n0123456789\r\na\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", b"0123456789" + b"\r\n" * 5, []),
    (b"05\r\nhello\r\n00\r\n\r\n", b"hello", []),
    (b"5;a\r\nhello\r\n0;z=1\r\n\r\n", b"hello", []),
    (b'5;a=b;c="d;\\"\r"\r\nhello\r\n0\r\n\r\n'.replace(b'\r"', b'"'), b"hello", []),
    (b"2\r\n0\r\r\n0\r\n\r\n", b"0\r", []),
    (b"0\r\nX-Sum: abc\r\n\r\n", b"", [(b"X-Sum", b"abc")]),
    (
        b"1\r\na\r\n0\r\nX-Sum:\t a b \t\r\nY:\r\nZ: \xff\r\n\r\n",
        b"a",
        [(b"X-Sum", b"a b"), (b"Y", b""), (b"Z", b"\xff")],
    ),
    (
        b"0\r\nCookie: a\r\nHost: evil\r\nX_Forwarded_For: 1.2.3.4\r\nAUTHORIZATION: b\r\nOk: 1\r\n\r\n",
        b"",
        [(b"Ok", b"1")],
    ),
]

INVALID = [
    b"\r\n", b"\n", b" 5\r\nhello\r\n", b"5 \r\nhello\r\n", b"5\t\r\nhello\r\n", b"+5\r\nhello\r\n",
    b"-5\r\nhello\r\n",
    b"0x5\r\nhello\r\n", b"1_0\r\n", b"g\r\n", b";a\r\n", b"5\nhello\r\n", b"5\rhello\r\n",
    b"5\r\r\nhello\r\n",
    b"5\x00\r\nhello\r\n", b"\xb5\r\nhello\r\n", b"00000000000000005\r\nhello\r\n", b"ffffffffffffffff\r\n",
    b"8000000000000000\r\n", b"10000000000000000\r\n",
    b"5;\r\nhello\r\n", b"5 ;a\r\nhello\r\n", b"5; a\r\nhello\r\n", b"5;a =b\r\nhello\r\n",
    b"5;a= b\r\nhello\r\n",
    b"5;a=\r\nhello\r\n", b"5;a\x01\r\nhello\r\n", b"5;a\x7f\r\nhello\r\n", b"5;a\nhello\r\n",
    b"5;a\rb\r\nhello\r\n",
    b'5;a="b\r\nhello\r\n', b'5;a="b"c\r\nhello\r\n', b"5;a=b=c\r\nhello\r\n", b"5;a;;b\r\nhello\r\n",
    b"5;a\x00\r\n",
    b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhelloX\r\n0\r\n\r\n",
    b"4\r\nhello\r\n0\r\n\r\n", b"5\r\nhello\r\n\r\n", b"5\r\nhello\r\n5\r\nhello0\r\n\r\n",
    b"0\r\nA: b\n\r\n", b"0\r\nA : b\r\n\r\n", b"0\r\n A: b\r\n\r\n", b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\n: b\r\n\r\n", b"0\r\nA: b\rc\r\n\r\n", b"0\r\nA: b\x00c\r\n\r\n", b"0\r\nA: \x01\r\n\r\n",
    b"0\r\nA(: b\r\n\r\n",
    b"0\r\n\n", b"0\r\nA: b\r\n\n", b"0\r\nContent-Length: 3\r\n\r\n",
    b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"0\r\ncontent_length: 3\r\n\r\n", b"0\r\n\rX",
]  # fmt: skip


@pytest.mark.parametrize(("data", "content", "trailers"), VALID)
def test_valid(
    check_all_splits: Callable[..., None], data: bytes, content: bytes, trailers: list[tuple[bytes, bytes]]
) -> None:
    check_all_splits(decode, data, (content, trailers))


@pytest.mark.parametrize("data", INVALID)
def test_invalid(check_all_splits: Callable[..., None], data: bytes) -> None:
    check_all_splits(decode, data, ChunkedError)


@pytest.mark.parametrize("data", [data for data, _, _ in VALID])
def test_every_prefix_wants_more(data: bytes) -> None:
    for end in range(len(data)):
        assert decode([data[:end]]) == ("more", b"")


def test_an_error_names_the_offset_and_is_final() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"3\r\nabc\r\n") == [b"abc"]
    with pytest.raises(ChunkedError) as caught:
        decoder.feed(b"zz\r\n")
    assert caught.value.offset == 8
    assert str(caught.value) == "bad chunk header at offset 8"
    with pytest.raises(ChunkedError):
        decoder.feed(b"0\r\n\r\n")


def test_a_chunk_within_one_read_is_not_copied() -> None:
    content = bytes(100_000)
    (piece,) = ChunkedDecoder().feed(encode_chunk(content))
    assert isinstance(piece, memoryview)
    assert piece == content
    decoder = ChunkedDecoder()
    decoder.feed(b"186a0\r\n")
    assert decoder.feed(content)[0] is content


def test_bytes_behind_the_message_stay_exact_over_reads() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\n\r\nGET")
    decoder.feed(b" / ")
    assert (decoder.done, decoder.rest, decoder.consumed) == (True, b"GET / ", 5)


def test_limits_hold_however_the_bytes_come() -> None:
    long_line = b"1;" + b"a" * MAX_LINE
    many = (b"1;" + b"a" * 4000 + b"\r\nx\r\n") * (MAX_EXTENSIONS // 4000 + 1)
    trailers = b"0\r\n" + b"".join(b"A%d: b\r\n" % number for number in range(101)) + b"\r\n"
    large = b"0\r\nA: " + b"b" * 16 * 1024 + b"\r\n\r\n"
    for data in (long_line, long_line + b"\r\n", many, trailers, large, large[:-4]):
        for size in (1, 1000, len(data)):
            with pytest.raises(ChunkedError):
                decode(data[at : at + size] for at in range(0, len(data), size))
    assert decode([b"1;" + b"a" * (MAX_LINE - 4) + b"\r\nx\r\n0\r\n\r\n"])[0] == (b"x", [])


def test_what_is_held_is_bounded_by_a_line() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"fffffff\r\n")
    for _ in range(100):
        assert decoder.feed(bytes(65536))
        assert not decoder._held


def test_encoding() -> None:
    assert encode_chunk(b"hello") == b"5\r\nhello\r\n"
    assert encode_chunk(memoryview(b"hello")) == b"5\r\nhello\r\n"
    assert b"".join(encode_pieces([b"ab", memoryview(b"cd")])) == b"4\r\nabcd\r\n"
    assert encode_pieces([]) == []
    assert encode_last() == LAST_CHUNK
    assert encode_last([(b"A", b"b")]) == b"0\r\nA: b\r\n\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=9000), max_size=6),
    st.lists(
        st.tuples(st.sampled_from([b"X-A", b"b", b"C.1"]), st.sampled_from([b"", b"v", b"a b"])), max_size=3
    ),
    st.integers(0, 2**32),
)
def test_round_trip(chunks: list[bytes], trailers: list[tuple[bytes, bytes]], seed: int) -> None:
    data = b"".join(map(encode_chunk, chunks)) + encode_last(trailers)
    reads = list(cut(data + NEXT, random.Random(seed)))
    assert decode(reads) == ((b"".join(chunks), trailers), NEXT)


def cut(data: bytes, generator: random.Random) -> Iterable[bytes]:
    at = 0
    while at < len(data):
        size = generator.choice((1, 2, 3, 7, 100, 5000))
        yield data[at : at + size]
        at += size


# Differential: what llhttp or h11 refuse, we refuse; what we accept, they understand in the same way.

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Collect:
    def __init__(self) -> None:
        self.content = b""
        self.done = False

    def on_body(self, body: bytes) -> None:
        self.content += body

    def on_message_complete(self) -> None:
        self.done = True


def by_llhttp(data: bytes) -> tuple[bytes, bool] | None:
    collect = _Collect()
    try:
        httptools.HttpRequestParser(collect).feed_data(HEAD + data)
    except httptools.HttpParserError:
        return (
            (collect.content, True) if collect.done else None
        )  # refused is only what came after the message
    return collect.content, collect.done


def by_h11(data: bytes) -> tuple[bytes, bool] | None:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(HEAD + data)
    content = b""
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Data):
                content += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return content, True
            elif event is h11.NEED_DATA or event is h11.PAUSED:
                return content, False
    except h11.RemoteProtocolError:
        return None


def agree(data: bytes) -> None:
    decoder = ChunkedDecoder()
    content = b""
    try:
        for at in range(len(data)):
            content += b"".join(decoder.feed(data[at : at + 1]))
    except ChunkedError:
        return
    judged = data[: decoder.consumed]  # a trailer line is judged only when its end is there
    assert by_llhttp(judged) == (content, decoder.done)
    if decoder.done:
        assert by_h11(judged) == (content, True)
    else:
        assert by_h11(judged) is not None


@pytest.mark.parametrize("data", INVALID + [data for data, _, _ in VALID])
def test_agreement_on_known_cases(data: bytes) -> None:
    agree(data)


_PARTS = st.sampled_from(
    [b"0", b"1", b"5", b"a", b"F", b"00", b"\r\n", b"\r", b"\n", b" ", b"\t", b";", b"=", b'"', b"\\",
    b":", b"x",
     b"hello", b"\x00", b"\x7f", b"\x80", b"+", b"-", b"_", b"0x", b"5\r\nhello\r\n", b"0\r\n",
     b"0\r\n\r\n", b";a=b",
     b"A: b\r\n", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"ffffffffffffffff"]
)  # fmt: skip


@settings(max_examples=600, deadline=None)
@given(st.lists(_PARTS, max_size=14).map(b"".join))
@example(b'1;a="\x80"\r\nx\r\n0\r\n\r\n')
def test_agreement_on_grammar_soup(data: bytes) -> None:
    agree(data)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([data for data, _, _ in VALID]),
    st.integers(0, 200),
    st.binary(max_size=2),
    st.integers(0, 2),
)
def test_agreement_on_damaged_messages(data: bytes, at: int, put: bytes, drop: int) -> None:
    at %= len(data) + 1
    agree(data[:at] + put + data[at + drop :])
