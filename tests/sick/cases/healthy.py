"""Apps that are well: whatever is found above info is wrong."""

from tests.sick.case import Case, Stream, Truth, table

WELL = Truth(healthy=True)

HEALTHY = (
    Case("healthy-idle", "Nothing: two requests in ten seconds", table("@PYTHON@ poll.py", instances=2), WELL,
         streams=(Stream("/page", 0.2),), quick=True),
    Case("healthy-loaded", "Nothing: 80 requests a second on two instances",
         table("@PYTHON@ poll.py", instances=2), WELL, streams=(Stream("/page", 80),), before=8),
    Case("healthy-spiky", "Nothing: 5 requests a second, and 70 for three seconds now and then",
         table("@PYTHON@ poll.py", instances=2), WELL, before=8,
         streams=(Stream("/page", rates=tuple((at + more, rate) for at in range(0, 120, 10)
                                              for more, rate in ((0.0, 5.0), (6.0, 70.0), (9.0, 5.0)))),)),
    Case("healthy-warming", "Nothing: fresh instances fill a cache of 48 MB for a while",
         table("@PYTHON@ poll.py", instances=2, process='memory = "400MB"'), WELL, streams=(Stream("/picture", 12),),
         before=2),
    Case("healthy-ramp", "Nothing: traffic rises from 4 to 60 a second and falls again",
         table("@PYTHON@ poll.py", instances=2), WELL, before=8,
         streams=(Stream("/page", rates=tuple((at * 2.0, 4.0 + 56.0 * (1 - abs(at - 12) / 12) if at < 24 else 4.0)
                                              for at in range(25))),)),
    Case("healthy-waiting", "Nothing: long polls of 8 s and streams of events beside quick pages",
         table("@PYTHON@ poll.py", instances=2), WELL, before=8,
         streams=(Stream("/page", 10), Stream("/news", count=6), Stream("/events", count=4, timeout=120))),
)  # fmt: skip
