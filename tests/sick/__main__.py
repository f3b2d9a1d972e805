"""`python -m tests.sick`: run cases, print the table. `make lab` is all of them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from proxy.units import several
from tests.sick.cases import CASES
from tests.sick.play import Options, Played, play
from tests.sick.table import rows, totals

BEGIN, END = "<!-- lab -->", "<!-- /lab -->"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.sick", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these cases, or those that begin so")
    parser.add_argument("--seconds", type=float, default=30.0, help="of a session (30)")
    parser.add_argument("--jobs", type=int, default=1, help="cases at a time (1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="everything, as JSON")
    parser.add_argument("--page", type=Path, metavar="FILE", help=f"put the table between {BEGIN} and {END} there")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep the sessions of what was not right")
    parser.add_argument("--keep-all", action="store_true", help="and of what was")
    parser.add_argument("--why-only", action="store_true", help="without sessions")
    parser.add_argument("--quick", action="store_true", help="one case of each kind of sickness")
    parser.add_argument("--list", action="store_true", help="the cases, and what is wrong in each")
    args = parser.parse_args()
    chosen = [one for one in CASES if not args.only or any(one.name.startswith(name) for name in args.only)]
    if args.only and any(one.name in args.only for one in CASES):
        chosen = [one for one in CASES if one.name in args.only]
    if args.quick:
        chosen = [one for one in chosen if one.quick]
    if args.list:
        for case in chosen:
            print(f"{case.name:24} {case.what}")
        return 0
    options = Options(args.seconds, args.why_only, args.keep, args.keep_all)
    healthy = frozenset(one.name for one in CASES if one.truth.healthy)
    done: dict[str, Played] = {}
    loads: list[float] = []
    lock = threading.Lock()

    def one(name: str) -> None:
        played = play(next(case for case in CASES if case.name == name), options)
        with lock:
            done[name] = played
            loads.append(os.getloadavg()[0])
            print(line(played), flush=True)
            if args.json:
                args.json.write_text(json.dumps([each.json() for each in ordered()], indent=1, default=str))

    def ordered() -> Sequence[Played]:
        return [done[case.name] for case in chosen if case.name in done]

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, [case.name for case in chosen]))
    table, sums = rows(ordered()), totals(ordered(), healthy)
    print(f"\n{table}\n\n{sums}")
    if args.page:
        how = f"Sessions of {args.seconds:g} s, {several(args.jobs, 'case')} at a time"
        busy = f"load average {min(loads):.1f} to {max(loads):.1f} on {several(os.cpu_count() or 1, 'core')}"
        put(args.page, f"{table}\n\n{how}; {busy}.\n\n{sums}")
    return 1 if any(each.error for each in done.values()) else 0


def line(played: Played) -> str:
    """One case as it ends."""
    if played.skipped or played.error:
        return f"{played.case:24} {'skipped: ' + played.skipped if played.skipped else 'FAILED ' + played.error}"
    session = f"{played.session.verdict}: {', '.join(played.found) or 'nothing'}" if played.session else "–"
    why = f"{played.why.verdict} [{played.why.id}] ({played.why.certainty})" if played.why else "–"
    notes = f"   ! {'; '.join(played.notes)}" if played.notes else ""
    return f"{played.case:24} {session} | why {played.asked}: {why} | {played.took:.0f} s{notes}"


def put(page: Path, text: str) -> None:
    """Between the markers of the page."""
    old = page.read_text() if page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = old.partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    sys.exit(main())
