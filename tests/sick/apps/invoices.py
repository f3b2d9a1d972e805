"""Invoices."""

import time

from web import Failed, Request, Web

app = Web("invoices")


def mean(lines: list[float]) -> float:
    return sum(lines) / len(lines)


@app.get("/")
def index(request: Request) -> object:
    time.sleep(0.02)
    return {"invoices": 4}


@app.get("/invoice")
def invoice(request: Request) -> object:
    return {"mean": mean([])}


@app.get("/panel")
def panel(request: Request) -> object:
    raise Failed(500, "something went wrong")


app.run()
