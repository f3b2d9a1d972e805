"""Keeps what is sent to it, in `data`."""

from pathlib import Path

from web import Request, Web

app = Web("uploads")
count = 0


@app.post("/upload")
def upload(request: Request) -> object:
    global count
    count += 1
    (Path("data") / f"{count}.bin").write_bytes(request.body)
    return {"kept": count}


@app.get("/")
def index(request: Request) -> object:
    return {"kept": count}


app.run()
