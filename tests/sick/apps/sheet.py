"""A sheet; busy after a while, and says so. `sheet.py SECONDS`."""

import random
import sys
import time

from web import Failed, Request, Web

app = Web("sheet")
began = time.monotonic()


@app.get("/sheet")
def sheet(request: Request) -> object:
    time.sleep(0.02)
    if time.monotonic() - began > float(sys.argv[1]) and random.random() < 0.75:
        raise Failed(503, "busy, try again")
    return {"cells": 9}


app.run()
