"""The kinds of conditions: one file each, and the registry of them in the order of the docs.

`look` is what autoheal, scaling and alerts call; `watches` what workers have to count for a condition; `reach` how far
back it looks. `for` is not theirs: it holds for every kind, and is `spell.Spell`.
"""

from proxy.control.autoheal.conditions.registry import KINDS, all_watches, look, reach, watches

__all__ = ["KINDS", "all_watches", "look", "reach", "watches"]
