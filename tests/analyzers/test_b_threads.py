"""Reading stacks: what a thread waits in, and which stand at one place."""

import pytest

from proxy.diagnostics.analyzers import threads
from proxy.diagnostics.artifacts import Frame, ProcessStacks, Round, Stacks
from tests.analyzers import stacked
from tests.analyzers.made import NOW
from tests.analyzers.stacked import ACQUIRES, KEPT, LOOP, READING, RESTING, SERVED

WAIT = "Condition.wait lib:threading.py:331"


def kind(*frames: str, wchan: str | None = None, active: bool = False) -> str:
    at = threads.read("web-1", stacked.stacks([stacked.thread(7, *frames, wchan=wchan, active=active)])).rounds[0][0]
    return at.kind


@pytest.mark.parametrize(
    ("frames", "wchan", "expected"),
    [
        ((*READING, "load app:12", *SERVED), None, "socket"),
        (("load app:12", *SERVED), "wait_woken", "socket"),
        (("load app:12", *SERVED), "futex_do_wait", "lock"),
        (("load app:12", *SERVED), "hrtimer_nanosleep", "sleep"),
        (("load app:12", *SERVED), "do_wait", "child"),
        (("load app:12", *SERVED), "folio_wait_bit_common", "file"),
        (("load app:12", *SERVED), None, "waiting"),
        ((*ACQUIRES, *SERVED), "futex_do_wait", "pool"),
        ((WAIT, "Semaphore.acquire lib:threading.py:507", "do app:3", *SERVED), None, "pool"),
        ((WAIT, "Future.result lib:concurrent/futures/_base.py:451", "do app:3", *SERVED),
         None, "result"),
        (("getaddrinfo lib:socket.py:962", "create_connection lib:socket.py:827", "do app:3", *SERVED), None, "dns"),
        (("create_connection lib:socket.py:836", "HTTPConnection.connect lib:http/client.py:950", "do app:3", *SERVED),
         "wait_woken", "connect"),
        (("Popen._try_wait lib:subprocess.py:2004", "do app:3", *SERVED), None, "child"),
        (("_SocketWriter.write lib:socketserver.py:834", "send app:3", *SERVED), "wait_woken", "send"),
        (("load app:12", *LOOP), "hrtimer_nanosleep", "sleep"),
    ],
)  # fmt: skip
def test_what_it_waits_in(frames: tuple[str, ...], wchan: str | None, expected: str) -> None:
    assert kind(*frames, wchan=wchan) == expected


@pytest.mark.parametrize(
    "frames",
    [
        RESTING,
        (*KEPT, "Thread.run lib:threading.py:982"),
        ("_worker lib:concurrent/futures/thread.py:81", "Thread.run lib:threading.py:982"),
        ("Selector.select lib:selectors.py:415", "BaseServer.serve_forever lib:socketserver.py:233", "run app:9"),
        ("socket.accept lib:socket.py:294", "serve app:9", "main app:20"),
        (WAIT, "Queue.get lib:queue.py:171", "consume app:30", "Thread.run lib:threading.py:982"),
    ],
)  # fmt: skip
def test_what_waits_for_work_accuses_nobody(frames: tuple[str, ...]) -> None:
    assert kind(*frames, wchan="futex_do_wait") == "idle"


def test_what_runs_computes() -> None:
    assert kind("spin app:5", *SERVED, active=True) == "cpu"
    assert kind("Encoder.encode lib:json/encoder.py:200", "spin app:5", *SERVED, active=True) == "cpu"


def test_equal_stacks_are_one_place_over_threads_and_rounds() -> None:
    one = threads.read(
        "web-1",
        stacked.stacks(
            stacked.threads(4, *READING, "load app:12", *SERVED),
            stacked.threads(3, *READING, "load app:12", *SERVED, first=101),
            stacked.threads(3, *READING, "load app:12", *SERVED, first=102),
        ),
    )
    place = one.places[0]
    assert (place.counts, place.same, place.always, place.stuck) == ([4, 3, 3], 2, True, True)
    assert place.place == "load (web/app.py:12)" and place.call == "SocketIO.readinto (socket.py:706)"
    assert place.said() == "4, 3 and 3 threads"


def test_a_round_that_only_the_kernel_told_is_left_out_where_others_have_frames() -> None:
    good = stacked.stacks(stacked.threads(2, *READING, "load app:12", *SERVED))
    kernel = ProcessStacks(pid=1001, how="kernel", threads=[stacked.thread(100, "futex_do_wait app:0")])
    one = threads.read("web-1", Stacks(runtime="python", rounds=[Round(at=NOW, processes=[kernel]), *good.rounds]))
    assert len(one.rounds) == 3 and one.places[0].counts == [2, 2, 2]


def test_where_it_sleeps_is_what_most_looks_at_the_line_say() -> None:
    rounds = [
        stacked.threads(1, "load app:12", *SERVED, wchan=wchan)
        for wchan in ("hrtimer_nanosleep",) * 3 + ("wait_woken",)
    ]
    one = threads.read("web-1", stacked.stacks(*rounds))
    assert [place.kind for place in one.places] == ["sleep"]


def test_a_server_that_is_not_known_is_read_by_how_many_requests_it_has() -> None:
    own = (
        "Condition.wait lib:threading.py:327",
        "Queue.get lib:queue.py:171",
        "work app:30",
        "Thread.run lib:threading.py:982",
    )
    one = threads.read("web-1", stacked.stacks(stacked.threads(6, *own)))
    assert threads.working(one, in_flight=0) == []
    assert threads.working(one, in_flight=40) == []
    found = threads.working(one, in_flight=7)
    assert [(place.kind, place.least) for place in found] == [("pool", 6)]


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/srv/web/app.py", True),
        ("/srv/venv/lib/python3.11/site-packages/flask/app.py", False),
        ("/usr/lib/python3.11/queue.py", False),
        ("<frozen importlib._bootstrap>", False),
        ("node:internal/timers", False),
        ("file:///srv/web/server.js", True),
        ("/srv/web/node_modules/express/lib/router.js", False),
        ("", False),
    ],
)
def test_whose_code(file: str, own: bool) -> None:
    assert threads.own(Frame(function="f", file=file, line=1)) is own
