"""Loads the agent into this interpreter, then the sitecustomize that would have been loaded without it.

Any Python that is started in an instance reads this file, so it must be valid in every version there is.
"""

import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))
try:
    if sys.version_info >= (3, 8) and sys.implementation.name == "cpython" and os.environ.get("TRIAGE_AGENT"):
        __import__("_triage_agent.begin").begin.begin(os.environ["TRIAGE_AGENT"])
except Exception:  # the app comes first, whatever is wrong with the agent
    pass

sys.path[:] = [one for one in sys.path if os.path.abspath(one) != _here]
sys.path_importer_cache.pop(_here, None)
_ours = sys.modules.pop("sitecustomize", None)
try:
    __import__("sitecustomize")
except ImportError:
    _error = sys.exc_info()[1]
    if getattr(_error, "name", "sitecustomize") != "sitecustomize":
        raise
finally:
    if _ours is not None:
        sys.modules.setdefault("sitecustomize", _ours)
