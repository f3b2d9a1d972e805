"""Control with a small line protocol in the place of the admin API, at $CONTROL_SOCKET: `python composed.py FD`."""

import asyncio
import dataclasses
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import orjson

from proxy.control import room
from proxy.control.gateway import Gateway
from proxy.control.operations import Asked, Operation
from proxy.control.refusal import NotPossible
from proxy.control.run import main


def plain(value: object) -> Any:
    return repr(value)


def snapshot(gateway: Gateway) -> dict[str, Any]:
    apps = {}
    for app in gateway.apps.values():
        instances = {}
        for state in app.instances.values():
            instances[state.name] = {
                field.name: getattr(state, field.name)
                for field in dataclasses.fields(state)
                if field.name not in ("output", "usage_history")
            }
            instances[state.name]["inflight"] = gateway.board.total(state.row)
        apps[app.name] = {
            "state": app.state,
            "wanted": app.wanted,
            "degraded": app.degraded,
            "instances": instances,
            "gone": [state.name for state in app.gone],
            "by_hand": {key: dataclasses.asdict(entry) for key, entry in app.by_hand.items()},
            "not_replaced": app.not_replaced,
            "gap": app.gap,
            "suspects": [[one.method, one.path] for one in app.suspects],
            "ended": [dataclasses.asdict(one) for one in app.ended],
        }
    return {
        "pid": os.getpid(),
        "apps": apps,
        "workers": [dataclasses.asdict(dataclasses.replace(one, stats=None)) for one in gateway.workers],
        "table": gateway.table_version,
        "events": [dataclasses.asdict(event) for event in gateway.events],
        "verdict": dataclasses.asdict(gateway.verdict()),
        "ready": gateway.ready,
        "listeners": gateway.listeners,
        "lag": gateway.lag,
        "leaving": len(gateway.leaving),
        "operations": {one.id: operation(one) for one in gateway.operations},
    }


def operation(one: Operation) -> dict[str, Any]:
    return {
        "id": one.id,
        "act": one.act,
        "state": one.state,
        "why": one.why,
        "steps": [step.text for step in one.steps],
        "targets": one.targets,
        "evidence": one.evidence,
        "details": one.details,
        "took": one.ended - one.began,
    }


async def serve(gateway: Gateway, sockets: dict[str, socket.socket]) -> object:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        question = orjson.loads(await reader.readline())
        result: Any = None
        match question["ask"]:
            case "state":
                result = snapshot(gateway)
            case "reload":
                result = dataclasses.asdict(await gateway.reload(question["text"], "a test"))
            case "last_lines":
                result = gateway.last_lines(question["instance"])
            case "stacks":
                result = await gateway.stacks(question["pid"])
            case "find":
                found = await gateway.find(question["id"])
                result = [[record.id, record.status, record.instance] for record in found]
            case "act":
                try:
                    asked = Asked(question.get("by", "by hand"), question.get("reason", ""), question.get("rule", ""))
                    act, app, instance = question["act"], question["app"], question.get("instance", "")
                    result = operation(gateway.mender.act(act, app, instance, asked, **question.get("fields", {})))
                except NotPossible as refused:
                    result = {"refused": refused.kind, "text": str(refused), "hint": refused.hint}
            case "foresee":
                fields = question.get("fields", {})
                seen = gateway.mender.foresee(question["act"], question["app"], question.get("instance", ""), **fields)
                result = dataclasses.asdict(seen)
            case "past":  # what the store has: events, acts, operations, points
                await gateway.store.flush()
                result = await getattr(gateway.store, question["of"])(**question.get("fields", {}))
            case "memory":  # as if the host had so much left
                room.MEMINFO = Path(question["file"])
            case "hang":
                signal.pause()
        writer.write(orjson.dumps(result, default=plain) + b"\n")
        await writer.drain()
        writer.close()

    path = os.environ["CONTROL_SOCKET"]
    if os.path.exists(path):
        os.unlink(path)
    for sock in sockets.values():
        sock.close()
    return await asyncio.start_unix_server(answer, path, limit=1 << 24)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), serve))
