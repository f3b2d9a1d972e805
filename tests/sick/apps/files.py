"""Files, and what was read last."""

import time

from web import Request, Web

app = Web("files")
recent = []


@app.get("/file")
def file(request: Request) -> object:
    opened = open(__file__, "rb")  # noqa: SIM115
    recent.append(opened)
    time.sleep(0.01)
    return {"size": len(opened.read())}


app.run()
