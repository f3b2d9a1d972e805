"""What conditions look at, and what they say: the contract between readings, conditions, rules and scaling.

A *reading* is what is known of one instance, or of an app, at one moment; counts in it are cumulative and only grow,
so that any two readings of a series give what happened between them. A condition is a pure function of a series.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal, Protocol

from proxy.config.conditions import Condition
from proxy.link.messages import Watch

NOTHING: Final[Mapping[Any, Any]] = MappingProxyType({})
FILES: Final = "files"
CONFIG: Final = "config"


@dataclass(frozen=True, slots=True)
class Reading:
    """Of an instance; of an app it is the sum (counts, in-flight, queue) or the mean (memory, CPU, descriptors and
    their limits) of its ready instances. Counts of an app take in what reached none, and instances that are gone.

    None: it is not known, which is never the same as 0.
    """

    at: float  # seconds; monotonic when live, Unix in a replay
    unix: float = 0.0  # the same moment in Unix seconds
    requests: int = 0
    classes: tuple[int, ...] = (0, 0, 0, 0, 0, 0)  # 1xx … 5xx, none
    faults: Mapping[str, int] = field(default_factory=lambda: NOTHING)
    wait: Mapping[int, int] = field(default_factory=lambda: NOTHING)  # sparse histogram; in a replay only
    watched: Mapping[str, int] = field(default_factory=lambda: NOTHING)  # by link.Watch.key, exact
    answers: int = 0  # response heads
    answered: float = 0.0  # `at` of the last sign that it answers: a head, content, a passed HTTP probe; 0.0: none yet
    inflight: int = 0
    slots: int = 0  # 0: no limit, or it is not known
    queue: int = 0  # waiting requests; of an app only
    oldest_wait: float = 0.0  # seconds that the oldest request waits for its response head; 0.0: none waits over 1 s
    waiting: float = 0.0  # seconds for which, almost without a break, some request waited over 1 s
    memory: int | None = None  # bytes, of the process tree
    memory_limit: int | None = None  # bytes: the instance's own, else what it uses and host or cgroup still has
    cpu: float | None = None  # cores in use
    cpu_seconds: float | None = None  # cumulative; of an app the mean of its instances, added up
    cpu_limit: float | None = None  # cores: the instance's own, else the machine's
    descriptors: int | None = None  # of the process of the tree that has most
    descriptor_limit: int | None = None
    age: float = 0.0  # seconds since it became ready; of an app, of its oldest instance
    probes_failed: int = 0  # in a row
    unhealthy: int = 0  # of an app: instances that are ejected, failing or not ready
    instances: int = 1  # of an app: wanted ones
    exits: int = 0  # of an app: unplanned ends so far, cumulative
    files: str = ""  # of an app: fingerprint of the files of process.watch, "" when none are
    config: str = ""  # of an app: generation of its process table
    changes: Mapping[str, float] = field(default_factory=lambda: NOTHING)
    """Of an app: `at` of the last change of FILES, of CONFIG, and of a rule's own files by `"\\n".join(files)`."""


class Series(Protocol):
    """Readings of one instance or app, in order, thinned with age."""

    @property
    def first(self) -> Reading | None: ...

    @property
    def last(self) -> Reading | None: ...

    def before(self, at: float) -> Reading | None:
        """The newest reading at or before `at`; the oldest there is if all are younger; None without any."""


Unit = Literal["", "s", "bytes", "ratio", "cores"]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a condition sees now."""

    met: bool
    value: float | None  # in the threshold's unit; None: not known
    threshold: float
    unit: Unit
    words: str  # "12 of 20 requests waited over 5 s in the last 1m"; for people, with its numbers
    below: bool = False  # met by being under the threshold
    token: float = 0.0
    """Of a condition that happens at a moment (a schedule, a change): which one it is. A rule acts once on each; a
    later one has a higher token."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of condition: a file in conditions/."""

    name: str  # as in the config
    scope: Literal["instance", "app"]  # what it looks at in an autoheal rule; scaling always looks at the app
    about: str  # one line for docs/mending.md
    look: Callable[[Condition, Series, float], Seen]  # `now` in the series' clock
    watches: Callable[[Condition], tuple[Watch, ...]] = lambda condition: ()  # what workers have to count for it
    once: bool = False  # it happens at a moment, and Seen.token says which
    recorded: Callable[[Condition], str] = lambda condition: ""
    """For a replay: "" if recorded points tell it all, else what they cannot tell."""
    example: str = ""  # TOML, for docs/mending.md
