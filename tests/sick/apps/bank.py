"""Accounts, and the books about them."""

import threading
import time

from web import Request, Web

app = Web("bank")
accounts, books = threading.Lock(), threading.Lock()


@app.get("/")
def index(request: Request) -> object:
    return {"open": True}


@app.post("/transfer")
def transfer(request: Request) -> object:
    with accounts:
        time.sleep(0.02)
        with books:
            time.sleep(0.01)
    return {"done": True}


@app.get("/audit")
def audit(request: Request) -> object:
    with books:
        time.sleep(0.02)
        with accounts:
            time.sleep(0.01)
    return {"fine": True}


app.run()
