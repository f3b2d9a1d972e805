"""A list of customers, and its export."""

import time

from web import Request, Web

app = Web("customers")


@app.get("/")
def customers(request: Request) -> object:
    time.sleep(0.03)
    return [{"id": number} for number in range(50)]


@app.get("/export")
def export(request: Request) -> object:
    tenant = request.query.get("tenant", "1")
    app.log.info("export tenant=%s rows=412000", tenant)
    rows = []
    for number in range(412_000):
        rows.append({"id": number, "name": f"customer {number}", "address": "x" * 900})
        if number % 2_000 == 0:
            time.sleep(0.01)
    return rows


app.run()
