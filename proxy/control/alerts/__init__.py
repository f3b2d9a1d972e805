"""Alerts: incidents that someone is told of.

`rules` look at what the config's `[[alerts]]` ask for and keep their signals up on incidents; `builtin` says which
signals are told of without any rule; `telling` decides when whom is told what (pure); `message` is what is said;
`outbox` brings it, one queue and one task for each notifier, as `patience` has it (pure); `notifiers/` are the ways;
`engine` is all of them together.
"""
