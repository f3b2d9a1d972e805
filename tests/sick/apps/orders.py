"""Orders are settled one after the other by the main thread."""

import queue
import threading
import time

from web import Request, Web

RATES = {"EUR": 1.0, "USD": 1.09, "GBP": 0.86}
app = Web("orders")
jobs: queue.Queue[tuple[dict[str, str], threading.Event]] = queue.Queue()


@app.get("/")
def index(request: Request) -> object:
    time.sleep(0.02)
    return {"orders": jobs.qsize()}


@app.post("/orders")
def order(request: Request) -> object:
    done = threading.Event()
    jobs.put((request.query, done))
    done.wait(5)
    return {"settled": done.is_set()}


def settle(order: dict[str, str]) -> float:
    time.sleep(0.03)
    return float(order.get("total", "10")) * RATES[order["currency"]]


app.start()
while True:
    todo, done = jobs.get()
    settle(todo)
    done.set()
