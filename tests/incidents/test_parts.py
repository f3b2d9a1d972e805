"""The parts around the engine: self-check on real sockets, certificates, waits, the page, *is it me or is it you*."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import trustme

from proxy.config.schema import Gateway
from proxy.control import self_check, status_page
from proxy.control.incidents import certificates, hits
from proxy.control.incidents.incident import Incident, Subject
from proxy.control.incidents.is_it import is_it
from proxy.control.incidents.saved import concerns, dump, load
from proxy.control.incidents.signals import TOUCHING
from proxy.control.incidents.usual import PIECE, Waits
from proxy.control.self_check import Last, SelfCheck
from proxy.control.state import Event
from proxy.dataplane.answers import SELF_CHECK
from proxy.link.histogram import bucket
from proxy.link.messages import Row
from proxy.link.spawn import Listener
from tests.incidents.virtual import WALL, app, instance


def incident(signal: str = "faults", scope: str = "app", **more: object) -> Incident:
    subject = Subject("app", "web") if scope == "app" else Subject(scope)  # type: ignore[arg-type]
    found = Incident(7, subject, "degraded", signal, "web-1 at 10.0.0.5 fails", "certain", WALL, WALL, WALL)
    found.signals, found.seen = {signal: "it is seen"}, [signal]
    for name, value in more.items():
        setattr(found, name, value)
    return found


# --- self-check ------------------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def checked(answer: Answer | None, monkeypatch: pytest.MonkeyPatch) -> SelfCheck:
    """One check of a listener that answers so; None: nobody listens."""
    monkeypatch.setattr(self_check, "WITHIN", 0.3)
    server = await asyncio.start_server(answer or _silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if answer is None:
        server.close()
        await server.wait_closed()
    listener: Listener = {
        "name": "a", "kind": "tcp", "host": "127.0.0.1", "port": port, "path": "", "sockets": []
    }  # fmt: skip
    raised: list[Exception] = []
    made = SelfCheck(lambda: [listener], set, Gateway, lambda: True, raised.append)
    made.tick(0.0)
    while made.last.at == 0.0:
        await asyncio.sleep(0.001)
        assert not raised
    await made.close()
    server.close()
    return made


async def _silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def _closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.close()


def saying(text: bytes) -> Answer:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        assert asked.startswith(b"OPTIONS * HTTP/1.1\r\n") and b"Max-Forwards: 0" in asked
        writer.write(text)
        await writer.drain()
        writer.close()

    return answer


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (None, "refused the connection"),
        (_silent, "no answer at 127.0.0.1"),
        (_closing, "closed the connection without an answer"),
        (saying(b"HTTP/1.1 503 Service Unavailable\r\n\r\n"), "wrong answer: HTTP/1.1 503"),
        (saying(b"SSH-2.0-OpenSSH\r\n\r\n"), "wrong answer: SSH-2.0"),
    ],
)
async def test_a_check_that_fails_says_how(
    answer: Answer | None, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await checked(answer, monkeypatch)
    assert not made.last.ok and words in made.last.words and made.fails == 1
    seen = made.seen()
    assert seen is not None and seen.since > 0


async def test_a_check_that_passes_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    made = await checked(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), monkeypatch)
    assert made.last.ok and made.last.ms is not None and 0 < made.last.ms < 300
    assert made.fails == 0 and made.last.words.startswith("the gateway answers itself in ")


def test_nobody_is_asked_before_a_worker_has_its_table() -> None:
    made = SelfCheck(lambda: [], set, Gateway, lambda: False, lambda error: None)
    made.tick(0.0)
    assert made.seen() is None, "there is no loop here: it must not have begun"


# --- is it me or is it you -------------------------------------------------------------------------------

WELL = Last(WALL, True, 0.4, "the gateway answers itself in 400 µs")
ILL = Last(WALL, False, None, "127.0.0.1:80 refused the connection")


@pytest.mark.parametrize(
    ("check", "open_ones", "who", "words"),
    [
        (WELL, [], "", "nothing is wrong"),
        (WELL, [incident(faults={"instance-exited": 9})], "app",
         "The gateway answers itself in 400 µs; web's requests fail with instance-exited: it is the app."),
        (ILL, [incident(faults={"head-timeout": 9})], "gateway", "it is the gateway"),
        (WELL, [incident(), incident("worker", "gateway")], "gateway", "it is the gateway"),
        (WELL, [incident(), incident("host-memory", "host")], "host", "it is the host"),
        (WELL, [incident("lost-evidence", "gateway")], "gateway", "requests go on"),
        (WELL, [incident("disk", "host")], "host", "requests go on"),
        (WELL, [incident("disk", "host"), incident()], "app", "it is the app"),
        (WELL, [incident(signals={})], "", "INC-7 is over when"),
        (Last(0.0, True, None, ""), [], "", "has not asked itself yet"),
    ],
)  # fmt: skip
def test_is_it_me_or_is_it_you(check: Last, open_ones: list[Incident], who: str, words: str) -> None:
    found = is_it(check, {one.subject: one for one in open_ones}, TOUCHING)
    assert found[0] == who and words in found[1], found


# --- small parts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [datetime(2031, 3, 4, 5, 6, 7, tzinfo=UTC), datetime(2061, 1, 2, tzinfo=UTC)])
def test_when_a_certificate_ends(tmp_path: Path, end: datetime) -> None:
    """2061 is beyond UTCTime: it is written as GeneralizedTime."""
    made = trustme.CA().issue_cert("a.example", not_after=end)
    (tmp_path / "a.pem").write_bytes(b"# one\n" + b"".join(one.bytes() for one in made.cert_chain_pems))
    assert certificates.ends(tmp_path / "a.pem") == end.timestamp()


@pytest.mark.parametrize("text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.pem").write_text(text)
    with pytest.raises(ValueError):
        certificates.ends(tmp_path / "a.pem")


def row(counts: dict[int, int]) -> Row:
    return Row("web", "web-1", sum(counts.values()), [0] * 6, {}, 0, 0, 0, 0, {}, 0.0, counts, 0.0, 0.0)


def test_waits_of_late_stand_beside_the_hour_before() -> None:
    waits, counts = Waits(), {bucket(0.02): 0}
    now = 0.0

    def passes(seconds: float, each: int, at: float) -> None:
        nonlocal now
        for _ in range(int(seconds / PIECE)):
            now += PIECE
            counts[bucket(at)] = counts.get(bucket(at), 0) + each
            for _ in waits.work({("web", "web-1"): [row(dict(counts))]}, now, WALL + now, 1.0):
                pass

    passes(1800.0, 100, 0.02)
    usual = waits.usual("web")
    assert usual is not None and usual.count == 300 and usual.before_span >= 1500
    assert usual.p50 is not None and usual.p50 < 0.03 and usual.since == 0.0
    passes(40.0, 100, 4.0)
    usual = waits.usual("web")
    assert usual is not None and usual.p50 is not None and usual.p50 > 3.5
    assert usual.before_p50 is not None and usual.before_p50 < 0.03, "what began slowly is not its own measure"
    assert WALL + 1800.0 <= usual.since <= WALL + 1840.0
    for _ in waits.work({}, now + PIECE, WALL, 1.0):
        pass
    assert waits.usual("web") is None, "an app that is gone is forgotten"


def test_an_incident_is_the_same_after_the_ledger_or_the_store() -> None:
    one = incident(faults={"head-timeout": 3}, details={"steps_dropped": 2}, told=["ops"])
    assert load(dump(one)) == one
    assert load({**dump(one), "of_a_later_triage": 1}) == one


def test_which_faults_hit_and_which_say_that_something_is_wrong() -> None:
    assert hits.counts("held-too-long") and not hits.serious("held-too-long")
    assert hits.counts("stale-connection") and not hits.serious("stale-connection")
    assert not hits.counts("client-left") and hits.serious("head-timeout") and hits.of_gateway("gateway-overload")


def test_which_events_belong_to_whom() -> None:
    web, gateway = Subject("app", "web"), Subject("gateway")
    mine, other = Event(1, 0.0, "exited", "web", "web-1", ""), Event(2, 0.0, "exited", "api", "api-1", "")
    refused = Event(3, 0.0, "reload-refused", "", "", "")
    assert concerns(mine, web) and not concerns(other, web) and not concerns(mine, gateway)
    assert concerns(refused, web) and concerns(refused, gateway)
    assert not concerns(Event(4, 0.0, "incident-opened", "web", "", ""), web)


# --- the public page -------------------------------------------------------------------------------------


def page(*open_ones: Incident, past: tuple[Incident, ...] = (), state: object = None) -> str:
    shown = state or app(instance())
    active = {one.subject: one for one in open_ones if status_page.felt(one)}
    return status_page.html("Shop & more", [shown], active, [*open_ones, *past], WALL + 600.0)  # type: ignore[list-item]


def test_the_page_says_how_it_is_in_plain_words_and_nothing_internal() -> None:
    assert "All is well." in page() and "works" in page() and "None in 90 days" in page()
    ill = page(incident(hit=9, requests=100, faults={"head-timeout": 9}))
    assert "some requests failed, 9 % of requests; goes on, for 10 min" in ill
    assert "not as well as it should" in ill
    for inside in ("web-1", "10.0.0.5", "head-timeout", "INC-7", "<script", "http:", "https:"):
        assert inside not in ill
    assert "Shop &amp; more" in ill and "prefers-color-scheme" in ill and "more than 3 minutes ago" in ill
    down = app(wanted=2)
    assert "Nothing is available" in page(state=down) and "not available" in page(state=down)
    assert len(page().encode()) < 4096


def test_what_nobody_feels_is_not_on_the_page() -> None:
    assert "All is well." in page(incident("certificate", "gateway"), incident("disk", "host"))
    assert "None in 90 days" in page(incident("crashes"))
    over = incident(hit=9, requests=100, ended=WALL + 60.0, signals={})
    text = page(past=(over,))
    assert "All is well." in text and "lasted 60 s" in text


async def test_the_page_that_can_not_be_written_is_told_once(tmp_path: Path) -> None:
    said: list[str] = []

    file = tmp_path / "not" / "a" / "file" / "status.html"

    async def listed(**asked: object) -> list[Incident]:
        return []

    everything = SimpleNamespace(
        apps={"web": app(instance())},
        config=SimpleNamespace(status_page=SimpleNamespace(file=str(file), title="Status")),
        shared=SimpleNamespace(event=lambda kind, text: said.append(text)),
    )
    known = SimpleNamespace(open={}, list=listed)
    (tmp_path / "not").write_text("a file where a folder should be")
    made = status_page.StatusPage(everything, known, lambda error: None)  # type: ignore[arg-type]
    for now in (100.0, 200.0, 300.0):
        made.tick(now)
        while made._task.running:
            await asyncio.sleep(0.001)
    assert len(said) == 1 and made.error and "can't be written" in said[0]
    (tmp_path / "not").unlink()
    made.tick(400.0)
    while made._task.running:
        await asyncio.sleep(0.001)
    assert made.error == "" and file.read_text().startswith("<!doctype html>")
    assert [one.name for one in file.parent.iterdir()] == ["status.html"], "nothing half made is left"
    await made.close()


def test_the_question_is_one_that_a_worker_knows() -> None:
    """The same words stand in the data plane, which answers it; neither may import the other."""
    assert b"User-Agent: " + SELF_CHECK + b"\r\n" in self_check.QUESTION
