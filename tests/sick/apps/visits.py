"""Counts visits, and remembers the visitors."""

import os
import time

from web import Request, Web

app = Web("visits")
visitors: dict[int, bytes] = {}


@app.get("/visit")
def visit(request: Request) -> object:
    visitors[len(visitors)] = os.urandom(400_000)
    time.sleep(0.02)
    return {"visits": len(visitors)}


@app.get("/invoice")
def invoice(request: Request) -> object:
    lines: list[int] = []
    return {"mean": sum(lines) / len(lines)}


app.run()
