"""What each fault means: one function a family, one row a fault, and a test that no fault is without.

A function gets the facts and says why (the mechanism), what lies behind it as far as can be known, and what to do.
Longer than most, because it is read like a table.

Certainty is given by rule: *certain* only for what one direct record shows (our own clock, an errno of connect(2), an
exit status, a cgroup's counter, our own act); *likely* for one kind of evidence; *very likely* for two independent
ones; otherwise NOT KNOWN, and it says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers.contract import CERTAIN, LIKELY, NOT_KNOWN, VERY_LIKELY
from proxy.diagnostics.facts import AppFacts, ExitFacts, Facts, InstanceFacts
from proxy.diagnostics.reading import at_rest, frames, last_words, traceback_line
from proxy.diagnostics.text import clean, stamp
from proxy.faults import FAULTS
from proxy.link.messages import Record


@dataclass(slots=True)
class Cause:
    """Three blocks of an answer; `certainty` is that of the first claim of `cause`."""

    why: list[str] = field(default_factory=list)
    cause: list[str] = field(default_factory=list)
    do: list[str] = field(default_factory=list)
    certainty: str = NOT_KNOWN


class Case:
    """Facts with what most rows need, never None where a sentence wants a word."""

    def __init__(self, facts: Facts, record: Record) -> None:
        self.facts = facts
        self.record = record
        self.fault = FAULTS[record.fault]
        self.app = facts.app or AppFacts(record.app or "the app")
        self.there = facts.instance or InstanceFacts(record.instance or "the instance")
        self.name = record.app or "the app"
        self.instance = record.instance or "the instance"
        self.exit = facts.exit
        self.detail = clean(record.detail, 200)
        self.words = self.fault.words
        self.ends = self.fault.ends.replace("apps.NAME", f"apps.{self.name}").replace("why APP", f"why {self.name}")

    @property
    def many(self) -> bool:
        """Others end so too, now."""
        return self.facts.counts.recent > 1

    def said(self) -> list[str]:
        return [f"In detail: {self.detail}."] if self.detail else []

    def printed(self) -> str:
        """The line of its output that names an error, if it was printed while this request was there."""
        begin, end = self.record.time, self.record.time + self.record.total_us / 1e6 + 0.5
        near = [line.text for line in self.facts.lines if begin <= line.at <= end]
        mine = [text for text in near if self.record.id in text]
        return traceback_line(mine) or traceback_line(near)

    def at(self) -> str:
        return f" at {self.there.address}" if self.there.address and self.there.address != self.instance else ""


def client(case: Case) -> Cause:
    """The request itself was refused."""
    return Cause(
        [case.words, *case.said()],
        ["Certain: the client. This is what it sent; no instance and no setting of the app had a part in it."],
        [f"now    {case.ends}", _same(case)],
        CERTAIN,
    )


def rate_limited(case: Case) -> Cause:
    who = clean(case.record.client, 60) or "the client"
    return Cause(
        [case.words, *case.said()],
        [f"Certain: requests of {who} came faster than apps.{case.name}.rate_limit lets one client send."],
        [f"now    {case.ends}", f"check  triage requests --app {case.name} --fault rate-limited     who else"],
        CERTAIN,
    )


def no_route(case: Case) -> Cause:
    host = clean(case.record.host, 60) or "(none)"
    return Cause(
        [f"No app has host {host} with this path, so nobody was asked."],
        ["Certain: the routing table in force has no match. Likely a wrong host name, or a path that no app serves."],
        ["check  hosts and paths of each app in the config: triage status lists the apps", f"now    {case.ends}"],
        CERTAIN,
    )


def loop(case: Case) -> Cause:
    return Cause(
        ["This request has been through this gateway already: its own name is in the request's Via field."],
        ["Certain: an address of an app leads back here, or an app sends what it gets to this gateway again."],
        [f"now    {case.ends}"],
        CERTAIN,
    )


def client_timeout(case: Case) -> Cause:
    waited = units.duration(case.record.total_us / 1e6)
    return Cause(
        [f"The client had not sent its whole request after {waited}, so the gateway stopped waiting.", *case.said()],
        ["Likely its network: the gateway waited with open ears. NOT KNOWN: what happened on the client's side."],
        [f"now    nothing, if it is rare. {case.ends}", _same(case)],
        LIKELY,
    )


_ROUND: Final = (1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 300.0)


def client_left(case: Case) -> Cause:
    total = case.record.total_us / 1e6
    phase = f"while {case.instance} worked on it" if case.record.instance else "before an instance had it"
    near = next((limit for limit in _ROUND if abs(total - limit) <= 0.02 * limit + 0.05), None)
    if case.record.fault == "client-stalled":
        cause = ["NOT KNOWN: why the client stopped reading. Most often it is a lost network or a suspended program."]
        certainty = NOT_KNOWN
        why = "The client stopped reading its response, and gateway.timeouts.body passed. It was cut."
    else:
        why = f"The client closed its connection after {units.duration(total)}, {phase}."
        if near is not None:
            cause = [f"Likely a time limit of the client's own: {units.duration(total)} is close to {near:g} s."]
            certainty = LIKELY
        else:
            cause = ["NOT KNOWN: why it left. A person who went on, a closed program and a lost network look alike."]
            certainty = NOT_KNOWN
    if case.app.wait_p50 is not None and total > 4 * case.app.wait_p50:
        usual = units.duration(case.app.wait_p50)
        cause.append(f"The app usually begins to answer after {usual}; this client had waited longer than that.")
    return Cause(
        [why, *case.said()],
        cause,
        [f"now    nothing, if it is rare: {units.count(max(1, case.facts.counts.recent))} in 15 min", _same(case)],
        certainty,
    )


def absent(case: Case) -> Cause:
    """No instance could be picked."""
    app, name = case.app, case.record.fault
    do = [f"check  triage why {case.name}     how it is at this moment"]
    if name == "no-instance":
        why = f"{case.name} is set to have no instance, so nobody could be asked."
        said = f"an operator's word ({clean(app.count_by, 120)})" if app.count_by else "the config"
        cause, certainty = [f"Certain: {said}. {case.name} wants {app.wanted} now."], CERTAIN
        by_hand = f"now    triage scale {case.name} auto     as many as the config says"
        do.insert(0, by_hand if app.count_by else f"now    {case.ends}")
    elif name == "stopped":
        why = f"{case.name} was stopped by hand, so its requests are turned away."
        cause = [f"Certain: an operator's act{f' ({clean(app.stopped_by, 120)})' if app.stopped_by else ''}."]
        certainty = CERTAIN
        do.insert(0, f"now    triage start {case.name}")
    elif name == "held-too-long":
        queue = units.duration(app.queue_timeout) if app.queue_timeout else "queue.timeout"
        why = f"The requests of {case.name} are held by hand; this one waited {queue} and was turned away."
        cause = [f"Certain: an operator's act{f' ({clean(app.stopped_by, 120)})' if app.stopped_by else ''}."]
        certainty = CERTAIN
        do.insert(0, f"now    triage release {case.name}")
    else:
        state = "ready" if name == "all-unready" else "admitting"
        why = f"No instance of {case.name} was {state}, and none became so within the time in the queue."
        cause, certainty = _why_absent(case, name)
        do.append("later  " + case.ends)
        if name == "all-ejected":
            mine = app.ejected_by_hand[:3]
            do[:0] = [f"now    triage admit {case.name}/{one}     it was ejected by hand" for one in mine]
    return Cause([why, *case.said()], cause, do, certainty)


def _elsewhere(instance: InstanceFacts) -> str:
    """Where it listens, if whoever connects to its address does not get there."""
    port = instance.address.rpartition(":")[2]
    right = (instance.address, f"0.0.0.0:{port}", f"[::]:{port}")
    return "" if any(one in right for one in instance.listens_on) else ", ".join(instance.listens_on[:3])


def _why_absent(case: Case, name: str) -> tuple[list[str], str]:
    """What the instances were doing *then*: what happened to them later explains nothing."""
    app, begin = case.app, case.record.time
    end = begin + case.record.total_us / 1e6
    for instance in app.instances:
        there = instance.uptime is not None and case.facts.now - instance.uptime <= end
        if there and instance.lifecycle in ("starting", "warming"):
            if where := _elsewhere(instance):
                said = f"Certain: {instance.name} runs but listens on {where}, not at {instance.address}."
                port = instance.address.rpartition(":")[2]
                own = any(one.rpartition(":")[2] == port for one in instance.listens_on)
                do = "Let it listen on 127.0.0.1." if own else "Pass {port} in its command, or let it read $PORT."
                return [said, do], CERTAIN
            if instance.why:
                return [f"Likely: {instance.name} is {instance.lifecycle}: {clean(instance.why, 200)}."], LIKELY
    if name == "all-unready":
        for who, last in reversed(app.exits):
            if last.ours and last.at > begin and last.at - last.lasted <= end:
                said = f"Likely: {who} ran and was not ready. Triage stopped it at {stamp(last.at)}."
                told = [one.text for one in case.facts.events if one.text.startswith(f"{who} was not ready")]
                return [said, *(f"Certain: {clean(text, 200)}." for text in told[:1]), *_last(last)], LIKELY
        earlier = [(who, one) for who, one in app.exits if one.at <= end]
        if earlier:
            who, last = earlier[-1]
            by = " Triage had stopped it." if last.ours else ""
            lasted = units.duration(last.lasted)
            said = f"Certain: {who} ended with {last.words} after {lasted}, at {stamp(last.at)}.{by}"
            many = [f"{len(earlier)} ends of instances up to then."] if len(earlier) > 1 else []
            return [said, *_last(last), *many], CERTAIN
    for instance in app.instances:
        if instance.probe and not instance.probe_ok:
            return [f"Likely: the check of {instance.name} fails: {clean(instance.probe, 160)}."], LIKELY
        if instance.ejection:
            return [f"Certain: {instance.name} is ejected: {clean(instance.ejection, 160)}."], CERTAIN
    for instance in app.instances:
        if instance.why:
            return [f"Likely: {instance.name} is {instance.lifecycle}: {clean(instance.why, 160)}."], LIKELY
    return ["NOT KNOWN from here any more: since then the instances have changed."], NOT_KNOWN


def overloaded(case: Case) -> Cause:
    """No slot, no place in the queue."""
    app = case.app
    limit = units.duration(app.queue_timeout) if app.queue_timeout else "queue.timeout"
    if case.record.fault == "queue-timeout":
        why = f"No slot came free within {limit} (queue.timeout), so {case.name} turned this request away."
    elif case.record.fault == "queue-full":
        why = f"All slots of {case.name} were taken, and all {app.queue_size or ''} places of its queue too."
        why = why.replace("  ", " ")
    else:
        why = f"The queue of {case.name} did not drain: its oldest requests were turned away for the newest."
    slots = f"{app.ready} ready x max_inflight {app.max_inflight}" if app.max_inflight else "their limit is adaptive"
    whys = [why]
    if app.slots:
        whys.append(f"Now {app.in_flight} of {app.slots} slots are taken ({slots}), and {app.waiting} wait.")
    cause = [*_busy(case)]
    certainty = LIKELY if cause else NOT_KNOWN
    if not cause:
        cause = [
            "NOT KNOWN: what held the slots then; they are not taken now. The slow requests of that time say more."
        ]
    if case.facts.lag < 0.05:
        cause.append(f"Not the gateway: its loop was {units.duration(case.facts.lag)} late at the time.")
    return Cause(
        whys,
        cause,
        [
            f"check  triage requests --app {case.name} --slower 1s     what holds the slots",
            "don't  restart it for that alone: fresh instances wait for the same, if it waits for something",
            f"later  {case.ends}",
        ],
        certainty,
    )


def _busy(case: Case) -> list[str]:
    """What the instances do, from stacks, CPU and the time they take to answer."""
    app = case.app
    said = _stack(case)
    hot = [i for i in app.instances if i.cpu is not None and i.cpu >= 0.9 * (i.cpu_limit or 1.0)]
    if hot:
        cores = ", ".join(f"{i.name} {i.cpu:.2f}" for i in hot[:3])
        said.append(f"Likely they compute: CPU in cores now: {cores}.")
    elif app.slots and app.in_flight >= 0.9 * app.slots and app.instances:
        cpu = sum(i.cpu or 0.0 for i in app.instances)
        said.append(f"Likely they wait for something rather than compute: all together use {cpu:.2f} cores now.")
    if app.wait_p50 is not None and app.slots and app.wait_p50 > 0:
        through = app.slots / app.wait_p50
        said.append(
            f"At the median wait of {units.duration(app.wait_p50)}, {app.slots} slots let "
            f"{units.count(through)} requests/s through; {units.count(app.per_second)} come now."
        )
    return said if hot or (said and (app.in_flight or case.facts.stacks)) else []


def own(case: Case) -> Cause:
    """The gateway's own limits and defects."""
    name = case.record.fault
    why = [case.words, *case.said()]
    do = [f"now    {case.ends}"]
    if name == "internal-error":
        cause = ["Certain: a defect of Triage. Neither the client nor the app did anything wrong here."]
        do.append("check  the traceback in Triage's own log at that time, by this request's id")
        return Cause(why, cause, do, CERTAIN)
    if name == "ports-exhausted":
        cause = [f"Certain: connect(2) to {case.instance} found no free local port, or no address of this machine's "
                 "from which it can be reached (EADDRNOTAVAIL)."]  # fmt: skip
        cause.append("Likely the app closes its connections after each answer, so each request needs a new one.")
    elif name == "descriptors-exhausted":
        other = case.detail and case.detail != "Too many open files"  # ENFILE, ENOBUFS, ENOMEM
        cause = [f"Certain: the kernel gave the worker no socket: {case.detail}."] if other else [
            "Certain: the worker's descriptors were used up (EMFILE)."
        ]
    else:
        which = f"the worker said which: {case.detail}" if case.detail else "the worker turned it away by itself"
        cause = [f"Certain: a limit of the gateway's own; {which}."]
        cause.append(f"Its loop was {units.duration(case.facts.lag)} late at the time.")
    if case.facts.descriptors:
        used, most = case.facts.descriptors
        cause.append(f"Descriptors now: {units.count(used)} of {units.count(most)}.")
    return Cause(why, cause, [*do, "check  triage status     connections, lag and notices of each worker"], CERTAIN)


