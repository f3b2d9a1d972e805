"""Made-up requests through a real worker to an origin that reads them with h11: both see the same messages."""

from __future__ import annotations

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from proxy.link.messages import App
from tests.dataplane.client import Client, Ended, get
from tests.dataplane.conftest import of
from tests.dataplane.harness import WorkerUnderTest
from tests.dataplane.origins import Conn, Origin
from tests.wire.test_request import heads

CONTENTS = st.sampled_from(
    [
        b"",
        b"hello",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"05;x=y\r\nhello\r\n0\r\nX: y\r\n\r\n",
        b"5\r\nhello0\r\n\r\n",
        b"0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
    ]
)
LAST = get("/last", "Connection: close")
Seen = tuple[bytes, bytes]


def messages(data: bytes) -> list[Seen]:
    """(method, content) of each request that h11 finds whole in a stream, up to what it refuses."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(data)
    found: list[Seen] = []
    try:
        method, content = b"", b""
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                method, content = event.method, b""
            elif isinstance(event, h11.Data):
                content += event.data
            elif isinstance(event, h11.EndOfMessage):
                found.append((method, content))
                connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                connection.send(h11.EndOfMessage())
                connection.start_next_cycle()
            else:
                return found
    except (h11.RemoteProtocolError, h11.LocalProtocolError):
        return found


class Judge:
    """An origin that reads with h11 only; what h11 refuses is a finding."""

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.refused: list[str] = []
        self.origin = Origin(self.script)

    def script(self, conn: Conn) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        method, content, ended = b"", b"", False
        while not ended:
            try:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    data = conn.more()
                    if not data:
                        return
                    connection.receive_data(data)
                elif isinstance(event, h11.Request):
                    method, content = event.method, b""
                elif isinstance(event, h11.Data):
                    content += event.data
                elif isinstance(event, h11.EndOfMessage):
                    self.seen.append((method, content))
                    answer = connection.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    conn.send((answer or b"") + (connection.send(h11.EndOfMessage()) or b""))
                    connection.start_next_cycle()
                else:
                    ended = True
            except h11.RemoteProtocolError as error:
                self.refused.append(f"{error}: {bytes(conn.taken)!r}")
                return


@pytest.mark.slow
def test_the_same_messages(gateway: WorkerUnderTest) -> None:
    """What the origin reads is what an independent reader finds in the client's bytes, or less; never more or other."""
    judge = Judge()
    before = gateway.settings
    gateway.table(App("web", 0, instances=(of(judge.origin),), attempts=0), head_timeout=0.3, body_timeout=0.3)
    reached = [0]

    @settings(max_examples=600, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(heads(), CONTENTS)
    @example(get(method="POST")[:-2] + b"Content-Length: 5\r\n\r\n", b"hello")
    @example(get(method="POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n")
    def run(head: bytes, content: bytes) -> None:
        judge.seen.clear()
        data = head + content + LAST
        answers = []
        with Client(gateway.port) as client:
            client.send(data)
            try:
                while True:
                    found = client.response_head()
                    if found.status >= 200:
                        answers.append(found.status)
                        if data[:4] != b"HEAD":
                            client.content(found)
                        if not found.keeps:
                            break
            except Ended:
                pass
        served = answers.count(200)
        assert not judge.refused, judge.refused
        assert len(judge.seen) == served
        expected = messages(data)
        if len(expected) >= len(judge.seen):
            assert judge.seen == expected[: len(judge.seen)], data
        reached[0] += served > 0

    run()
    gateway.settings = before
    judge.origin.close()
    assert reached[0] > 60, "hardly any reached the origin: the test shows nothing"
