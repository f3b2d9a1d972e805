"""The ways to tell someone: one file each, and the registry of them.

A notifier brings one message in one try, within its `limit`, or raises Failed; when to try again is the outbox's.
"""

from proxy.control.alerts.notifiers.registry import WAYS, make, way

__all__ = ["WAYS", "make", "way"]