def connect(case: Case) -> Cause:
    """Nothing of the request got away."""
    there, name = case.there, case.record.fault
    why = [f"The gateway could not connect to {case.instance}{case.at()}: {case.words[0].lower()}{case.words[1:]}"]
    why += case.said()
    cause, certainty = _why_unreachable(case)
    do = [f"now    {case.ends.replace('{port}', there.address.rpartition(':')[2] or 'its port')}"]
    if name in ("connect-refused", "connect-timeout"):
        do.append("check  triage status     whether it runs, and what its check says")
    return Cause(why, cause, do, certainty)


def _why_unreachable(case: Case) -> tuple[list[str], str]:
    there, name = case.there, case.record.fault
    ended = _ended_near(case)
    if name == "connect-refused" and ended is not None:
        return [f"Certain: {case.instance} had ended: {ended.words}, at {stamp(ended.at)}.", *_last(ended)], CERTAIN
    if name == "connect-refused" and (where := _elsewhere(there)):
        return [f"Very likely a wrong port: {case.instance} runs, but listens on {where}."], VERY_LIKELY
    if name == "connect-refused":
        if there.pid:
            return [f"NOT KNOWN: {case.instance} (pid {there.pid}) runs; at that moment it did not listen."], NOT_KNOWN
        return ["Certain: the kernel there answered that nothing listens. NOT KNOWN from here: why not."], CERTAIN
    if name == "connect-timeout":
        if there.pid and there.cpu is not None:
            doing = "computes" if there.cpu >= 0.9 else "does not compute"
            said = f"Likely its accept queue is full because it hangs: it runs and {doing} ({there.cpu:.2f} cores)."
            return [said, *_stack(case)], LIKELY
        return [
            "NOT KNOWN: a hung process with a full accept queue and dropped packets look alike from here."
        ], NOT_KNOWN
    if name == "tls-certificate":
        return ["Certain: the certificate that it showed did not pass; the detail says what was wrong."], CERTAIN
    if name == "tls-error":
        return ["Likely it does not speak TLS at that port, or no version or cipher that both know."], LIKELY
    if name.startswith("dns"):
        return [
            "Certain: this machine's resolver gave no address. NOT KNOWN: whether the name or the resolver."
        ], CERTAIN
    return ["Certain: the kernel has no way there. NOT KNOWN: whether route, firewall or the machine."], CERTAIN


