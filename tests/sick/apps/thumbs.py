"""Pictures; thumbnails come from a native library."""

import ctypes
import time

from web import Request, Web

app = Web("thumbs")


@app.get("/")
def gallery(request: Request) -> object:
    time.sleep(0.03)
    return {"pictures": 12}


@app.get("/page")
def page(request: Request) -> object:
    time.sleep(3)
    return {"pictures": 12}


@app.get("/thumb")
def thumb(request: Request) -> object:
    time.sleep(0.05)
    return ctypes.string_at(int(request.query.get("at", "8")), 16)


app.run()
