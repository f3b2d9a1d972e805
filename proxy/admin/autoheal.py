"""Rules as the API shows them: how they stand, what they did, and what they would have done."""

from __future__ import annotations

from tomllib import TOMLDecodeError
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from proxy.admin import mending, query
from proxy.admin.common import answer, items, no_app, not_readable, the_app
from proxy.admin.errors import ApiProblem
from proxy.admin.keys import GATEWAY, REPLAYING
from proxy.admin.times import iso
from proxy.config import ConfigProblems
from proxy.control.autoheal.firing import Firing
from proxy.control.autoheal.replay import Fired, Replay
from proxy.control.autoheal.views import RuleView, TargetView
from proxy.control.reload import problems as problem_lines
from proxy.control.state import AppState
from proxy.control.store import Act, NotReadable

if TYPE_CHECKING:
    from proxy.control.gateway import Gateway

HISTORY: Final = 20
LOOK_BACK: Final = "24h"
"""Of a replay: for so long points are of 10 s."""


async def autoheal(request: web.Request) -> web.Response:
    gateway = request.app[GATEWAY]
    at, to, following = query.window(request, list(gateway.apps))
    return items([_rules(gateway, state) for state in list(gateway.apps.values())[at:to]], following)


async def of_app(request: web.Request) -> web.Response:
    gateway, state = request.app[GATEWAY], the_app(request)
    history, problem = await _history(gateway, state.name, query.limit(request, HISTORY, 200))
    return answer({**_rules(gateway, state), "history": history, "history_problem": problem})


def _rules(gateway: Gateway, state: AppState) -> dict[str, Any]:
    off = state.by_hand.get("autoheal")
    return {
        "id": state.name,
        "enabled": off is None,
        "by_hand": mending.setting(off) if off is not None else None,
        "rules": [_rule(one) for one in gateway.autoheal.view(state.name)],
    }


def _rule(rule: RuleView) -> dict[str, Any]:
    return {
        "id": f"builtin {rule.name}" if rule.builtin else rule.name,
        "name": rule.name,
        "app": rule.app,
        "builtin": rule.builtin,
        "kind": rule.kind,
        "scope": rule.scope,
        "when": rule.when,
        "then": list(rule.then),
        "dry_run": rule.dry_run,
        "state": rule.state,
        "why": rule.why,
        "threshold": rule.threshold,
        "unit": rule.unit,
        "nearest": _target(rule.nearest) if rule.nearest is not None else None,
        "targets": [_target(one) for one in rule.targets],
        "suppressed_until": iso(rule.suppressed_until or 0.0),
        "last_fired": iso(rule.last_fired or 0.0),
        "last_operation": rule.last_operation,
        "fired_last_hour": rule.fired_last_hour,
        "would_have_fired": rule.would_have_fired,
        "last_would_have_fired": iso(rule.last_would_have_fired or 0.0),
        "backing_off": rule.backing_off,
        "guards": rule.guards,
    }


def _target(one: TargetView) -> dict[str, Any]:
    return {
        "instance": one.instance,
        "value": one.value,
        "words": one.words,
        "share": round(one.share, 3),
        "distance": one.distance,
        "met": one.met,
        "held_s": round(one.held, 3),
        "guard": one.guard,
        "why": one.why,
        "until": iso(one.until or 0.0),
    }


