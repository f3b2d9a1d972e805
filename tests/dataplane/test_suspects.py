"""What becomes of the requests on an instance that ended. The instances are processes; the test is in control's place:
it reaps them, and tells their fate."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from proxy import faults
from proxy.link.messages import Cut, Fate, Lost, Suspect
from tests.dataplane import provoke
from tests.dataplane.harness import WorkerUnderTest, listening, worker
from tests.dataplane.provoke import Gateway, Process, app, processes, provokes, until


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    with worker() as under_test:
        yield Gateway(under_test)


def tell(under_test: WorkerUnderTest, ended: Process, words: str, **how: Any) -> None:
    """Answers `Lost`, as control does when it has the exit status and has seen how many requests were on it."""
    under_test.wait(Lost, lambda lost: lost.instance == ended.name)
    ended.popen.wait(30)
    how.setdefault("inflight", under_test.board.total(ended.row))
    under_test.tell(Fate(ended.name, ended.row, True, words=words, **how))


def test_the_only_request_is_not_tried_again(gateway: Gateway) -> None:
    """`GET /crash` on two idle instances costs one instance and one 502."""
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        waiting = gateway.later("/crash")
        until(lambda: one.seen == ["GET /crash HTTP/1.1"])
        spec = gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        tell(gateway.worker, one, "exit code 3", by_itself=True)
        record = gateway.shown(spec, waiting.answer, faults.INSTANCE_EXITED)
        assert "exit code 3" in record.detail and "only request" in record.detail and record.tries == 1
        assert other.seen == []
        assert not gateway.all(Suspect)


@provokes(faults.INSTANCE_EXITED)
def test_of_several_each_idempotent_one_is_tried_once_more(gateway: Gateway) -> None:
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        gets = [gateway.later(f"/hold{number}") for number in range(2)]
        post = gateway.later("/hold", "POST", b"x")
        until(lambda: len(one.seen) == 3)
        spec = gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        one.exit(3)
        tell(gateway.worker, one, "exit code 3", by_itself=True)
        answer = post.answer
        assert (answer.status, answer.fault) == (502, "instance-exited")
        until(lambda: sorted(other.seen) == ["GET /hold0 HTTP/1.1", "GET /hold1 HTTP/1.1"])
        assert not [each for each in gateway.all(Suspect) if each.app == spec.name]

        other.exit(3)
        tell(gateway.worker, other, "exit code 3", by_itself=True)
        for get in gets:
            assert (get.answer.status, get.answer.fault) == (502, "instance-exited")
            record = gateway.worker.record(get.answer.id)
            assert record.attempts is not None and [each.instance for each in record.attempts] == [one.name, other.name]
        suspects = until(lambda: [each for each in gateway.all(Suspect) if each.app == spec.name])
        until(lambda: len([each for each in gateway.all(Suspect) if each.app == spec.name]) == 2)
        assert suspects[0].method == "GET" and suspects[0].path.startswith("/hold")
        until(lambda: gateway.in_flight(spec) == 0)
        until(lambda: gateway.blamed(spec.name) == {"instance-exited": 5})


def test_never_on_a_third_instance(gateway: Gateway) -> None:
    """One request ends two instances at most, however many are ready."""
    with processes(3) as (one, two, three):
        spec = gateway.serve(app(one.instance()))
        others = [gateway.later(f"/hold{number}") for number in range(2)]
        until(lambda: len(one.seen) == 2)
        gateway.serve(app(one.instance(), two.instance(), name=spec.name, row=spec.row))
        one.exit(3)
        tell(gateway.worker, one, "exit code 3", by_itself=True)
        until(lambda: len(two.seen) == 2)
        gateway.serve(app(two.instance(), three.instance(), name=spec.name, row=spec.row))
        two.exit(3)
        tell(gateway.worker, two, "exit code 3", by_itself=True)
        assert [each.answer.status for each in others] == [502, 502]
        assert three.seen == []


def test_what_is_listed_as_suspect_is_not_tried_again(gateway: Gateway) -> None:
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        listed, free = gateway.later("/hold?x=1"), gateway.later("/hold2")
        until(lambda: len(one.seen) == 2)
        known = {"name": spec.name, "row": spec.row, "suspects": (("GET", "/hold"),)}
        gateway.serve(app(one.instance(), other.instance(), **known))
        one.exit(3)
        tell(gateway.worker, one, "exit code 3", by_itself=True)
        assert (listed.answer.status, listed.answer.fault) == (502, "instance-exited")
        until(lambda: other.seen == ["GET /hold2 HTTP/1.1"])
        other.kill()
        tell(gateway.worker, other, "signal 9 (SIGKILL)", by_itself=False)
        assert free.answer.status == 502


def test_killed_from_outside_is_no_suspicion(gateway: Gateway) -> None:
    """The only request, and idempotent: the ordinary rule, so it goes to another."""
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        get = gateway.later("/hold")
        until(lambda: one.seen == ["GET /hold HTTP/1.1"])
        gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        one.kill(signal.SIGKILL)
        tell(gateway.worker, one, "signal 9 (SIGKILL)", by_itself=False)
        until(lambda: other.seen == ["GET /hold HTTP/1.1"])
        other.kill(signal.SIGKILL)
        tell(gateway.worker, other, "signal 9 (SIGKILL)", by_itself=False)
        assert get.answer.fault == "instance-exited"
        assert not [each for each in gateway.all(Suspect) if each.app == spec.name]


def test_a_post_is_lost_with_a_killed_instance(gateway: Gateway) -> None:
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        post = gateway.later("/hold", "POST", b"x")
        until(lambda: len(one.seen) == 1)
        spec = gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        one.kill()
        tell(gateway.worker, one, "signal 9 (SIGKILL)", by_itself=False)
        record = gateway.shown(spec, post.answer, faults.INSTANCE_EXITED)
        assert "SIGKILL" in record.detail and other.seen == []


@pytest.mark.slow
def test_without_a_word_from_control_it_counts_as_ended_by_itself(gateway: Gateway) -> None:
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        get = gateway.later("/hold")
        until(lambda: len(one.seen) == 1)
        gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        one.kill()
        record = gateway.worker.record(get.answer.id)
        assert record.fault == "instance-exited" and "not known" in record.detail and other.seen == []


def test_a_client_that_leaves_meanwhile_holds_nothing(gateway: Gateway) -> None:
    with processes(1) as (one,):
        spec = gateway.serve(app(one.instance()))
        with gateway.connect() as client:
            client.send(b"GET /hold HTTP/1.1\r\nHost: a\r\n\r\n")
            until(lambda: len(one.seen) == 1)
            one.kill()
            gateway.worker.wait(Lost, lambda lost: lost.instance == one.name)
        until(lambda: gateway.in_flight(spec) == 0)
        assert gateway.record_of(spec).fault == "client-left"
        gateway.worker.tell(Fate(one.name, one.row, True, words="signal 9 (SIGKILL)"))


def test_an_instance_that_ends_in_the_middle_of_its_answer(gateway: Gateway) -> None:
    with processes(1) as (one,):
        spec = gateway.serve(app(one.instance()))
        with gateway.connect() as client:
            client.send(b"GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
            got = b""
            while b"half of it" not in got:
                got += client.sock.recv(65536)
            one.exit(3)
            client.rest = got
            with pytest.raises(provoke.Cut) as cut:
                client.read()
            assert cut.value.reset
        record = gateway.shown(spec, None, faults.INSTANCE_EXITED)
        assert record.status == 200 and "90 bytes" in record.detail


@provokes(faults.INSTANCE_RECYCLED)
def test_what_outlasts_the_drain_limit_is_cut_and_named(gateway: Gateway) -> None:
    """Control took the instance from the table; its row is still in use, until `Cut`."""
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        get, post = gateway.later("/hold"), gateway.later("/hold", "POST", b"x")
        until(lambda: len(one.seen) == 2)
        gateway.serve(app(other.instance(), name=spec.name, row=spec.row))
        assert gateway.in_flight(spec) == 2, "draining: what is on it goes on"
        gateway.worker.tell(Cut(one.row, "instance-recycled"))
        gateway.shown(spec, post.answer, faults.INSTANCE_RECYCLED)
        until(lambda: other.seen == ["GET /hold HTTP/1.1"])
        gateway.worker.tell(Cut(other.row, "instance-recycled"))
        assert get.answer.fault == "instance-recycled"


def test_stopped_by_us_is_no_suspicion(gateway: Gateway) -> None:
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        get, post = gateway.later("/hold"), gateway.later("/hold", "POST", b"x")
        until(lambda: len(one.seen) == 2)
        gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        one.kill(signal.SIGTERM)
        tell(gateway.worker, one, "stopped: recycle by hand", ours=True)
        assert post.answer.fault == "instance-recycled"
        until(lambda: other.seen == ["GET /hold HTTP/1.1"])
        other.kill()
        tell(gateway.worker, other, "stopped", ours=True)
        assert get.answer.fault == "instance-recycled"
        assert gateway.blamed(spec.name) == {}


@pytest.mark.slow
def test_of_two_workers_neither_had_the_only_one() -> None:
    """One request in each, and control says so: both are tried again, on the other instance."""
    with processes(2) as (one, other):
        first_sock = listening(reuse=True)
        second_sock = listening(reuse=True)
        with worker((first_sock, False), workers=2) as first:
            more = {"board_fd": first.board_fd, "wakeups": first.wakeups, "workers": 2, "column": 1}
            with worker((second_sock, False), **more) as second:
                spec = app(one.instance())
                both = app(one.instance(), other.instance(), name=spec.name, row=spec.row)
                asked = []
                for each in (first, second):
                    each.table(spec)
                    asked.append(provoke.Asking(each.port, "/hold"))
                until(lambda: len(one.seen) == 2)
                for each in (first, second):
                    each.table(both)
                one.exit(3)
                for each in (first, second):
                    each.wait(Lost, lambda lost: lost.instance == one.name)
                for each in (first, second):
                    tell(each, one, "exit code 3", by_itself=True, inflight=2)
                until(lambda: len(other.seen) == 2)
                other.exit(3)
                for each in (first, second):
                    tell(each, other, "exit code 3", by_itself=True, inflight=2)
                assert [each.answer.status for each in asked] == [502, 502]
                for each in (first, second):
                    each.wait(Suspect)



def test_the_last_of_several_to_be_told_is_not_the_only_one(gateway: Gateway) -> None:
    """Here it looks alone, since another worker was told first; control saw two, so it is tried once more."""
    with processes(2) as (one, other):
        spec = gateway.serve(app(one.instance()))
        waiting = gateway.later("/hold")
        until(lambda: one.seen == ["GET /hold HTTP/1.1"])
        gateway.serve(app(one.instance(), other.instance(), name=spec.name, row=spec.row))
        one.exit(3)
        tell(gateway.worker, one, "exit code 3", by_itself=True, inflight=2)
        until(lambda: other.seen == ["GET /hold HTTP/1.1"])
        other.exit(3)
        tell(gateway.worker, other, "exit code 3", by_itself=True, inflight=1)
        assert waiting.answer.status == 502


@pytest.mark.slow
def test_the_row_of_one_that_ended_says_nothing_any_more() -> None:
    """A slow worker: it has a table without the instance, and control freed its row, before it sees the end."""
    with processes(2) as (one, other), worker(workers=2) as under_test:
        gateway = Gateway(under_test)
        spec = gateway.serve(app(one.instance()))
        waiting = gateway.later("/hold")
        until(lambda: one.seen == ["GET /hold HTTP/1.1"])
        gateway.serve(app(other.instance(), name=spec.name, row=spec.row))
        under_test.board.zero_row(one.row)
        one.exit(3)
        tell(under_test, one, "exit code 3", by_itself=True)
        assert waiting.answer.status == 502
        assert other.seen == []
