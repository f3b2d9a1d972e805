"""Tenants; TENANTS_STORE is where they are."""

import os
import time

from web import Failed, Request, Web

app = Web("tenants")


def total(prices: list[object]) -> float:
    return sum(float(price) for price in prices) if os.environ.get("TOTALS") != "exact" else sum(prices)


@app.get("/tenant")
def tenant(request: Request) -> object:
    time.sleep(0.01)
    if os.environ.get("TENANTS_STORE") == "b":
        raise Failed(500, "store answered 403")
    return {"tenant": 1}


@app.get("/total")
def totals(request: Request) -> object:
    return {"total": total([1, 2, "3.50"])}


app.run()