def closed(case: Case) -> Cause:
    """The connection ended before a whole answer."""
    name = case.record.fault
    if name == "instance-exited":
        return exited(case)
    waited = f" after {units.duration(case.record.wait_us / 1e6)}" if case.record.wait_us is not None else ""
    how = "reset" if name == "reset-before-head" else "closed"
    if name == "stale-connection":
        tries = case.record.attempts or []
        fresh = [
            one.instance for one in tries if not one.reused and one.fault in ("closed-before-head", "reset-before-head")
        ]
        first = next((one for one in tries if one.fault == "stale-connection"), None)
        idle_us = first.idle_us if first is not None else case.record.idle_us
        idle = f" that had been idle for {units.duration(idle_us / 1e6)}" if idle_us is not None else ""
        if fresh:
            return Cause(
                [f"A reused connection{idle} was closed without an answer, and {len(fresh)} fresh ones after it too."],
                ["Likely this request itself: a race of the keep-alive time does not close fresh connections."],
                [*_logs(case), _same(case)],
                LIKELY,
            )
        return Cause(
            [f"A connection to {case.instance}{idle} was closed just as it was reused."],
            ["Very likely the app's keep-alive time: it ended as the request was under way. No sign of ill health."],
            ["now    nothing: Triage learns the time and lets go earlier", _same(case)],
            VERY_LIKELY,
        )
    if name == "body-truncated":
        part = units.size(case.record.bytes_out)
        why = f"{case.instance} closed the connection in the middle of its response; the client had {part} of it."
    else:
        why = f"{case.instance} {how} the connection{waited} without answering."
    cause, certainty = _why_closed(case)
    return Cause([why, *case.said()], cause, [*_logs(case), _same(case)], certainty)


