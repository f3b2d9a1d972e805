"""Reports. `reports.py SECONDS`."""

import sys
import time

from web import Request, Web

app = Web("reports")
VIDEO = b"v" * 40_000_000


def build(seconds: float) -> None:
    for _ in range(int(seconds * 20)):
        time.sleep(0.05)


@app.get("/report")
def report(request: Request) -> object:
    build(float(sys.argv[1]))
    return {"pages": 12}


@app.get("/")
def index(request: Request) -> object:
    time.sleep(0.01)
    return {"reports": 3}


@app.get("/video")
def video(request: Request) -> object:
    return VIDEO


app.run()
