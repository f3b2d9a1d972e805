"""Parts of what control knows: seconds out of rings, the process behind an address, JSON in pieces."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import msgspec
import pytest

from proxy.admin import bundle
from proxy.control.metrics.ring import NAN, Ring, Second, encode
from proxy.control.metrics.rings import OF_APP
from proxy.control.sessions import behind, pieces, seconds
from proxy.control.sessions.known import Taken
from proxy.control.sessions.targets import MOST, chosen
from proxy.control.state import AppState, InstanceState, Lifecycle
from proxy.link.histogram import bucket, merge
from proxy.link.messages import Record
from proxy.link.session import App, Event, Exit, Input, Known
from proxy.link.session import Ring as Told

START = 1_800_000_000


def filled(length: int, start: int = START) -> Ring:
    """n requests in the n-th second, one of which failed; each 10th is quiet, of each 7th nothing is known."""
    made = Ring(OF_APP)
    for at in range(length):
        total: dict[int, int] = {}
        merge(total, {bucket(0.010): at})
        data = b"" if at % 10 == 0 else encode(
            Second(at, [0, at - 1, 0, 0, 1, 0], {"head-timeout": 1, "client-left": 2, "app-error": 3}, total)
        )  # fmt: skip
        values = [float(at), 0.5, 1000.0, *[NAN] * (len(OF_APP) - 3)]
        made.put(start + at, values, data, NAN if at % 7 == 0 else 1.0)
    return made


def test_seconds_of_a_ring() -> None:
    told = seconds.ring(filled(150).held(), seconds.OF_APPS, True)
    assert told is not None and (told.start, told.length) == (START, 150)
    values = told.values
    assert values["in_flight"][:3] == [0, 1, 2] and values["cpu"][5] == 0.5 and "threads" not in values
    assert values["requests"][1:4] == [1, 2, 3] and values["requests"][10] == 0, "a quiet second is known"
    assert values["requests"][7] is None and values["s2xx"][14] is None, "one that is not known is not 0"
    assert (values["faults"][5], values["errors"][5], values["s5xx"][5]) == (1, 3, 1), "a client's doing is no fault"
    assert values["p50"][5] == pytest.approx(0.010, rel=0.1) and values["p50"][10] is None
    assert told.faults["client-left"][4:7] == [2, 2, 2]
    brief = seconds.ring(filled(20).held(), seconds.OF_APPS, True, seconds.BRIEF)
    assert brief is not None and brief.values.keys() <= seconds.BRIEF and brief.values["requests"][3] == 3


def test_what_was_frozen_is_put_before_what_is_there_now() -> None:
    before = seconds.frozen([tuple(block) for block in filled(100).held().packed()], seconds.OF_APPS, True)
    now = seconds.ring(filled(100, START + 60).held(), seconds.OF_APPS, True)
    assert before is not None and now is not None
    both = seconds.joined(before, now)
    assert (both.start, both.length) == (START, 160)
    assert both.values["in_flight"][59] == 59 and both.values["in_flight"][60:62] == [0, 1]
    assert all(len(column) == 160 for column in (*both.values.values(), *both.faults.values()))
    late = Told(start=START + 10_000, length=2, values={"cpu": [1.0, 2.0]})
    assert seconds.joined(before, late).values == {"cpu": [None] * 3598 + [1.0, 2.0]}, "an hour at most"


def test_nothing_of_an_empty_ring() -> None:
    assert seconds.ring(Ring(OF_APP).held(), seconds.OF_APPS, True) is None


def test_json_in_pieces_is_the_same_json() -> None:
    records = [Record(id=f"{n:016x}", time=float(n), worker=0, target='/"ü') for n in range(501)]
    events = [Event(id=n, at=1.0, kind="x", text="é\n") for n in range(3)]
    rings = {name: Told(start=1, length=2, values={"cpu": [None, 1.5]}) for name in ("", "web-1")}
    known = Known(at=1.5, app=App(name="web"), records=records, events=events, rings=rings)
    assert pieces.of_known(known) == msgspec.json.encode(known)
    given = Input(id="S-1", app="web", at=2.0, known=known)
    assert pieces.of_input(given) == msgspec.json.encode(given)
    bare = Known(at=1.0, app=App(name="web"))
    assert pieces.of_known(bare) == msgspec.json.encode(bare)


def address(host: str = "", port: int = 0, path: str = "") -> InstanceState:
    return InstanceState("a", "web", "address", 0, host=host, port=port, path=path, resolved=(host,) if host else ())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_who_listens_at_a_loopback_address(family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as sock:
        try:
            sock.bind((host, 0))
        except OSError:
            pytest.skip(f"no {host} here")
        sock.listen()
        state = address(host, sock.getsockname()[1])
        assert behind.local(state) and behind.process(state)[0] == os.getpid() and behind.process(state)[1] > 0
        port = state.port
    assert behind.process(address(host, port)) == (0, 0), "nobody listens there any more"


def test_who_listens_at_a_unix_socket_and_everywhere(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as sock, socket.socket() as every:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        every.bind(("0.0.0.0", 0))
        every.listen()
        assert behind.process(address(path=str(tmp_path / "s")))[0] == os.getpid()
        assert behind.process(address("127.0.0.1", every.getsockname()[1]))[0] == os.getpid()
    assert not behind.local(address("192.0.2.1", 80)) and not behind.local(address("db.example.com", 80))


def test_the_most_troubled_instances_come_first() -> None:
    app = AppState("web", None, 0)  # type: ignore[arg-type]
    for number in range(1, 10):
        one = InstanceState(f"web-{number}", "web", "process", number, lifecycle=Lifecycle.READY)
        app.instances[one.name] = one
    app.instances["web-4"].failing = True
    app.instances["web-5"].lifecycle = Lifecycle.BACKOFF
    busy = {"web-6": 50}
    waits = {"web-7": 12.0}

    def look(instance: str = "", first: tuple[str, ...] = ()) -> tuple[list[str], str]:
        return chosen(app, instance, first, lambda one: busy.get(one.name, 0), lambda one: waits.get(one.name, 0.0))

    names, left_out = look()
    assert names[:4] == ["web-4", "web-5", "web-7", "web-6"] and len(names) == MOST
    assert left_out == "3 of 9 instances were not looked into, the least troubled ones"
    assert look(first=("web-0", "web-9"))[0][:3] == ["web-0", "web-9", "web-4"], "gone ones too"
    assert look("web-3") == (["web-3"], "")


def test_what_an_ended_instance_printed_is_masked_in_the_thread() -> None:
    ended = Exit(instance="web-1", at=1.0, lasted=2.0, words="exit 1")
    taken = Taken(2.0, Known(at=2.0, app=App(name="web")), exits=[(ended, ("starting", "password=hunter2"))])
    assert not taken.known.exits
    assert [one.last_lines for one in taken.whole().exits] == [["starting", "password=***"]]


def test_the_plan_of_a_bundle_in_pieces_is_the_same_json() -> None:
    documents = {"README.txt": 'a "b"\n', "events.json": [{"n": n} for n in range(301)], "one.json": [], "x": {"n": 1}}
    made = msgspec.json.decode(bundle._planned({"folder": "f", "memory": False}, documents))
    assert made == {"folder": "f", "memory": False, "documents": documents}
