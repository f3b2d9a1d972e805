"""What happened, on disk: SQLite, written by one thread, read by another. Start reading at store.py.

store      what control hands over, and asks       writer     the one thread that writes
schema     the tables, as numbered steps           tables     what is handed over, made into rows
file       open, check, set aside                  reader     the other thread: questions, answered
points     one row per instance and time           sample     counts of this moment, made into points
retention  what is too old or too much goes        acts       what autoheal did
"""

from proxy.control.store.acts import Act
from proxy.control.store.points import Point
from proxy.control.store.reader import NotReadable
from proxy.control.store.store import Store

__all__ = ["Act", "NotReadable", "Point", "Store"]