def _why_closed(case: Case) -> tuple[list[str], str]:
    ended = _ended_near(case)
    if ended is not None:
        said = f"Likely its end: {case.instance} ended with {ended.words} at {stamp(ended.at)}, about then."
        return [said, *_last(ended)], LIKELY
    line = case.printed()
    if line:
        return [f"Likely an error in the app. It printed while it had this request: {clean(line, 140)}"], LIKELY
    gone = " Its process did not end." if case.there.pid and case.there.kind == "process" else ""
    return [f"NOT KNOWN: why it closed.{gone} Nothing that it printed at that time explains it."], NOT_KNOWN


def exited(case: Case) -> Cause:
    """Its process ended with the request on it."""
    ended = case.exit
    r = case.record
    if ended is None:
        return Cause(
            [f"The process of {case.instance} ended while it had this request.", *case.said()],
            ["NOT KNOWN any more: how it ended; control has started anew since. Its log at that time may say."],
            [*_logs(case), _same(case)],
        )
    do = [f"check  triage requests --instance {case.instance} --fault instance-exited     what else was lost"]
    if ended.oom == "certain":
        size = f" ({units.size(case.there.memory_limit)})" if case.there.memory_limit else ""
        why = [
            f"The kernel killed {case.instance} for using all its memory{size} while it had this request.",
            f"Certain: its cgroup counted an oom_kill; {ended.words}; Triage had sent no signal.",
        ]
        if limit := case.there.memory_limit:
            more = units.write_size(2 * limit)
            do.append(f"now    triage scale {case.name} --memory {more}     one instance at a time, no request lost")
        do.append(f"later  more memory (apps.{case.name}.process.memory), or find what grows")
    elif ended.oom == "likely":
        why = [
            f"{case.instance} was killed ({ended.words}) while it had this request.",
            "Likely for want of memory: an out-of-memory kill was counted at that moment. The counter is not this "
            "instance's alone, so a kill by hand at the same time would look alike.",
        ]
        do.append(f"later  more memory for {case.instance}, or find what grows")
    else:
        why = [
            f"The process of {case.instance} ended with {ended.words} while it had this request.",
            f"Certain: its exit status, {units.duration(ended.lasted)} after its start. "
            + ("Triage had stopped it." if ended.ours else "Triage had sent it no signal."),
        ]
    cause, certainty = _why_exited(case, ended)
    method = f"{r.method} {clean(r.target.partition('?')[0], 40)}"
    if method in case.app.suspects:
        cause.append(f"{method} is a suspect: it was on two instances when they ended. It is not sent again.")
    return Cause(why, cause, [*do, *_logs(case)], certainty)


