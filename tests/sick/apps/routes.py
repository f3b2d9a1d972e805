"""Finds ways. `routes.py [CPU-SECONDS]`."""

import sys
import threading
import time

from web import Request, Web

app = Web("routes")
WORK = float(sys.argv[1]) if len(sys.argv) > 1 else 0.2


def shortest(seconds: float) -> int:
    until = time.thread_time() + seconds
    steps = 0
    while time.thread_time() < until:
        steps += 1
    return steps


def improve() -> None:
    while True:
        shortest(1.0)


@app.get("/way")
def way(request: Request) -> object:
    return {"steps": shortest(WORK)}


@app.get("/")
def index(request: Request) -> object:
    return {"ways": 3}


@app.post("/improve")
def begin(request: Request) -> object:
    for number in range(10):
        threading.Thread(target=improve, name=f"improve-{number}", daemon=True).start()
    return {"begun": True}


app.run()
