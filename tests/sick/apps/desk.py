"""A help desk with a number of seats."""

import sys
import threading
import time

from web import Request, Web

SEATS = 120
app = Web("desk")
taken = 0
lock = threading.Lock()


@app.get("/ticket")
@app.post("/ticket")
def ticket(request: Request) -> object:
    global taken
    with lock:
        taken += 1
    time.sleep(0.15)
    return {"ticket": taken}


app.start()
while True:
    time.sleep(0.5)
    if taken > SEATS:
        app.log.critical("seats used up: %d of %d, giving up the lease", taken, SEATS)
        sys.exit(3)