def _why_exited(case: Case, ended: ExitFacts) -> tuple[list[str], str]:
    request = f"{case.record.method} {clean(case.record.target.partition('?')[0], 40)}"
    line = _last_words(case, ended)
    grew = _growth(case)
    if ended.by_itself and line:
        return [f"Very likely an error that it did not survive. Its last words: {clean(line, 130)}", *grew], VERY_LIKELY
    if ended.oom != "no":
        said = [f"Likely what it had in hand; this {request} was a part of it.", *grew]
        return [*said, "Not proven: it died before its stack could be taken."], LIKELY
    if ended.by_itself:
        others = case.facts.counts.same_second
        alone = "It was alone on it." if others <= 1 else f"{others} requests ended with it."
        return [f"Likely {request} itself: it was on the instance when that ended. {alone}", *grew], LIKELY
    if ended.signal is not None and not ended.ours:
        what = f"Certain: {ended.words} ended it, and Triage did not send it. NOT KNOWN: who did."
        return [what, "Somebody on this machine, a process of the app's own, or the kernel: they look alike."], CERTAIN
    if ended.code == 0:
        return ["Likely of its own will: exit code 0. Servers that end after some number of requests do this."], LIKELY
    return ["NOT KNOWN: nothing that it printed says why."], NOT_KNOWN


