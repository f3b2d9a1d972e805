"""How processes ended: what is certain, what is not, and what must not be said."""

import pytest

from proxy.diagnostics.analyzers import crash_loop, exits, suspects
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, NOT_KNOWN, VERY_LIKELY, Finding
from proxy.diagnostics.analyzers.situation import explains
from proxy.diagnostics.artifacts import Exit, HostEvent, HostEvents, HostReport, Record
from proxy.diagnostics.verdict import roots
from tests.analyzers.made import NOW, app, attempt, ended, event, instance, known, lines, record, records, ring, run

TRACEBACK = (
    "Traceback (most recent call last):", '  File "/srv/web/app.py", line 33, in work', "    raise ValueError('no')",
    "ValueError: no",
)  # fmt: skip
MB = 1_000_000


def one(found: list[Finding]) -> Finding:
    assert len(found) == 1, [each.id for each in found]
    return found[0]


def exits_of(*ends: Exit, **fields: object) -> list[Finding]:
    whole = fields.pop("whole", [HostReport(oom_kills=0)])
    return run(exits.ANALYZER, known(exits=list(ends), **fields), whole=whole)  # type: ignore[arg-type]


def test_an_uncaught_exception_is_named_with_its_line() -> None:
    found = one(exits_of(ended(), lines={"web-1": lines("ready", *TRACEBACK)}))
    assert found.id == "uncaught-exception" and found.certainty == VERY_LIKELY
    assert "ValueError: no at web/app.py:33 work" in found.cause
    assert found.severity == "warning"


def test_last_lines_are_read_where_no_line_has_a_time() -> None:
    assert one(exits_of(ended(last_lines=list(TRACEBACK)))).id == "uncaught-exception"


def test_an_exception_of_a_minute_before_did_not_end_it() -> None:
    found = one(exits_of(ended(last_lines=[*TRACEBACK]), lines={"web-1": lines(*TRACEBACK, ago=90)}))
    assert found.id == "own-exit" and "ValueError" not in found.cause


def test_another_code_than_the_runtime_gives_is_less_sure() -> None:
    found = one(exits_of(ended(code=3), lines={"web-1": lines(*TRACEBACK)}))
    assert found.certainty == LIKELY and found.unknown


def test_a_code_of_its_own_is_certain_and_why_is_open() -> None:
    found = one(exits_of(ended(code=42), lines={"web-1": lines("bye")}))
    assert found.id == "own-exit" and found.certainty == CERTAIN and "exit code 42" in found.cause and found.unknown


def test_a_code_that_runtimes_give_after_an_error_is_not_certain() -> None:
    found = one(exits_of(ended(code=1), lines={"web-1": lines("bye")}))
    assert found.id == "own-exit" and found.certainty == LIKELY and found.rivals


def test_an_end_that_triage_asked_for_is_none() -> None:
    assert not exits_of(ended(ours=True, why="a deploy"), ended(ago=4000))


def test_a_signal_of_nobody_here_has_no_name_for_who_sent_it() -> None:
    found = one(exits_of(ended(signal=9)))
    assert found.id == "killed" and "Triage did not send" in found.cause and found.unknown.startswith("Who sent it")
    assert any("no out-of-memory kill" in each.text for each in found.against)
    assert not any(each.act for each in found.remedies)


def test_a_crash_says_its_signal_and_where() -> None:
    printed = lines(
        "Fatal Python error: Segmentation fault", "", "Current thread 0x1 (most recent call first):",
        '  File "/srv/web/app.py", line 20 in call',
    )  # fmt: skip
    kernel = HostEvents(events=[HostEvent(at=NOW - 30, kind="segfault", text="python[9]: segfault at 0 ip 0")])
    found = one(exits_of(ended(signal=11, by_itself=True), lines={"web-1": printed}, whole=[kernel]))
    assert found.id == "native-crash" and "app.py:20 call" in found.cause and not found.unknown
    assert one(exits_of(ended(signal=11))).unknown


@pytest.mark.parametrize(("oom", "certainty"), [("certain", CERTAIN), ("likely", LIKELY)])
def test_memory_is_certain_by_its_own_counter_only(oom: str, certainty: str) -> None:
    found = one(exits_of(ended(signal=9, oom=oom, memory=400 * MB, memory_limit=512 * MB)))
    assert found.id == "out-of-memory" and found.certainty == certainty
    assert any(each.fields.get("memory") == "1024MB" or "memory" in each.fields for each in found.remedies)


