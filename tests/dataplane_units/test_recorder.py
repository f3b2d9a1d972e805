"""The flight recorder: what is held, and what is found in it."""

from proxy.dataplane.recorder import SIZE, FlightRecorder
from proxy.link.messages import Attempt, Record


def record(number: int, instance: str, app: str = "web", attempts: tuple[str, ...] = ()) -> Record:
    tried = [Attempt(name) for name in attempts] or None
    return Record(f"{number:016x}", float(number), 0, app=app, instance=instance, target=f"/{number}", attempts=tried)


def test_the_requests_of_one_instance_are_found_with_those_it_failed() -> None:
    flight = FlightRecorder()
    flight.add(record(1, "web-1"))
    flight.add(record(2, "web-2", attempts=("web-1", "web-2")))
    flight.add(record(3, "web-2", attempts=("web-3", "web-2")))
    flight.add(record(4, "web-1", app="other"))
    flight.add(record(5, "web-1"))

    def targets(**wanted: str) -> list[str]:
        return [one.target for one in flight.find("", 10, **wanted)]

    assert targets(app="web", instance="web-1") == ["/5", "/2", "/1"]
    assert targets(instance="web-3") == ["/3"]
    assert targets(app="web") == ["/5", "/3", "/2", "/1"]
    assert targets(instance="web-9") == []


def test_the_newest_stay_and_a_limit_holds() -> None:
    flight = FlightRecorder()
    for number in range(SIZE + 10):
        flight.add(record(number, f"web-{number % 2}"))
    assert len(flight.newest()) == SIZE
    found = flight.find("", 3, instance="web-1")
    assert [one.target for one in found] == [f"/{SIZE + 9}", f"/{SIZE + 7}", f"/{SIZE + 5}"]