def recycled(case: Case) -> Cause:
    stop = "process.stop.timeout"
    return Cause(
        [f"Triage stopped {case.instance}, and this request was not done when the time for draining had passed."],
        ["Certain: Triage's own act; the events at that time say who or what asked for it."],
        [f"later  {case.ends.replace('process.stop.timeout', f'apps.{case.name}.{stop}')}", _same(case)],
        CERTAIN,
    )


def hanging(case: Case) -> Cause:
    """A time limit towards the instance passed: our own clock, so the mechanism is certain."""
    app, r = case.app, case.record
    limits = {
        "head-timeout": (app.first_byte, "timeouts.first_byte", "had the whole request but sent no response head"),
        "total-timeout": (app.total, "timeouts.total", "had not answered whole"),
        "send-timeout": (app.idle, "timeouts.idle", "stopped reading the request's content"),
        "body-timeout": (app.idle, "timeouts.idle", "stopped in the middle of its response"),
    }
    limit, key, what = limits[r.fault]
    within = f"within {units.duration(limit)} ({key})" if limit else f"within {key}"
    if r.fault in ("send-timeout", "body-timeout"):
        within = within.replace("within", "for longer than", 1)
    why = [f"{case.instance} {what} {within}.", *case.said()]
    cause, certainty = _why_hanging(case)
    if case.facts.lag < 0.05:
        cause.append(f"Not the gateway: its loop was {units.duration(case.facts.lag)} late.")
    usual = f" (the median wait is {units.duration(app.wait_p50)})" if app.wait_p50 is not None else ""
    return Cause(
        why,
        cause,
        [
            f"check  triage requests --app {case.name} --fault {r.fault}     the same path each time?",
            f"later  apps.{case.name}.{key} if it may take so long{usual}",
        ],
        certainty,
    )


