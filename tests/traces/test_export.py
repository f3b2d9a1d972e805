"""The exporter against a real collector: batches, refusals, silence, bounds; and a whole gateway that exports."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from proxy.config.schema import Traces as Settings
from proxy.control import traces
from proxy.control.traces import Traces
from proxy.link.messages import Record
from proxy.link.spans import attempt_span
from tests.dataplane.origins import Conn, Origin
from tests.e2e.support import serve, until
from tests.traces.collector import Collector
from tests.traces.test_spans import PLAIN


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.close()


def record(number: int) -> Record:
    return msgspec.structs.replace(PLAIN, id=f"{number:06x}0069abcdef")


@asynccontextmanager
async def exporting(settings: Settings) -> AsyncIterator[Traces]:
    made = Traces(lambda app, instance: ("127.0.0.1", 1), lambda: "00000000")
    made.configure(settings, 1.0)
    try:
        yield made
    finally:
        await made.close(0.0)


async def later(holds: Callable[[], object], within: float = 30.0) -> None:
    async with asyncio.timeout(within):
        while not holds():
            await asyncio.sleep(0.01)


async def test_off_it_does_nothing() -> None:
    async with exporting(Settings()) as off:
        off.add([record(1)])
        assert off.waiting == 0 and not off.on
        assert len(asyncio.all_tasks()) == 1


async def test_a_full_batch_goes_at_once(collector: Collector) -> None:
    async with exporting(Settings(collector.url, {"X-Key": "k"}, service="edge")) as on:
        on.add([record(number) for number in range(traces.BATCH // 2)])
        await later(lambda: on.exported == traces.BATCH, 4.0)
    assert len(collector.posts) == 1
    _, fields, status = collector.posts[0]
    assert status == 200 and fields["X-Key"] == "k" and fields["Content-Encoding"] == "gzip"
    assert fields["Content-Type"] == "application/json"
    assert len(collector.spans) == traces.BATCH
    about = collector.spans[0].resource
    assert about["service.name"] == "edge" and about["service.instance.id"] == "00000000"


async def test_what_is_not_wanted_is_not_taken(collector: Collector) -> None:
    async with exporting(Settings(collector.url)) as on:
        on.add([msgspec.structs.replace(PLAIN, sampled=False)])
        assert on.waiting == 0


async def test_the_end_posts_what_waits(collector: Collector) -> None:
    on = Traces(lambda app, instance: ("", 0), lambda: "00000000")
    on.configure(Settings(collector.url), 1.0)
    on.add([record(1)])
    await on.close()
    assert on.exported == 2 and on.dropped == 0 and len(collector.spans) == 2


@pytest.mark.slow
async def test_it_is_tried_again_when_the_collector_wants_it(collector: Collector) -> None:
    collector.answers = [(503, {"Retry-After": "1"}, b""), (429, {}, b"")]
    async with exporting(Settings(collector.url)) as on:
        on.add([record(number) for number in range(traces.BATCH // 2)])
        await later(lambda: on.exported == traces.BATCH)
        assert on.failed == 2 and on.dropped == 0 and on.error == ""
    assert collector.posts[1][0] - collector.posts[0][0] >= 0.99


async def test_what_is_refused_for_good_is_dropped(collector: Collector) -> None:
    collector.answers = [(400, {}, b"no")]
    async with exporting(Settings(collector.url)) as on:
        on.add([record(number) for number in range(traces.BATCH // 2)])
        await later(lambda: on.dropped)
        assert on.dropped == traces.BATCH // 2 and on.exported == 0 and "400" in on.error
        on.add([record(number) for number in range(traces.BATCH // 2)])
        await later(lambda: on.exported)
        assert on.error == ""


async def test_partial_success_is_counted(collector: Collector) -> None:
    collector.answers = [(200, {}, json.dumps({"partialSuccess": {"rejectedSpans": "12"}}).encode())]
    async with exporting(Settings(collector.url)) as on:
        on.add([record(number) for number in range(traces.BATCH // 2)])
        await later(lambda: on.exported)
        assert on.exported == traces.BATCH - 12 and "12" in on.error


async def test_a_collector_that_hangs_costs_what_does_not_fit(collector: Collector) -> None:
    """Handing over goes on at once, what waits is bounded, the newest stay, and the end waits no longer than said."""
    collector.hang.set()
    async with exporting(Settings(collector.url)) as on:
        on.add([record(number) for number in range(traces.BATCH // 2)])
        await later(lambda: collector.posts)
        loop = asyncio.get_running_loop()
        began = loop.time()
        for start in range(0, 2 * traces.WAITING, 64):
            on.add([record(number) for number in range(start, start + 64)])
        assert loop.time() - began < 1.0
        assert on.waiting == traces.WAITING + traces.BATCH // 2
        assert on.dropped == traces.WAITING
        began = loop.time()
        await on.close(0.2)
        assert loop.time() - began < 2.0
        assert on.dropped == 2 * traces.WAITING + traces.BATCH // 2 and on.waiting == 0


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traces, "FIRST_WAIT", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1/traces"
        async with exporting(Settings(url)) as on:
            on.add([record(number) for number in range(traces.BATCH // 2)])
            await later(lambda: on.dropped)
            assert on.failed == traces.TRIES and on.dropped == traces.BATCH // 2
            assert "does not answer" in on.error


async def test_configured_anew(collector: Collector) -> None:
    async with exporting(Settings("http://127.0.0.1:1/")) as on:
        on.add([record(1)])
        on.configure(Settings(collector.url), 1.0)
        on.add([record(number) for number in range(2, traces.BATCH // 2 + 1)])
        await later(lambda: on.exported == traces.BATCH)
        on.configure(Settings(), 1.0)
        assert not on.on
        await later(lambda: len(asyncio.all_tasks()) == 1)


# --- a whole gateway --------------------------------------------------------------------------------------------


@pytest.fixture
def folder() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="triage-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


@pytest.mark.slow
def test_a_gateway_exports_what_the_instance_was_told(collector: Collector, folder: Path) -> None:
    """The span that the origin sees as its parent is the attempt's, below the request's, below the client's."""

    def script(conn: Conn) -> None:
        while True:
            request = conn.request()
            conn.answer(status="500 No" if request.target == "/fails" else "200 OK")

    with Origin(script) as origin:
        config = f"""
            [gateway]
            listen = ["127.0.0.1:0"]
            workers = 2
            data_dir = "{folder}/var"
            [admin]
            listen = "127.0.0.1:0"
            [traces]
            otlp = "{collector.url}"
            sample = "100%"
            [apps.web]
            addresses = ["http://127.0.0.1:{origin.port}"]
            retries = {{ attempts = 0 }}
        """
        running = serve(folder, config)
        try:
            running.await_ready()
            trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
            id = ask(running.port, "/works?a=b", traceparent=f"00-{trace}-{parent}-00")
            failed = ask(running.port, "/fails")
            until(lambda: len(collector.of(id)) == 2 and len(collector.of(failed)) == 2, "all spans")
            seen = {one.target: one["traceparent"] for one in origin.requests}
            server, client = collector.of(id)
            assert (server["traceId"], server["parentSpanId"]) == (trace, parent)
            assert seen["/works?a=b"] == f"00-{trace}-{client['spanId']}-01"
            assert client["spanId"] == attempt_span(id, 1)
            assert client.attributes["network.peer.port"] == origin.port
            assert server.attributes["http.response.status_code"] == 200 and server["status"] is None
            server, client = collector.of(failed)
            assert server.attributes["error.type"] == "app-error" and server["status"]["code"] == 2
            assert client["status"]["code"] == 2
            assert re.fullmatch(rf"00-{server['traceId']}-{client['spanId']}-01", seen["/fails"])
            assert server["parentSpanId"] is None
            collector.hang.set()
            many = threading.Thread(target=lambda: [ask(running.port, "/works") for _ in range(600)])
            many.start()
            many.join(30)
            assert not many.is_alive(), "a collector that hangs holds nothing up"
        finally:
            running.end()


def ask(port: int, target: str, **fields: str) -> str:
    """The request's id."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{target}", headers=fields)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers["X-Request-ID"])
    except urllib.error.HTTPError as error:
        with error:
            return str(error.headers["X-Request-ID"])
