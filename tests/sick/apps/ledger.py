"""A ledger that reads its rates anew every few seconds."""

import json
import time
from pathlib import Path

from web import Request, Web

app = Web("ledger")
rates: dict[str, float] = {}


@app.get("/")
def entries(request: Request) -> object:
    time.sleep(0.05)
    return {"entries": 3}


def refresh() -> None:
    rates.update(json.loads(Path("rates.json").read_text()))


Path("rates.json").write_text('{"EUR": 1.0, "USD": 1.0')
app.start()
while True:
    time.sleep(3)
    refresh()
