"""docs/cli.md from the command itself: `python -m proxy.cli.docs > docs/cli.md`."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any, Final

import click

from proxy.cli.command import triage
from proxy.cli.group import SECTIONS

WIDTH: Final = 120
COMMON: Final = ("as_json", "url", "token", "token_file", "ca", "config")
"""Parameters that every verb has which asks a gateway: described once."""
ACT: Final = ("note", "wait", "yes", "foresee")
"""Those of every act, likewise."""

_INTRO: Final = """# The command

Made from `proxy/cli/` by `make docs`; do not edit by hand.

`triage --help` lists the verbs as the work goes: run, observe, collect and analyze, mitigate; `triage VERB --help` has
the options of each. What a verb prints for people, `--json` prints as the API answered it, with times in UTC. Below,
`[GATEWAY]` stands for `--json` and the options that say which gateway, `[ACT OPTIONS]` for those of every act.

## Which gateway

The command looks for the gateway at these places, and lists what it tried where none answers:

1. `--url URL` (`https://…`, `http://…`, `unix:/PATH`), else `TRIAGE_URL`, else `-c FILE`, the config of the gateway.
   What is named is the only one that is tried.
2. `/run/triage/admin.sock`, then `$XDG_RUNTIME_DIR/triage/*.sock`, then the sockets of `triage run`; of several that
   of this folder.
3. `./config.toml`: its socket, then its address with the `admin.token` of its data folder.

Over the Unix socket the owner of `data_dir`, root and the group `triage` are admins without a token. Over TCP a token
is needed: `--token-file FILE`, `TRIAGE_TOKEN_FILE` or `TRIAGE_TOKEN`. There is `--token`, but what stands in a command
line, all users of the machine can read. `triage token make` makes tokens with less than all rights; `triage whoami`
says as whom the gateway knows you. For `https://` the certificates of the system are trusted, or those in `--ca FILE`
(`TRIAGE_CA`). A token that goes out unencrypted is remarked on.

## Exit codes

| code | |
|---|---|
| 0 | done |
| 1 | refused, or failed: standard error says what, why, and what would be right |
| 2 | usage: what was typed makes no sense; nothing was asked for |
| 3 | no gateway there, or it stopped answering for 30 s |
| 130 | Ctrl-C; an act that was begun goes on, and it is said how to follow it |
| 141 | who read the output has left (`triage events \\| head`) |

`triage exec` ends with the exit code of what it ran, 128 + N where signal N ended it, 125 where it is not known how it
ended; what Triage itself refuses is 1, 2 or 3 there too.

## Acts

An act first says what will happen on a terminal, and asks if capacity or requests are at stake; anywhere else nobody is
asked. It waits for its end and prints each step with its time:

```
$ triage recycle web-1
14:03:06 +01:00  op-1: recycle of web/web-1, by hand
14:03:07         evidence of web-1: 5 of 5 artifacts in diagnostics/S-2 (triage report S-2)
14:03:07         web-3 started, pid 25800
14:03:08         web-3 ready after 1 s
14:03:08         web-1 left routing, no requests on it
14:03:08         web-1 ended: signal 15 (SIGTERM)
14:03:08         done after 2.5 s: replaced by web-3
```

| option | |
|---|---|
| `--note TEXT`, `--reason TEXT` | why, for the events |
| `--preview` | only say what would happen |
| `--yes` | do not ask |
| `--no-wait` | begin it, and end; `triage operations ID -f` follows it, also over a restart of control |

What is set by hand is kept over reloads, over control's death and over a restart of everything; `triage status` shows
it as `by hand` with when and why. With `--for` it ends by itself. `INSTANCE` alone will do where one app has it. What
is not possible is refused before it begins.

## Tables, and following

On a terminal a table fits its width, anywhere else nothing is cut. `NO_COLOR` takes the colours away. What stands in
names, log lines or addresses and would act on a terminal is shown as `?`; only `exec` and `files get FILE -` hand
on what there is.

- `-w`, `--watch` looks again and again (`--every 5s`) and draws over what was there, until Ctrl-C; with `--json` each
  look is a line.
- `-f` (`events`, `logs`, `requests`) and `top` go on where they were, by id, over a control that is started anew or an
  upgrade, and give up after 30 s without a gateway. What could not be read fast enough is said on standard error.

## Completion

