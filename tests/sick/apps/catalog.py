"""A catalog. `catalog.py [PORT [HOST [WARM-UP]]]`."""

import sys
import time

from web import Request, Web

app = Web("catalog")


@app.get("/")
def items(request: Request) -> object:
    time.sleep(0.02)
    return {"items": 81}


def read_index(seconds: float) -> None:
    app.log.info("reading the index")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(20_000))
        time.sleep(0.01)


given = dict(enumerate(sys.argv[1:]))
read_index(float(given.get(2, "0")))
app.run(given.get(1, "127.0.0.1"), int(given.get(0, "0")))
