"""The flight recorder: what is held, and what is found in it."""

from proxy.dataplane.recorder import SIZE, FlightRecorder
from proxy.link.messages import Attempt, Record


def record(number: int, instance: str, app: str = "web", attempts: tuple[str, ...] = ()) -> Record:
    tried = [Attempt(name) for name in attempts] or None
    return Record(f"{number:016x}", float(number), 0, app=app, instance=instance, target=f"/{number}", attempts=tried)


def test_the_requests_of_one_instance_are_found_with_those_it_failed() -> None:
    flight = FlightRecorder()
    flight.extend([record(1, "web-1")])
    flight.extend([record(2, "web-2", attempts=("web-1", "web-2"))])
    flight.extend([record(3, "web-2", attempts=("web-3", "web-2"))])
    flight.extend([record(4, "web-1", app="other")])
    flight.extend([record(5, "web-1")])

    def targets(**wanted: str) -> list[str]:
        return [one.target for one in flight.find("", 10, **wanted)]

    assert targets(app="web", instance="web-1") == ["/5", "/2", "/1"]
    assert targets(instance="web-3") == ["/3"]
    assert targets(app="web") == ["/5", "/3", "/2", "/1"]
    assert targets(instance="web-9") == []


def test_what_comes_out_is_what_went_in() -> None:
    """Whatever a client sent: its id is found by a part of it, quotes, backslashes and all."""
    flight = FlightRecorder()
    strange = record(1, "web-1", attempts=("web-1",))
    strange.client_request_id = 'a"b\\c\ufffd/\x7f'
    strange.target = "/\x00\xff\n<é>"
    strange.time = 1_700_000_000.123456789
    lines = flight.extend([strange])
    assert lines.count(b"\n") == 1
    assert flight.newest() == [strange]
    for prefix in ('a"', 'a"b\\c', strange.client_request_id, "00000000000000"):
        assert flight.find(prefix, 1) == [strange], prefix
    assert flight.find("b", 1) == []


def test_what_is_held_is_the_last_ones_however_they_came() -> None:
    flight = FlightRecorder()
    number = 0
    for size in [1, 32, 7, 500, 32] * 40:
        flight.extend([record(number + each, "web-1") for each in range(size)])
        number += size
        held = [each.id for each in flight.newest()]
        assert held == [f"{each:016x}" for each in range(number - 1, max(number - SIZE, 0) - 1, -1)]
        assert flight._held < SIZE + 500, "no more than a block too many"


def test_the_newest_stay_and_a_limit_holds() -> None:
    flight = FlightRecorder()
    for number in range(SIZE + 10):
        flight.extend([record(number, f"web-{number % 2}")])
    assert len(flight.newest()) == SIZE
    found = flight.find("", 3, instance="web-1")
    assert [one.target for one in found] == [f"/{SIZE + 9}", f"/{SIZE + 7}", f"/{SIZE + 5}"]
