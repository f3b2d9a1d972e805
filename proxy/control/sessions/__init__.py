"""Diagnostic sessions, as control sees them: what starts one, what it is told, how far it is, what it left.

session    what one is                       budget     whether one more may begin; pure
engine     all of them; where others ask     run        one session's process, followed to its end
evidence   before an instance is replaced    triggers   what starts one by itself
known      all that control knows of an app  values     its parts, one by one
seconds    rings of metrics, unpacked        targets    which instances are looked into
folders    on the disk                       behind     the process behind a given address
pieces     JSON of it, piece by piece       adopting   those that a former control had begun
"""