async def replay(request: web.Request) -> web.Response:
    """One at a time: it may read a lot."""
    gateway, body = request.app[GATEWAY], request["body"]
    name, rule = body.get("app", ""), body.get("rule")
    state = gateway.apps.get(name)
    if state is None:
        raise no_app(gateway, name)
    if not rule:
        known = ", ".join(dict.fromkeys(one.name for one in gateway.autoheal.view(name)))
        raise ApiProblem(400, "nothing-asked", "Which rule?", "`rule` is missing.", f"Rules of {name}: {known}.")
    since = query.moment(body.get("since", LOOK_BACK))
    lock = request.app[REPLAYING]
    if lock.locked():
        raise ApiProblem(409, "already", "A replay is under way", "They run one at a time.", "Ask again.")
    try:
        async with lock:
            return answer(_replayed(await gateway.autoheal.replay(name, rule, since)))
    except KeyError:
        known = ", ".join(dict.fromkeys(one.name for one in gateway.autoheal.view(name)))
        raise ApiProblem(
            404, "no-such-rule", f"{name} has no rule {str(rule)[:60]!r}", f"Rules are: {known}.",
            "One that is not in the config can be sent whole, as an object.",
        ) from None  # fmt: skip
    except (ConfigProblems, TOMLDecodeError) as error:
        problems = problem_lines(error) if isinstance(error, ConfigProblems) else [str(error)]
        raise ApiProblem(400, "bad-rule", "This is no rule", "; ".join(problems), problems=problems) from None
    except NotReadable as error:
        raise not_readable(error) from None


def _replayed(found: Replay) -> dict[str, Any]:
    return {
        "app": found.app,
        "rule": found.rule,
        "when": found.when,
        "verdict": found.words,
        "since": iso(found.since),
        "until": iso(found.until),
        "points": found.points,
        "step_s": round(found.step, 1),
        "fired": [_fired(one) for one in found.fired],
        "kept_from": found.kept_from,
        "nearest": _fired(found.nearest) if found.nearest is not None else None,
        "share": round(found.share, 3),
        "not_known": found.not_known,
    }


def _fired(one: Fired) -> dict[str, Any]:
    return {"time": iso(one.at), "instance": one.instance, "value": one.value, "words": one.words}


# --- what they did -----------------------------------------------------------------------------------


async def _history(gateway: Gateway, app: str, most: int) -> tuple[list[dict[str, Any]], str]:
    """Newest first, and why the older ones are not to be had; a firing in memory is the same one in the store."""
    known = {(one.id, round(one.at, 3)): _firing(one) for one in gateway.autoheal.history(app, most)}
    problem = ""
    try:
        for act in await gateway.store.acts(app, limit=most):
            known.setdefault((str(act.details.get("firing", "")), round(act.at, 3)), _act(act))
    except NotReadable as error:
        problem = str(error)
    newest = sorted(known, key=lambda key: key[1], reverse=True)
    return [known[key] for key in newest[:most]], problem


def _firing(one: Firing) -> dict[str, Any]:
    outcomes = [
        {"act": each.act, "state": each.state, "why": each.why, "operation": each.operation} for each in one.outcomes
    ]
    return _shape(
        one.id, one.at, one.rule, one.builtin, one.app, one.instance, one.value, one.reason, one.dry, outcomes,
        running=one.running,
    )  # fmt: skip


def _act(one: Act) -> dict[str, Any]:
    outcomes = []
    for act, said in one.outcomes:
        state, _, why = said.partition(": ")
        outcomes.append({"act": act, "state": state, "why": why, "operation": ""})
    return _shape(
        str(one.details.get("firing", one.id)), one.at, one.rule, bool(one.details.get("builtin")), one.app,
        one.instance, one.value, one.reason, one.dry, outcomes, operation=one.operation,
    )  # fmt: skip


def _shape(
    id: str,
    at: float,
    rule: str,
    builtin: bool,
    app: str,
    instance: str,
    value: str,
    reason: str,
    dry: bool,
    outcomes: list[dict[str, Any]],
    *,
    running: bool = False,
    operation: str = "",
) -> dict[str, Any]:
    failed = any(one["state"] == "failed" for one in outcomes)
    return {
        "id": id,
        "time": iso(at),
        "rule": rule,
        "builtin": builtin,
        "app": app,
        "instance": instance,
        "value": value,
        "reason": reason,
        "dry": dry,
        "state": "dry" if dry else "running" if running else "failed" if failed else "done",
        "outcomes": outcomes,
        "operation": operation or next((one["operation"] for one in reversed(outcomes) if one["operation"]), ""),
    }