| shell | |
|---|---|
| bash | `eval "$(triage completion bash)"` in `~/.bashrc` |
| zsh | `eval "$(triage completion zsh)"` in `~/.zshrc`, after `compinit` |
| fish | `triage completion fish \\| source` in `~/.config/fish/config.fish` |

Names of apps, instances, sessions, incidents, requests, tokens and files come from the running gateway; where none
answers within a second, nothing is offered.
"""


def page() -> str:
    """The whole of it."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield _INTRO.rstrip("\n")
    context = click.Context(triage, info_name="triage")
    for section, names in SECTIONS.items():
        yield f"\n## {section.capitalize()}\n"
        rows = []
        for name in names:
            command = triage.get_command(context, name)
            assert command is not None
            rows.append(f"| [`{name}`](#triage-{name}) | {cell(summary(command))} |")
        yield "\n".join(["| verb | |", "|---|---|", *rows])
        for name in names:
            command = triage.get_command(context, name)
            assert command is not None
            yield from _verb(command, click.Context(command, info_name=name, parent=context))


def _verb(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"\n### {context.command_path}\n"
    if isinstance(command, click.Group):
        yield prose(command.help)
        for name, each in command.commands.items():
            below = click.Context(each, info_name=name, parent=context)
            yield f"\n#### {below.command_path}\n"
            yield from _body(each, below)
        return
    yield from _body(command, context)


def _body(command: click.Command, context: click.Context) -> Iterator[str]:
    yield f"```\n{synopsis(command, context)}\n```\n"
    yield prose(command.help)
    options = [one for one in command.params if isinstance(one, click.Option) and not told_above(one, command)]
    if options:
        yield "\n| option | |\n|---|---|"
        for option in options:
            names, text = option.get_help_record(context) or ("", "")
            yield f"| `{cell(plain(names))}` | {cell(text)} |"
    if typed := re.findall(r"^  (.+)$", command.epilog or "", re.M):
        yield "\n```\n" + "\n".join(typed) + "\n```"
    yield f"\n{codes(command)}"
    if asked := getattr(command.callback, "calls", ()):
        yield "\nAsks for " + ", ".join(f"`{route.replace('/api/v1/', '')}`" for route in asked) + "."


def codes(command: click.Command) -> str:
    """The exit codes it ends with."""
    if command.name == "exec":
        return "Exit codes: those of what ran; 1, 2, 3, 125, 130."
    if not any(one.name == "url" for one in command.params):
        return "Exit codes: 0, 1, 2."
    return "Exit codes: 0, 1, 2, 3."


def told_above(option: click.Option, command: click.Command) -> bool:
    """Whether it is one of those that are described once."""
    names = {one.name for one in command.params}
    return (
        (option.name in COMMON and "url" in names)
        or (option.name in ACT and names >= {*ACT})
        or option.name in ("watch", "every")
    )


def synopsis(command: click.Command, context: click.Context) -> str:
    """`triage scale APP [N | auto] [--memory SIZE] …`, folded."""
    usage = re.sub(r"^Usage: ", "", " ".join(command.get_usage(context).split()))
    names = {one.name for one in command.params}
    common = [
        text
        for there, text in (
            ("watch" in names, "[--watch]"), (names >= {*ACT}, "[ACT OPTIONS]"), ("url" in names, "[GATEWAY]")
        )
        if there
    ]  # fmt: skip
    own = any(isinstance(one, click.Option) and not told_above(one, command) for one in command.params)
    usage = usage.replace("[OPTIONS]", " ".join([*(["[OPTIONS]"] if own else []), *common]) or "")
    return textwrap.fill(" ".join(usage.split()), WIDTH, subsequent_indent="    ", break_on_hyphens=False)


def summary(command: click.Command) -> str:
    """The first sentence."""
    return command.get_short_help_str(200)


def prose(text: str | None) -> str:
    """Paragraphs of a docstring, as Markdown."""
    parts = [" ".join(part.split()) for part in (text or "").replace("\b\n", "").split("\n\n")]
    return "\n\n".join(textwrap.fill(part, WIDTH, break_on_hyphens=False) for part in parts if part)


def plain(names: str) -> str:
    return names.replace("|", " ").replace("  ", " ") if "[APP" in names else names


def cell(text: Any) -> str:
    """A cell of a table."""
    return str(text).replace("|", "\\|")


if __name__ == "__main__":
    print(page(), end="")