def test_the_kernel_line_must_name_this_one_to_be_certain() -> None:
    text = "Memory cgroup out of memory: Killed process 1001 (python)"
    mine = HostEvent(at=NOW - 29, kind="oom-kill", text=text, pid=1001)
    there = HostEvent(at=NOW - 29, kind="oom-kill", text=text, pid=7, where="/triage-1/web-1")
    limited = ended(signal=9, memory_limit=512 * MB)
    assert one(exits_of(ended(signal=9), whole=[HostEvents(events=[mine])])).certainty == CERTAIN
    assert one(exits_of(limited, whole=[HostEvents(events=[there])])).certainty == VERY_LIKELY
    of_others = [HostEvents(events=[there]), HostReport(oom_kills=1)]
    assert one(exits_of(ended("web-2", signal=9, memory_limit=512 * MB), whole=of_others)).id == "killed"
    far = HostEvents(events=[HostEvent(at=NOW - 300, kind="oom-kill", text=text, pid=1001)])
    assert one(exits_of(ended(signal=9), whole=[far, HostReport(oom_kills=1)])).id == "killed"


def test_a_full_memory_without_a_counter_is_likely_and_says_what_else() -> None:
    end = ended(signal=9, memory=510 * MB, memory_limit=512 * MB)
    found = one(exits_of(end, whole=[]))
    assert found.id == "out-of-memory" and found.certainty == LIKELY and "by hand" in found.unknown
    assert one(exits_of(end, whole=[HostReport(oom_kills=3)])).id == "killed"


def test_the_heap_of_node_is_not_the_kernel() -> None:
    said = lines("FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory")
    found = one(exits_of(ended(signal=6), lines={"web-1": said}))
    assert found.id == "heap-limit" and found.certainty == VERY_LIKELY


def test_a_code_of_a_shell_is_a_signal_inside() -> None:
    found = one(exits_of(ended(code=137), app=app(command=["sh", "-c", "./run"])))
    assert found.id == "killed-inside" and found.certainty == LIKELY and "SIGKILL" in found.cause


def test_exit_code_0_is_of_its_own_will() -> None:
    found = one(exits_of(ended(code=0)))
    assert found.id == "ends-by-itself" and found.severity == "info"
    lost = [record(30, fault="instance-exited", status=502, attempts=[attempt(fault="instance-exited")])]
    assert one(exits_of(ended(code=0), records=lost)).severity == "warning"


def test_what_it_cost_is_counted() -> None:
    tries = [attempt(fault="instance-exited", sent=100)]
    lost = [record(30.2, fault="instance-exited", status=502, method="POST", attempts=tries) for _ in range(2)]
    saved = [record(30.2, attempts=[*tries, attempt("web-2", status=200)]) for _ in range(3)]
    found = one(exits_of(ended(), records=[*lost, *saved]))
    assert any("5 attempts ended with it; 3 of them were answered" in each.text for each in found.evidence)


def test_cut_by_draining_is_as_planned() -> None:
    cut = [record(20, fault="instance-recycled", status=502, total=31.0)]
    found = one(run(exits.ANALYZER, known(records=cut, events=[event("drain-cut", "web-1 outlasted 30 s")])))
    assert found.id == "cut-by-drain" and found.certainty == CERTAIN


def test_cut_when_a_hung_one_was_replaced_comes_after_the_hang() -> None:
    cut = [record(20, fault="instance-recycled", status=502, total=12.0)]
    events = [event("heal", "hung (built in) fires: recycle web-1; it saw: nothing answered", 40, instance="web-1"),
              event("drain-cut", "web-1 outlasted 5 s", 9, instance="web-1")]  # fmt: skip
    found = one(run(exits.ANALYZER, known(records=cut, events=events)))
    assert found.certainty == NOT_KNOWN and "A rule of autoheal replaced web-1" in found.cause and found.unknown
    hang = Finding(id="workers-exhausted", title="", cause="", severity="warning", certainty=LIKELY, care="",
                   explains=explains())  # fmt: skip
    assert [each.id for each in roots([found, hang])] == ["workers-exhausted"]
    others = [event("heal", "hung fires: recycle web-2", 40, instance="web-2"), events[1]]
    assert one(run(exits.ANALYZER, known(records=cut, events=others))).certainty == CERTAIN


# --- again and again ---------------------------------------------------------------------------------


def test_a_crash_loop_has_the_cause_in_it() -> None:
    ends = [ended(f"web-{n}", ago=200 - 20 * n, lasted=19.0, last_lines=list(TRACEBACK)) for n in range(1, 6)]
    found = one(run(crash_loop.ANALYZER, known(exits=ends)))
    assert found.severity == "critical" and found.certainty == VERY_LIKELY
    assert "ValueError" in found.cause and "about every 20 s" in found.cause
    assert "crash-loop" in one(run(exits.ANALYZER, known(exits=ends))).explains