def _why_hanging(case: Case) -> tuple[list[str], str]:
    """From its CPU then and its stack now; the two together are more than each, if it still hangs."""
    there = case.there
    used = [sample.cpu for sample in there.used if sample.at >= case.record.time + 0.5]
    used = used or ([there.cpu] if there.cpu is not None and there.pid else [])
    mean = sum(used) / len(used) if used else None
    busy = mean is not None and mean >= 0.9 * (there.cpu_limit or 1.0)
    quiet = mean is not None and mean < 0.2
    cores = f"{mean:.2f} cores on average around that time" if mean is not None else ""
    found = frames(case.facts.stacks)
    if found and not at_rest(case.facts.stacks):
        then = case.facts.stacks_at
        still = there.in_flight > 0 or not there.probe_ok or then > 0
        sure = VERY_LIKELY if still and (busy or quiet) else LIKELY
        doing = "it computes at" if busy else "it waits, blocked, at" if quiet else "it is at"
        said = [f"{sure.capitalize()} {doing} {clean(found[0], 190)}."]
        when = f"at {stamp(then)}, taken before it was replaced" if then else "of this moment"
        said.append(f"That is its stack {when}{f'; CPU: {cores}' if cores else ''}.")
        return said, sure
    if busy:
        return [f"Likely it computes: {cores}."], LIKELY
    if quiet:
        rest = ["By now it is at rest: nothing hangs any more."] if found and not there.in_flight else []
        return [f"Likely it waits for something rather than compute: {cores}.", *rest], LIKELY
    if found and there.in_flight:
        return ["Likely it awaits something outside: its event loop is idle while requests are in flight."], LIKELY
    return [f"NOT KNOWN: what {case.instance} did. No stack was taken while it lasted."], NOT_KNOWN


def malformed(case: Case) -> Cause:
    """The instance answered, but not as HTTP says."""
    cause = ["Certain: the app, or what stands before it. The bytes came as they are shown below."]
    bad = case.facts.malformed
    if bad is not None:
        cause = [f"Certain: the app sent it. It went wrong at byte {bad.offset}: {clean(bad.why, 120)}."]
    elif case.record.fault == "response-head-too-large":
        cause = ["Certain: the head of its response is larger than the limit. Most often it is cookies that pile up."]
    return Cause(
        [f"{case.instance}: {case.words[0].lower()}{case.words[1:]}", *case.said()],
        cause,
        [f"now    {_MEND.get(case.record.fault, case.ends)}", _same(case)],
        CERTAIN,
    )


_MEND: Final = {"bad-response": "mend the app: what it sends at that path is not HTTP/1.1"}


def app_error(case: Case) -> Cause:
    line = case.printed()
    if line:
        cause, certainty = [f"Likely what it printed while it had this request: {clean(line, 140)}"], LIKELY
    else:
        cause, certainty = ["NOT KNOWN: the app printed nothing at that time that names an error."], NOT_KNOWN
    return Cause(
        [f"{case.instance} itself answered {case.record.status}. The gateway passed its answer on as it was."],
        cause,
        [*_logs(case), f"check  triage requests --app {case.name} --status 5xx     which paths"],
        certainty,
    )


