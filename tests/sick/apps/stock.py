"""Stock, counted now and then."""

import threading
import time

from web import Request, Web

app = Web("stock")
shelf = threading.Lock()


@app.get("/stock")
def stock(request: Request) -> object:
    with shelf:
        return {"left": 7}


@app.post("/recount")
def recount(request: Request) -> object:
    with shelf:
        for _ in range(25):
            time.sleep(0.1)
    return {"counted": True}


app.run()
