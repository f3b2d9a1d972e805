"""docs/mending.md from the code: `python -m proxy.control.autoheal.docs > docs/mending.md`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from proxy import units
from proxy.config.conditions import AMOUNTS, KINDS, OWN_KEYS
from proxy.config.schema import App, Process
from proxy.control import lifecycle
from proxy.control.autoheal import builtin, rules, words
from proxy.control.autoheal.actions import ACTIONS
from proxy.control.autoheal.conditions import KINDS as CONDITIONS
from proxy.control.autoheal.guards import GUARDS
from proxy.control.autoheal.spell import GAP
from proxy.control.state import Lifecycle

_INTRO: Final = """# Mending

How Triage gets an app back to health without a person, and what a person can do meanwhile. The tables are made from the
code by `make docs`; do not edit by hand.

Most of the time a fresh process is the fastest way out of a bad state. Three things must not get lost on that way: the
requests that are under way, the evidence, and the reason. So an instance is recycled like this: evidence is taken, a
replacement is started and probed, it is admitted, the old one leaves the routing table, its requests go on to their
end, and only then it is told to stop. Whoever asked for it, a person, a rule or a changed config, it is the same act,
followed as an operation whose steps can be read (`triage status`, `GET /api/v1/operations`).
"""

_LIFECYCLE: Final = """## The life of an instance

Requests are given to `ready` instances only; of these, ejection decides which (`admission`). What is not in this
diagram cannot happen.
"""

_RULES: Final = """## Autoheal rules

A rule says: when this is seen, do that.

```toml
[[apps.web.autoheal]]
name = "slow"
when = { slow = { above = "5s", count = 20, within = "1m", path = "/api/*" } }
then = ["collect", "recycle"]
min_age = "1m"              # these five are the defaults
cooldown = "10m"
max_per_hour = 4
max_unavailable = "25%"
dry_run = false
```

Rules are looked at each second. `triage autoheal web` shows each of them: what it sees now, how far that is from a
firing, on which instance, until when it is suppressed and why, when it fired last and what came of it. What a rule did
or would have done is also in the events (`heal`, `heal-done`, `heal-failed`, `heal-suppressed`, `would-heal`).

Before a rule is switched on it can be tried: `dry_run = true` says what it would do and does nothing, and `triage
autoheal web replay` runs it over recorded history and says when it would have fired, and what the record cannot tell.

Times are measured by a clock that is never set, so a change of the wall clock fires nothing; a schedule alone looks at
the wall clock, and acts once on each of its minutes. Control's own death changes nothing either: cooldowns, chains that
run and `for` in progress are in the ledger, and a gap of up to {gap} does not break a `for`.
"""

_CONDITIONS: Final = """### Conditions

`for` holds for all of them: the condition must be met without a break for so long. `within` is how far back counts
look. A condition of scope *instance* is looked at for each ready instance, and what is done is done to that one; of
scope *app* it is looked at once.
"""

_ACTIONS: Final = """### Actions

`then` is a chain: each action is done when the one before it is over, whatever came of that, and each has an outcome:
done, failed or skipped, with the reason. None can hold up the chain for ever.
"""

_GUARDS: Final = """### Guards

What keeps a rule whose condition is met from acting. Asked in this order; the first that objects is shown, with its
reason and until when.
"""

_BUILTIN: Final = """## Built-in rules

On for each app, without a line of config, and for each instance: when one of these is seen, evidence is taken and the
instance is recycled. They are made so that a day on which the app is well fires none of them.

A rule of yours for the same thing wins: the built-in one is then off, and says so. One with `dry_run` does not count,
for it does nothing. For given addresses they need `apps.NAME.recycle`, without which nothing could be done.
"""

_HUNG: Final = """If no instance of the app is well, one is recycled first. The others follow only if its replacement
answers, and has not hung again {well} after `first_byte`: when a database hangs, all instances hang, and replacing them
again and again would only add their starts to its load. Otherwise one is tried again after the cooldown, which doubles
each time.
"""

_PERSON: Final = """## By hand

What a person does is never undone by a rule; a rule says what it would have done.