def test_two_ends_or_ends_of_different_kinds_are_no_loop() -> None:
    assert not run(crash_loop.ANALYZER, known(exits=[ended(ago=100), ended(ago=50)]))
    mixed = [ended(ago=100), ended(ago=80, signal=9), ended(ago=60, code=0)]
    assert not run(crash_loop.ANALYZER, known(exits=mixed))
    assert not run(crash_loop.ANALYZER, known(exits=[ended(ago=ago, ours=True) for ago in (100, 80, 60)]))


# --- a suspect ---------------------------------------------------------------------------------------


def lost(name: str, ago: float, target: str) -> Record:
    fault = attempt(name, fault="instance-exited", took_us=200_000)
    return record(
        ago + 0.2, target=target, instance=name, total=0.2, fault="instance-exited", status=502, attempts=[fault]
    )


def test_what_was_there_each_time_is_a_suspect() -> None:
    ends = [ended(f"web-{n}", ago=300 - 50 * n) for n in range(1, 5)]
    there = [lost(one.instance, NOW - one.at, "/api/export?id=1") for one in ends]
    by_chance = [lost("web-2", NOW - ends[1].at, "/")]
    good = records(400, span=300, target="/", total=0.02)
    found = one(run(suspects.ANALYZER, known(exits=ends, records=[*there, *by_chance, *good])))
    assert found.title.startswith("GET /api/export") and "4 of 4 ends" in found.cause
    assert found.certainty == VERY_LIKELY and found.paths == ["/api/export"]


def test_what_is_always_under_way_is_none() -> None:
    ends = [ended(f"web-{n}", ago=300 - 50 * n) for n in range(1, 4)]
    there = [lost(one.instance, NOW - one.at, "/stream") for one in ends]
    good = records(60, span=300, target="/stream", total=20.0)
    assert not run(suspects.ANALYZER, known(exits=ends, records=[*there, *good]))


def test_one_that_was_alone_on_it_is_likely_only() -> None:
    good = records(200, span=300, target="/", total=0.02)
    single = [lost("web-1", 30, "/boom")]
    found = one(run(suspects.ANALYZER, known(exits=[ended()], records=[*single, *good])))
    assert found.certainty == LIKELY and "the only request there" in found.cause
    assert "1 of 1" not in f"{found.cause} {found.evidence}" and found.rivals[0].cause == "a coincidence"
    both = [*single, lost("web-1", 30, "/other")]
    assert not run(suspects.ANALYZER, known(exits=[ended()], records=[*both, *good]))
    another = ended("web-2", ago=60)
    assert not run(suspects.ANALYZER, known(exits=[another, ended()], records=[*single, *good])), "one had none"


def test_one_that_was_there_at_one_end_as_requests_always_are_is_none() -> None:
    single = [lost("web-1", 30, "/boom")]
    busy = records(200, span=300, target="/", total=1.0)
    assert not run(suspects.ANALYZER, known(exits=[ended()], records=[*single, *busy]))
    flying = {"web-1": ring(in_flight=0.8)}
    assert not run(suspects.ANALYZER, known(exits=[ended()], rings=flying, records=[*single, record(250)]))
    assert not run(suspects.ANALYZER, known(exits=[ended()], records=single)), "nothing is known of before"


def test_a_kill_from_elsewhere_makes_no_suspects() -> None:
    ends = [ended(f"web-{n}", ago=300 - 50 * n, signal=9) for n in range(1, 5)]
    there = [lost(one.instance, NOW - one.at, "/api/export") for one in ends]
    assert not run(suspects.ANALYZER, known(exits=ends, records=there))


def test_memory_before_the_end_is_told() -> None:
    rings = {"web-1": ring(memory=lambda at: 100e6 + max(0, at - 540) * 8e6)}
    end = ended(ago=5, signal=9, oom="certain", memory_limit=512 * MB)
    found = one(exits_of(end, rings=rings, instances=[instance("web-2")]))
    assert any("rose from" in each.text for each in found.evidence)


def test_each_after_as_many_requests() -> None:
    ends = [ended(f"web-{n}", ago=100 - 20 * n, lasted=15.0, code=0) for n in (1, 2, 3)]
    rings = {one.instance: ring(200, requests=[10.0] * 12 + [0.0] * int(NOW - one.at)) for one in ends}
    found = one(exits_of(*ends, rings=rings))
    assert any("about as many requests: 120, 120, 120" in each.text for each in found.evidence)
    assert not run(crash_loop.ANALYZER, known(exits=ends))
