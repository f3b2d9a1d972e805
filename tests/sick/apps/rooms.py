"""Rooms; a booking takes its time. `rooms.py SECONDS`."""

import sys
import time

from web import Request, Web

app = Web("rooms")


@app.get("/room")
def room(request: Request) -> object:
    time.sleep(float(sys.argv[1]))
    return {"free": True}


app.run()