| what | how | ends by |
|---|---|---|
| no rule acts | `triage autoheal off APP`, `--for 1h` | `triage autoheal on APP`, or the time |
| one instance afresh, or all | `triage recycle APP/INSTANCE`, `triage restart APP` | itself |
| an instance gets no requests | `triage eject APP/INSTANCE` | `triage admit APP/INSTANCE` |
| requests wait | `triage hold APP` | `triage release APP` |
| the app is off | `triage stop APP` | `triage start APP` |
| so many instances | `triage scale APP 5` | `triage scale APP auto` |

A planned act, a person's or a rule's, loses no request of any method; what outlasts the drain limit is cut, named and
counted.
"""

_MEANING: Final = {
    Lifecycle.STARTING: "its process was spawned, or is about to be",
    Lifecycle.WARMING: "it stayed up for a second; probes have not passed yet",
    Lifecycle.READY: "it gets requests, unless it is ejected",
    Lifecycle.DRAINING: "it left the routing table and finishes its requests",
    Lifecycle.STOPPING: "it was told to end; what does not end in time is killed",
    Lifecycle.STOPPED: "it has ended, for good: a replacement has another number",
    Lifecycle.BACKOFF: "it ended too soon, and is started again a little later, each time a little more",
    Lifecycle.FAILED: "it ended too often; it is tried again each minute, and needs a person or a new config",
}


def markdown() -> str:
    """The whole document."""
    gap = units.duration(GAP)
    parts = [
        _INTRO,
        _LIFECYCLE,
        "\n".join(_diagram()),
        _RULES.replace("{gap}", gap),
        _CONDITIONS,
        "\n".join(_conditions()),
        _ACTIONS,
        "\n".join(_actions()),
        _GUARDS,
        "\n".join(_guards()),
        _BUILTIN,
        "\n".join(_builtin()),
        _HUNG.replace("{well}", units.duration(builtin.GETS_WELL)),
        _PERSON,
    ]
    return "\n".join(part.rstrip("\n") + "\n" for part in parts)


def _diagram() -> Iterator[str]:
    yield "```mermaid"
    yield lifecycle.diagram().rstrip("\n")
    yield "```"
    yield ""
    yield "| state | meaning |"
    yield "|---|---|"
    for state in Lifecycle:
        yield f"| `{state.value}` | {_MEANING[state]} |"


def _conditions() -> Iterator[str]:
    yield "| condition | scope | of what | may stand in | when it is met |"
    yield "|---|---|---|---|---|"
    for name, kind in CONDITIONS.items():
        measured = " or ".join(AMOUNTS[name])
        own = f"`{OWN_KEYS[name]}`" if name in OWN_KEYS else ""
        of = ", ".join(filter(None, (f"`above`, `below`: {measured}" if measured else "", own)))
        places = [word for where, word in (("heal", "autoheal"), ("scaling", "scale"), ("alarm", "alerts"))
                  if name in KINDS[where]]  # fmt: skip
        yield f"| `{name}` | {kind.scope} | {of} | {', '.join(places)} | {kind.about} |"
    yield ""
    yield "For example:"
    yield ""
    yield "```toml"
    for name, kind in CONDITIONS.items():
        if name in KINDS["heal"]:
            yield f"when = {kind.example}"
    yield "```"


def _actions() -> Iterator[str]:
    yield "| action | at most | what it does |"
    yield "|---|---|---|"
    for name, action in ACTIONS.items():
        yield f"| `{name}` | {units.duration(action.bound)} | {action.about} |"


def _guards() -> Iterator[str]:
    yield "| guard | what it does |"
    yield "|---|---|"
    for guard in GUARDS:
        yield f"| `{guard.name}` | {guard.about} |"
    yield ""
    yield (
        "And what is not shown as a guard, because nothing is met before it: `for`, and the first seconds of a new"
        " control, in which workers tell what they have counted."
    )


def _builtin() -> Iterator[str]:
    app = App(process=Process(command=("app",)))
    yield "| rule | when | then | min_age | cooldown | longest cooldown | a rule of yours for the same |"
    yield "|---|---|---|---|---|---|---|"
    for rule in builtin.rules("NAME", app):
        age = units.duration(rule.min_age) if rule.min_age else "none"
        longest = units.duration(rule.longest if rule.longest < rules.LONGEST else rules.LONGEST)
        yield (
            f"| `{rule.name}` | {rule.about} | {words.steps(rule.steps)} | {age} |"
            f" {units.duration(rule.cooldown)} | {longest} | `{builtin.SAME[rule.name]}` |"
        )


if __name__ == "__main__":
    print(markdown(), end="")
