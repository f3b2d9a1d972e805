"""Connections by peer, listening sockets and who waits to be accepted: the last look, and the most of all looks."""

from __future__ import annotations

from typing import Final

from proxy import units
from proxy.diagnostics.artifacts import Peer, Sockets
from proxy.diagnostics.report.contents import Contents, Data
from proxy.diagnostics.report.markup import Html, cut, fold, join, quiet, table, tag

PEERS: Final = 40
LISTENERS: Final = 20
INSTANCES: Final = 20


def data(contents: Contents) -> list[Data]:
    found = []
    for name, sockets in list(contents.each(Sockets).items())[:INSTANCES]:
        samples = sockets.samples
        last = samples[-1] if samples else None
        peers: dict[tuple[str, str], list[Peer]] = {}
        for sample in samples:
            for peer in sample.peers:
                peers.setdefault((peer.by, peer.address), []).append(peer)
        rows = sorted((_peer(seen) for seen in peers.values()), key=lambda one: (one["by"] == "client", -one["most"]))
        queues: dict[str, int] = {}
        for sample in samples:
            for listener in sample.listeners:
                queues[listener.address] = max(queues.get(listener.address, 0), listener.waiting)
        found.append({
            "instance": name, "samples": len(samples), "note": cut(sockets.note, 400),
            "total": last.total if last else 0,
            "peers": rows[:PEERS], "left_out": max(0, len(rows) - PEERS),
            "listeners": [
                {"address": cut(one.address, 120), "pid": one.pid, "waiting": one.waiting, "backlog": one.backlog,
                 "most": queues.get(one.address, 0)}
                for one in (last.listeners if last else [])[:LISTENERS]
            ],
            "ports_used": sockets.ports_used, "ports_range": list(sockets.ports_range) if sockets.ports_range else None,
        })  # fmt: skip
    return found


def _peer(seen: list[Peer]) -> Data:
    last = seen[-1]
    asked = [one.asked for one in seen if one.asked is not None]
    return {
        "address": cut(last.address, 120), "name": cut(last.name, 60), "by": last.by, "established": last.established,
        "most": max(one.established for one in seen), "connecting": max(one.connecting for one in seen),
        "closing": last.closing, "time_wait": last.time_wait, "unread": max(one.unread for one in seen),
        "unsent": max(one.unsent for one in seen), "asked": asked[-1] if asked else None,
        "idle": last.idle, "threads": max(one.threads for one in seen), "looks": len(seen),
    }  # fmt: skip


def html(items: list[Data]) -> Html:
    return join(*(fold(item["instance"], _one(item), open_=at < 2) for at, item in enumerate(items)))


def _one(item: Data) -> Html:
    looks = units.several(item["samples"], "look")
    ports = ""
    if item["ports_used"] is not None and item["ports_range"]:
        low, high = item["ports_range"]
        ports = f" {units.count(item['ports_used'])} of {units.count(high - low + 1)} local ports are in use."
    return join(
        tag("p", f"{units.several(item['total'], 'socket')} in the last of {looks}.{ports} {item['note']}"),
        _listeners(item), tag("h3", "Connections by peer") if item["peers"] else quiet("No connection was seen."),
        table(
            ("Peer", "What it is", "Who connected", "Open", "Most", "Wait for an answer", "Threads that read",
                "Connecting",
             "Half closed", "Not read by the app", "Not taken by the peer", "Silent for"),
            [
                (tag("code", one["address"]), one["name"] or "–", "the app" if one["by"] == "server" else "the peer",
                 one["established"], one["most"], "–" if one["asked"] is None else one["asked"], one["threads"] or "–",
                 one["connecting"] or "–", one["closing"] or "–", one["unread"] or "–", one["unsent"] or "–",
                 "–" if one["idle"] is None else units.duration(one["idle"]))
                for one in item["peers"]
            ],
            num=range(3, 12),
        ),
        quiet(f"{units.several(item['left_out'], 'peer')} more are left out.") if item["left_out"] else None,
    )  # fmt: skip


def _listeners(item: Data) -> Html | None:
    if not item["listeners"]:
        return quiet("No listening socket was seen.")
    return join(
        tag("h3", "Listening"),
        table(
            ("Address", "Process", "Wait to be accepted", "Most", "Room"),
            [
                (tag("code", one["address"]), one["pid"] or "–", one["waiting"], one["most"],
                 "–" if one["backlog"] is None else one["backlog"])
                for one in item["listeners"]
            ],
            num=(1, 2, 3, 4),
        ),
    )  # fmt: skip
