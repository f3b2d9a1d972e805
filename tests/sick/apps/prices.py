"""Prices come from another service. `prices.py ADDRESS`."""

import sys
import time
import urllib.request

from web import Request, Web

app = Web("prices")


def ask(path: str) -> bytes:
    with urllib.request.urlopen(f"http://{sys.argv[1]}{path}", timeout=60) as answer:
        return answer.read()


@app.get("/price")
def price(request: Request) -> object:
    return ask("/v1/price")


@app.get("/sort")
def sort(request: Request) -> object:
    until = time.thread_time() + 0.25
    number = 0
    while time.thread_time() < until:
        number += 1
    return {"sorted": number}


app.run()
