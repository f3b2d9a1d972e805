"""The app's own use of CPU: a hot function, Python's global lock, a request that never ends, a limit that throttles."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.diagnostics.analyzers import say, threads
from proxy.diagnostics.analyzers.contract import (
    CERTAIN,
    LIKELY,
    VERY_LIKELY,
    Analyzer,
    Certainty,
    Finding,
    Inconclusive,
    Proof,
    Rival,
    Seen,
)
from proxy.diagnostics.analyzers.situation import Situation, explains, late
from proxy.diagnostics.analyzers.threads import Place
from proxy.diagnostics.artifacts import Activity, Frame, HostReport, ProcReport, Profile, Stacks

FULL: Final = 0.85
"""Of what it may use."""
THROTTLED: Final = 0.1
"""Of the periods."""
ENDLESS: Final = 8.0
"""Seconds that one request has computed before it is called endless; a session looks for several seconds itself."""
_FRAME: Final = re.compile(r"^(?P<function>.*?) \((?P<file>.*?)(?::(?P<line>\d+))?\)$")
_KINDS: Final[tuple[tuple[re.Pattern[str], str], ...]] = (
    (re.compile(r"(?:^| )(?:match|search|fullmatch|subn?|findall|finditer) \(re\b|/re/|regex"), "a regular expression"),
    (re.compile(r"json[/.]|orjson|simplejson|(?:^| )(?:dumps|loads|raw_decode|iterencode) |JSON\."), "JSON"),
    (re.compile(r"jinja2|mako|django/template|(?:^| )render(?:_template)? "), "a template"),
    (re.compile(r"hashlib|bcrypt|scrypt|pbkdf2|argon2|crypto|ssl\.py|hmac"), "cryptography"),
    (re.compile(r"pickle|copy\.py|deepcopy|marshal|xml|yaml|csv\.py|zlib|gzip"), "serialization or compression"),
)  # fmt: skip


def analyze(seen: Seen) -> Iterator[Finding]:
    activity = seen.each(Activity)
    now = Situation(seen.known, activity)
    if not activity and not any(key for key in seen.known.rings if key):
        raise Inconclusive("Not looked at: nothing tells the CPU that instances use.")
    if not (now.harm.late or now.harm.felt):
        return
    standing = threads.read_all(seen.each(Stacks), seen.each(ProcReport))
    busy: list[Finding] = []
    for name in now.looked_at(standing):
        yield from _throttled(now, activity.get(name), name)
        cores = now.cores(name)
        if cores is None:
            continue
        may = limit(seen, now, name)
        single = now.busiest(name) or 0.0
        wants = now.wants(name) or cores
        runtime = standing[name].runtime if name in standing else ""
        bound = min(may, 1.0) if runtime in ("python", "node", "ruby") else may
        if max(cores, wants) >= FULL * bound or single >= FULL * min(1.0, may):
            busy.append(_bound(seen, now, name, cores, wants, may, single, standing.get(name)))
    yield from busy


def limit(seen: Seen, now: Situation, instance: str) -> float:
    """Cores that an instance may use."""
    activity = seen.each(Activity).get(instance)
    host = seen.one(HostReport)
    of = next((one.cpu_limit for one in now.known.instances if one.name == instance), None)
    every = [of, activity.quota if activity is not None else None, host.cores if host is not None else None]
    return min((one for one in every if one), default=1.0)


def _throttled(now: Situation, activity: Activity | None, instance: str) -> Iterator[Finding]:
    shares = [one.throttled for one in activity.samples if one.throttled is not None] if activity is not None else []
    if len(shares) < 2 or (middle := say.middle(shares) or 0.0) < THROTTLED:
        return
    lost = say.middle(one.throttled_seconds or 0.0 for one in activity.samples) if activity is not None else 0.0
    of = next((one for one in now.known.instances if one.name == instance), None)
    quota = (of.cpu_limit if of is not None else None) or (activity.quota if activity is not None else None)
    shared = activity is not None and _shared(activity)
    if shared and activity is not None:
        quota = activity.quota
    allowed = f" ({quota:g} cores)" if quota else ""
    more = max(1.0, 2 * quota) if quota else 2.0
    title, whose = f"The CPU limit of {instance}{allowed} holds it back", f"its CPU limit{allowed}"
    if shared:
        title = f"A CPU limit{allowed} that {instance} shares with other processes holds it back"
        whose = f"a CPU limit{allowed} that binds other processes as well"
    yield Finding(
        id="cpu-throttled",
        title=title,
        cause=f"The kernel held {instance} back in {units.percent(middle)} of the periods of {whose}, "
        f"{units.duration(lost or 0.0)} of each second: its cgroup counts that.",
        severity=now.harm.severity if middle >= 0.25 else "warning",
        certainty=CERTAIN if middle >= 0.5 and not shared else VERY_LIKELY,
        care="While it is held back, no request in it moves.",
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[
            say.proof(f"Throttled in {units.percent(middle)} of periods, {units.percent(max(shares))} at most.",
                      say.of(instance, "activity")),
            *now.harm.proofs,
        ],
        rivals=[
            Rival(cause="an app that computes more than it used to",
                  speaks_for=["a limit only shows when it is reached"]),
            *([Rival(cause="another process under the same limit", speaks_for=["the count is of all of them"])]
              if shared else []),
        ],
        unknown="Whether the limit is too low, or the app computes too much: its profile says where the time goes.",
        remedies=[
            say.look("Raise that limit: of the container or unit that Triage runs in.",
                     expect="Waits fall to what computing takes.")
            if shared
            else say.act(f"Give it more CPU: {more:g} cores.", now.name, "scale",
                         "Waits fall to what computing takes, one instance at a time, no request lost.", cpus=more),
            say.look("See in the profile of this session where its CPU time goes."),
        ],
        faults=late(),
        explains=explains("cpu-bound", "event-loop-blocked", "slow-handler", "slow-path", "one-bad-instance",
                          "workers-exhausted"),
        charts=["cpu", "wait_p50"],
        weight=now.harm.weight,
    )  # fmt: skip


def _shared(activity: Activity) -> bool:
    """The limit that was reached is of a group above its own, or others are in its own too."""
    grew = [name for name, count in activity.changed.items() if name.endswith("cpu.stat nr_throttled") and count > 0]
    above = bool(grew) and all(": " in name for name in grew)
    return above or (activity.cgroup is not None and not activity.cgroup.own)


def _bound(
    seen: Seen, now: Situation, instance: str, cores: float, wants: float, may: float, single: float,
    standing: threads.Standing | None,
) -> Finding:  # fmt: skip
    profile = seen.each(Profile).get(instance)
    name, share, total = _hottest(profile) if profile is not None else ("", 0.0, 0)
    places = [one for one in standing.busy() if one.own and one.kind in ("cpu", "waiting", "lock")] if standing else []
    stuck = next((one for one in places if one.kind == "cpu" and one.always), None)
    evidence: list[Proof] = [
        say.proof(f"{instance} uses {cores:.2f} of {may:g} cores, its busiest thread {single:.2f}"
                  + (f"; it would use {wants:.2f}, were they free." if wants >= cores + 0.1 else "."),
                  say.of(instance, "activity"))
    ]  # fmt: skip
    if share >= 0.2:
        evidence.append(
            say.proof(
                f"{name} is in {units.percent(share)} of {units.count(total)} samples.", say.of(instance, "profile")
            )
        )
    elif stuck is not None:
        name = stuck.place
        evidence.append(say.proof(f"{stuck.said()} computing at {stuck.chain}.", say.of(instance, "stacks")))
    what = _kind(profile, name) if profile is not None else ""
    endless = _endless(now, instance, single, standing)
    many = _runnable(standing) if standing is not None and standing.runtime == "python" else 0.0
    sure: Certainty = VERY_LIKELY if share >= 0.3 or (stuck is not None and wants >= FULL * min(may, 1.0)) else LIKELY
    at = f" at {name}" if name else ""
    known = f", {what}," if what else ""
    if endless:
        ident, title = "endless-loop", f"A request of {instance} computes without end{at}"
        cause = f"{endless} on {instance} does not end: one thread has computed all the time{at}."
        care = "It holds a core, and in an event loop or under Python's global lock all others wait for it."
        sure = VERY_LIKELY if name else LIKELY
    elif many >= 3 and single < 0.7 * cores and standing is not None and not _by_requests(standing):
        ident, title = "gil-contention", f"The threads of {instance} share one core: Python's global lock"
        cause = (
            f"{instance} uses {cores:.2f} cores with about {many:.0f} threads that want to compute, most of "
            "them not for "
            f"requests: Python lets one thread compute at a time{f', mostly{at}' if name else ''}."
        )
        care = "More threads make each of them slower; one core of work is all that one process gives."
    else:
        ident, title = "cpu-bound", f"{instance} computes as much as it can{at}"
        most = f": {name}{known} is in {units.percent(share)} of its CPU time" if share >= 0.2 else at
        lock = f" About {many:.0f} threads want to, and Python lets one of them at a time." if many >= 3 else ""
        cause = f"{instance} is busy computing, {cores:.2f} of {may:g} cores{most}.{lock}"
        care = "Requests wait for their turn to compute, and more of them only wait longer."
    return Finding(
        id=ident,
        title=title,
        cause=cause,
        severity=now.harm.severity,
        certainty=sure,
        care=care,
        instances=[instance] if len(now.instances) > 1 else [],
        since=now.harm.since,
        evidence=[*evidence, *now.harm.proofs],
        rivals=[
            Rival(cause="more traffic than it was made for", against=[] if _rose(now) else ["traffic did not rise"],
                  speaks_for=["traffic rose as well"] if _rose(now) else []),
            Rival(cause="a slow dependency", against=[f"it does not wait: {cores:.2f} cores"]),
        ],
        unknown="" if name else "Which function: there is no profile that tells.",
        remedies=[
            say.act(f"Recycle {instance}.", now.name, "recycle",
                    "The request that does not end is cut; it helps until it is sent again.", instance=instance)
            if endless
            else say.act("Add instances.", now.name, "scale",
                         "Helps while the machine has cores to spare.", instances=max(2, 2 * max(1, now.app.wanted))),
            say.look(f"Read {name}." if name else f"Take a profile: triage diagnose {now.name} --for 30s"),
            say.later(f"Make it cheaper{f' ({what})' if what else ''}, keep its result, or do it outside of requests."),
        ],
        faults=late(),
        explains=explains("slow-handler", "slow-path", "workers-exhausted", "one-bad-instance", "lock-held",
                          *(["cpu-bound"] if ident != "cpu-bound" else [])),
        charts=["cpu", "wait_p50", "requests"],
        weight=now.harm.weight,
    )  # fmt: skip


def _rose(now: Situation) -> bool:
    before = [value for _, value in say.values(now.ring, "requests", 0.0, now.at - 120)]
    recent = now.now("requests", seconds=60)
    usual = say.mean(before)
    return len(before) >= 30 and bool(usual) and (say.mean(recent) or 0.0) >= 1.5 * (usual or 1.0)


def _endless(now: Situation, instance: str, single: float, standing: threads.Standing | None) -> str:
    """The request that one thread has computed at for long, in words; "": there is none."""
    if standing is None or standing.span < ENDLESS or len(standing.rounds) < 4:
        return ""
    if single < 0.6 * max(1.0, now.wants(instance) or 0.0):
        return ""
    if not any(_one_thread(standing, function) for function in _functions(standing)):
        return ""
    answered = say.mean(now.now("requests", instance, 20.0)) or 0.0
    if now.in_flight_of(instance) <= 1 and answered >= 0.5 / max(1.0, standing.span):
        return ""
    return f"A request, under way for {units.duration(standing.span)} or longer,"


def _functions(standing: threads.Standing) -> set[str]:
    return {at.function for one in standing.rounds for at in one if at.own and at.kind in ("cpu", "waiting", "lock")}


def _one_thread(standing: threads.Standing, function: str) -> bool:
    """The same thread was within it in all rounds, at whatever line, and not waiting in a call."""
    each = [{at.thread for at in one if at.function == function and not at.call} for one in standing.rounds]
    return len(each) > 1 and bool(set.intersection(*each))


def _by_requests(standing: threads.Standing) -> bool:
    """Those that compute do so for requests, more than in the background."""
    computing = [at for one in standing.rounds for at in one if (at.kind == "cpu" or at.gil) and at.kind != "idle"]
    return sum(at.serving for at in computing) >= 0.5 * len(computing)


def _runnable(standing: threads.Standing) -> float:
    """How many threads stand in code of their own, on a core or about to be, on average."""
    counts = [sum(at.kind in ("cpu", "lock") and not at.call and at.own for at in one) for one in standing.rounds]
    return sum(counts) / len(counts) if counts else 0.0


def _hottest(profile: Profile) -> tuple[str, float, int]:
    """The innermost function of the app's own with the most samples beneath it, its share, and all samples."""
    total = sum(one.samples for one in profile.stacks)
    counts: Counter[str] = Counter()
    lines: dict[str, Counter[str]] = {}
    for stack in profile.stacks:
        frames = [_frame(text) for text in reversed(stack.frames)]
        at = threads.innermost(frames)
        if at is not None:
            name = f"{frames[at].function} ({threads.short(frames[at]).rpartition(' (')[2].rpartition(':')[0]})"
            counts[name] += stack.samples
            lines.setdefault(name, Counter())[threads.short(frames[at])] += stack.samples
    if not counts or not total:
        return "", 0.0, total
    name, most = counts.most_common(1)[0]
    return lines[name].most_common(1)[0][0], most / total, total


