"""How large the store grows: a day of total outage, and 100 instances for 90 days.

`python -m loadtests.store_size [--hours 24] [--workers 2] [--lost 0.2] [--instances 100] [--only outage,tiers]`

The outage: every request of one app fails, more of them than are kept. What a worker hands on of 5,000 faults a second
is what `recorder.Kept` lets through; all of that goes through the real RecordStore into the real writer, whose clock is
given, ten seconds of the day at a time; the points of the app and of its four instances are written along with it.
The size is the largest that the file and its log ever had.

The tiers: each row is really written, as the writer's thread writes it: 10 s for a day, 1 min for a week, 1 h for 90
days, of every instance and of each app as a whole. The points are made of requests with log-normal times; a few
hundred different ones of each tier are written over and over. Then a week of one app is asked for, as `Store` answers.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from proxy.control.records import RecordStore
from proxy.control.state import Events
from proxy.control.store import Point, Store, file, requests, tables, writer
from proxy.control.store.points import STEPS, encode
from proxy.control.store.retention import POINTS_AGE, Limits
from proxy.control.store.sample import Deltas
from proxy.dataplane.recorder import KEPT_PER_SECOND
from proxy.link import histogram
from proxy.link.messages import Attempt, Record

BEGIN: Final = 1_800_000_000.0
OUTAGE_LIMIT: Final = 50_000_000
TIERS_LIMIT: Final = 1_000_000_000
QUERY_LIMIT: Final = 0.1
FAULTS: Final = (("connect-refused", 0.6), ("instance-exited", 0.2), ("head-timeout", 0.15), ("all-unready", 0.05))
POINTS: Final = ("*", "web-1", "web-2", "web-3", "web-4")
RATE: Final = 5000  # faults a second
APPS: Final = 5  # that the instances of the tiers belong to


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, default=24.0, help="of outage; default: 24")
    parser.add_argument("--workers", type=int, default=2, help="each hands on what Kept lets through; default: 2")
    parser.add_argument("--lost", type=float, default=0.2, help="share of non-idempotent requests; default: 0.2")
    parser.add_argument("--instances", type=int, default=100, help="of the tiers; default: 100")
    parser.add_argument("--only", default="outage,tiers")
    parser.add_argument("--keep", type=Path, help="a folder for the files, which stay")
    told = parser.parse_args()
    folder = told.keep or Path(tempfile.mkdtemp(prefix="store-size-"))
    well = True
    try:
        if "outage" in told.only:
            well &= outage(folder / "outage", told)
        if "tiers" in told.only:
            well &= tiers(folder / "tiers", told)
    finally:
        if told.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    return 0 if well else 1


def say(text: str) -> None:
    print(text, flush=True)


# --- a day of total outage ---------------------------------------------------------------------------


def outage(folder: Path, told: argparse.Namespace) -> bool:
    now = [BEGIN]
    began = time.monotonic()
    writer.TOGETHER = 0.0  # nothing else comes meanwhile: the day is given in steps
    made: Any = tables.tables(Deltas())
    made["points"] = tables.Table("points", 6, _point_rows)
    trouble: list[str] = []
    write = writer.Writer(
        folder / "store.db", made, lambda kind, text, details: trouble.append(f"{kind}: {text}"), Limits(1 << 31),
        lambda: now[0], lambda: now[0],
    )  # fmt: skip
    write.start()
    records = RecordStore()
    records.keep = lambda number, record: _put(write, "requests", requests.Numbered(number, record))
    rng = random.Random(7)
    source = storm(rng, told.lost)
    largest = written = 0
    points = [[encode(one) for one in failing(rng, source)] for _ in range(50)]
    for step in range(int(told.hours * 360)):
        for second in range(10):
            at = now[0] + second
            for _ in range(KEPT_PER_SECOND * told.workers):
                record = next(source)
                record.time = at
                record.id = f"{written & 0xFFFFFF:06x}{written % told.workers:02x}{int(at):08x}"
                written += 1
                records.add(record, at)
        now[0] += 10.0
        bodies = rng.choice(points)
        _put(write, "points", [("web", name, int(now[0]), body) for name, body in zip(POINTS, bodies, strict=True)])
        if not write.flush(60.0):
            raise SystemExit(f"the writer does not keep up: {write.error}")
        largest = max(largest, file.size(folder / "store.db"))
        if step % 360 == 359:
            hours = (step + 1) // 360
            if hours in (1, 2, 6, 12, 24) or hours == told.hours:
                say(f"outage, {hours:2d} h: {largest / 1e6:6.1f} MB at most, {records.kept:,} kept of {records.seen:,}")
    write.close(30.0)
    with closing(file.connect(folder / "store.db")) as connection:
        left = {
            table: connection.execute(f"SELECT count(*), sum(lost), count(DISTINCT fault) FROM {table}").fetchone()
            for table in requests.TABLES
        }
        points = connection.execute(f"SELECT count(*), sum(length(body)) FROM points_{STEPS[0]}").fetchone()
    for table, (count, lost, faults) in left.items():
        say(f"outage: {table} has {count:,} rows, {lost or 0:,} of them lost a request, {faults} faults")
    say(f"outage: {points[0]:,} points of {STEPS[0]} s have {points[1] / 1e6:.1f} MB of it")
    say(f"outage: {sum(write.dropped.values())} dropped; it took {time.monotonic() - began:.0f} s")
    for line in trouble:
        say(f"outage: {line}")
    return verdict("outage", largest, OUTAGE_LIMIT) and not trouble and not sum(write.dropped.values())


def _put(write: writer.Writer, table: str, value: object) -> None:
    """The day goes by faster than a disk can write: wait, instead of what a real day would drop."""
    while not write.put(table, value):
        time.sleep(0.001)


def _point_rows(items: Iterable[tuple[str, str, int, bytes]]) -> Iterator[tables.Statement]:
    for app, instance, at, body in items:
        yield "INSERT OR IGNORE INTO series (app, instance) VALUES (?, ?)", (app, instance)
        yield (
            f"INSERT INTO points_{STEPS[0]} (series, at, body)"
            " VALUES ((SELECT id FROM series WHERE app = ? AND instance = ?), ?, ?)",
            (app, instance, at, body),
        )


def storm(rng: random.Random, lost: float) -> Iterator[Record]:
    """Failed requests without end, as workers describe them; `time` and `id` are yet to be set."""
    names = [name for name, _ in FAULTS]
    weights = [weight for _, weight in FAULTS]
    while True:
        for fault in rng.choices(names, weights, k=1000):
            post = rng.random() < lost
            total = 30_000_000 + rng.randrange(90_000) if fault == "head-timeout" else 300 + rng.randrange(9_000)
            instance = "" if fault == "all-unready" else f"web-{rng.randrange(4) + 1}"
            detail = "connection refused by 127.0.0.1:41234" if fault == "connect-refused" else ""
            sent = rng.randrange(200, 4000) if fault in ("instance-exited", "head-timeout") else 0
            again = not post and instance
            tried = [Attempt(f"web-{rng.randrange(4) + 1}", fault, detail, wait_us=total)] if again else []
            yield Record(
                "", 0.0, rng.randrange(2), "web", instance, f"10.{rng.randrange(9)}.{rng.randrange(256)}.7",
                "POST" if post else "GET", "shop.example.com", f"/api/orders/{rng.randrange(10**7)}?page=2&sort=date",
                502 if sent == 0 else 504, fault, rng.randrange(3000) if post else 0, 311, rng.randrange(400),
                connect_us=rng.randrange(300), wait_us=total if sent else None, total_us=total,
                own_us=rng.randrange(40, 300), tries=1 + len(tried), detail=detail, sent=sent, replayable=not post,
                trace=f"{rng.getrandbits(128):032x}",
                client_request_id=f"{rng.getrandbits(64):016x}" if rng.random() < 0.1 else "",
                attempts=[*tried, Attempt(instance, fault, detail, sent=sent)] if instance else None,
            )  # fmt: skip


def failing(rng: random.Random, source: Iterator[Record]) -> list[Point]:
    """The app and its instances in ten seconds of the storm; each record stands for several."""
    found = [point(rng, 0, 10.0, 30) for _ in POINTS]
    for each in found:
        each.classes = [0] * 6
    drawn = 2000
    weight = RATE * 10 // drawn
    for _ in range(drawn):
        record = next(source)
        for each in (found[0], found[POINTS.index(record.instance)] if record.instance else None):
            if each is None:
                continue
            each.requests += weight
            each.classes[record.status // 100 - 1] += weight
            each.faults[record.fault] = each.faults.get(record.fault, 0) + weight
            each.total_sum += weight * record.total_us / 1e6
            histogram.merge(each.total, {histogram.bucket(record.total_us / 1e6): weight})
            if record.wait_us is not None:
                each.wait_sum += weight * record.wait_us / 1e6
                histogram.merge(each.wait, {histogram.bucket(record.wait_us / 1e6): weight})
    return found


# --- 100 instances for 90 days -----------------------------------------------------------------------


def tiers(folder: Path, told: argparse.Namespace) -> bool:
    began = time.monotonic()
    rng = random.Random(11)
    now = int(time.time()) // 3600 * 3600
    path = folder / "store.db"
    with closing(file.connect(path)) as connection:
        series = [(f"app{number % APPS}", f"app{number % APPS}-{number}") for number in range(told.instances)]
        series += [(f"app{number}", "*") for number in range(APPS)]
        connection.executemany("INSERT INTO series (app, instance) VALUES (?, ?)", series)
        total = 0
        for step in STEPS:
            pool = [encode(point(rng, int(20 * step), float(step), 30)) for _ in range(300)]
            times = range(int(now - POINTS_AGE[step]) // step * step + step, now + 1, step)
            wrote = time.monotonic()
            # As they come: each time all series. In parts of a minute's commits, which are of one batch each.
            for at in range(0, len(times), 60):
                connection.execute("BEGIN IMMEDIATE")
                part = ((each + 1, when) for when in times[at : at + 60] for each in range(len(series)))
                connection.executemany(
                    f"INSERT INTO points_{step} (series, at, body) VALUES (?, ?, ?)",
                    ((each, when, rng.choice(pool)) for each, when in part),
                )
                connection.execute("COMMIT")
            count = len(times) * len(series)
            total += count
            mean = statistics.mean(map(len, pool))
            say(
                f"tiers: {count:,} points of {step} s, {mean:.0f} bytes each, in {time.monotonic() - wrote:.0f} s; "
                f"{file.size(path) / 1e6:.0f} MB now"
            )
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("INSERT INTO rolled VALUES (60, ?), (3600, ?)", (now, now))
    size = file.size(path)
    say(f"tiers: {total:,} rows of {told.instances} instances and {APPS} apps, in {time.monotonic() - began:.0f} s")
    took = asyncio.run(week(folder, now, 3600))
    say(f"tiers: a week of one app, by the hour: {took * 1000:.0f} ms (median of 9); limit {QUERY_LIMIT * 1000:.0f} ms")
    finer = asyncio.run(week(folder, now, 60))
    say(f"tiers: a week of one app, by the minute: {finer * 1000:.0f} ms (10,080 points, for comparison)")
    return verdict("tiers", size, TIERS_LIMIT) and took <= QUERY_LIMIT


async def week(folder: Path, now: int, step: int) -> float:
    """Seconds that such a question takes, the median."""
    store = Store(folder, Events(), lambda *said, **more: None, Limits(1 << 40))
    took = []
    for _ in range(9):
        began = time.perf_counter()
        found = await store.points("app1", since=now - 7 * 86400, step=step)
        took.append(time.perf_counter() - began)
        if len(found) < 100:
            raise SystemExit(f"{len(found)} points only")
    store._reader.close()
    return statistics.median(took)


def point(rng: random.Random, count: int, seconds: float, pids: int) -> Point:
    """What so many requests of some 40 ms leave in an interval."""
    total, wait = histogram_of(rng, count, -3.2, 0.8), histogram_of(rng, count, -3.25, 0.82)
    faults = {"connect-refused": rng.randrange(9), "head-timeout": rng.randrange(3)} if rng.random() < 0.1 else {}
    some = rng.random
    return Point(
        seconds=seconds, requests=count, classes=[0, count - 9, 3, 4, 2, 0], faults=faults, total=total,
        total_sum=count * (0.04 + 0.01 * some()), wait=wait, wait_sum=count * (0.04 + 0.01 * some()),
        own_sum=count * 0.0004 * some(), bytes_in=int(count * 900 * some()), bytes_out=int(count * 40_000 * some()),
        connects=rng.randrange(200), retries=rng.randrange(3), inflight=rng.randrange(40), slots=100,
        memory=rng.randrange(1 << 28), memory_max=rng.randrange(1 << 28), memory_limit=1 << 29, cpu=round(some(), 4),
        cpu_limit=1.0, threads=pids, processes=3, descriptors=rng.randrange(200), descriptor_limit=1024,
        memory_mean=rng.randrange(1 << 28), private=rng.randrange(1 << 28), io_read=rng.randrange(1 << 20),
        io_write=rng.randrange(1 << 20), connections=rng.randrange(90), cpu_ms=rng.randrange(10_000),
        inflight_mean=round(some() * 40, 4), uptime=round(some() * 1e5, 1), age=round(some() * 1e5, 1),
        lifecycle="ready", admission="admitting", config="a1b2c3d4",
    )  # fmt: skip


def histogram_of(rng: random.Random, count: int, mu: float, sigma: float) -> dict[int, int]:
    """Of log-normal times; above 3,000 requests each drawn one stands for several."""
    found: dict[int, int] = {}
    for _ in range(min(count, 3000)):
        histogram.merge(found, {histogram.bucket(rng.lognormvariate(mu, sigma)): max(1, count // 3000)})
    return found


def verdict(what: str, size: int, limit: int) -> bool:
    say(f"{what}: {size / 1e6:.1f} MB; limit {limit / 1e6:.0f} MB: {'kept' if size <= limit else 'MISSED'}")
    return size <= limit


if __name__ == "__main__":
    sys.exit(main())