# --- sentences that several rows share ---------------------------------------------------------------


def _same(case: Case) -> str:
    scope = f" --app {case.record.app}" if case.record.app else ""
    return f"check  triage requests{scope} --fault {case.record.fault}     others like it"


def _logs(case: Case) -> list[str]:
    if case.there.kind != "process":
        return ["check  the log of that instance at that time; it is not Triage's child, so it can't be seen from here"]
    return [f"check  {case.there.log or f'logs/instances/{case.instance}.log'} in the data folder, at that time"]


def _last(ended: ExitFacts) -> list[str]:
    line = ended.lines[-1] if ended.lines else ""
    return [f"Its last line: {clean(line, 150)}"] if line else ["It printed nothing at the end."]


def _last_words(case: Case, ended: ExitFacts) -> str:
    """A line that names an error, of its last second; an older one belongs to something it survived."""
    timed = [line.text for line in case.facts.lines if ended.at - 1.0 <= line.at <= ended.at + 1.0]
    return last_words(timed or ended.lines[-1:])


def _ended_near(case: Case) -> ExitFacts | None:
    if case.exit is None:
        return None
    end = case.record.time + case.record.total_us / 1e6
    return case.exit if -60.0 <= end - case.exit.at <= 60.0 and case.exit.at <= end + 1.0 else None


def _stack(case: Case) -> list[str]:
    """What it runs now, if somebody looked."""
    if not case.facts.stacks:
        return []
    found = frames(case.facts.stacks)
    if not found:
        return []
    if at_rest(case.facts.stacks):
        if case.there.in_flight or case.app.in_flight:
            return ["Likely it awaits something outside: its event loop is idle while requests are in flight."]
        return []
    return [f"Likely where it is at this moment: {clean(found[0], 190)}"]


def _growth(case: Case) -> list[str]:
    sizes = [sample.memory for sample in case.there.used]
    if len(sizes) >= 2 and sizes[-1] > 1.2 * sizes[0]:
        times = case.there.used[-1].at - case.there.used[0].at
        return [f"Its memory rose from {units.size(sizes[0])} to {units.size(sizes[-1])} in {units.duration(times)}."]
    return []


CAUSES: Final[dict[str, Callable[[Case], Cause]]] = {
    "bad-request": client,
    "bad-framing": client,
    "head-too-large": client,
    "target-too-long": client,
    "body-too-large": client,
    "client-timeout": client_timeout,
    "client-left": client_left,
    "client-stalled": client_left,
    "rate-limited": rate_limited,
    "no-route": no_route,
    "loop-detected": loop,
    "no-instance": absent,
    "all-unready": absent,
    "all-ejected": absent,
    "stopped": absent,
    "held-too-long": absent,
    "queue-full": overloaded,
    "queue-timeout": overloaded,
    "shed": overloaded,
    "gateway-overload": own,
    "ports-exhausted": own,
    "descriptors-exhausted": own,
    "internal-error": own,
    "dns-error": connect,
    "dns-timeout": connect,
    "connect-refused": connect,
    "connect-unreachable": connect,
    "connect-timeout": connect,
    "tls-error": connect,
    "tls-certificate": connect,
    "stale-connection": closed,
    "closed-before-head": closed,
    "reset-before-head": closed,
    "body-truncated": closed,
    "instance-exited": exited,
    "instance-recycled": recycled,
    "head-timeout": hanging,
    "total-timeout": hanging,
    "send-timeout": hanging,
    "body-timeout": hanging,
    "bad-response": malformed,
    "response-framing": malformed,
    "response-head-too-large": malformed,
    "upgrade-failed": malformed,
    "app-error": app_error,
}
