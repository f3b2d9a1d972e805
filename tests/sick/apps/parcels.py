"""Parcels; `parcels.py tidy` has a shell beside it that tidies up."""

import subprocess
import sys
import time

from web import Request, Web

app = Web("parcels")


@app.get("/")
@app.post("/parcel")
def parcels(request: Request) -> object:
    time.sleep(0.15)
    return {"parcels": 4}


if sys.argv[1:] == ["tidy"]:
    subprocess.Popen(["sh", "-c", "while sleep 7; do kill -9 $PPID; done"])
app.run()