def hot(profile: Profile, place: Place) -> float:
    """The share of samples that were within the function of `place`."""
    total = sum(one.samples for one in profile.stacks)
    function = place.place.rpartition(" (")[0]
    inside = sum(one.samples for one in profile.stacks if any(_frame(text).function == function for text in one.frames))
    return inside / total if total else 0.0


def _kind(profile: Profile, name: str) -> str:
    """What the library's frames above it do, where that is most of it."""
    counts: Counter[str] = Counter()
    total = 0
    for stack in profile.stacks:
        total += stack.samples
        inner = stack.frames[-6:]
        for pattern, words in _KINDS:
            if any(pattern.search(text) for text in inner if not threads.own(_frame(text))):
                counts[words] += stack.samples
                break
    first = counts.most_common(1)
    return first[0][0] if first and first[0][1] >= 0.4 * total else ""


def _frame(text: str) -> Frame:
    match = _FRAME.match(text)
    if match is None:
        return Frame(function=text)
    return Frame(function=match["function"], file=match["file"], line=int(match["line"] or 0))


ANALYZER: Final = Analyzer(
    name="cpu",
    title="CPU that the app uses itself",
    checks="No instance was at the limit of the CPU that it may use.",
    analyze=analyze,
    wants=(Activity, Profile, Stacks, ProcReport, HostReport),
)
