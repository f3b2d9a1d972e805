"""Service health: spans in which an app, the gateway or the host was not well.

`incident.py` is what one is, `signals/` what may be wrong, one file each; `engine.py` opens, updates and closes them.
"""
