"""Forms are converted by a program; four threads serve. `forms.py [SECONDS]`."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from web import Request, Server, Web

app = Web("forms")
pool = ThreadPoolExecutor(4, thread_name_prefix="worker")
TAKES = sys.argv[1] if len(sys.argv) > 1 else "0.8"


class Pooled(Server):
    def process_request(self, request: object, client_address: object) -> None:
        pool.submit(self.process_request_thread, request, client_address)


@app.get("/convert")
def convert(request: Request) -> object:
    subprocess.run(["sleep", TAKES], check=True)
    return {"converted": True}


def close_after_each() -> None:
    answer = app.send

    def send(handler: object, status: int, found: object) -> None:
        handler.close_connection = True
        handler.headers["Connection"] = "close"
        answer(handler, status, found)

    app.send = send


close_after_each()
server = app.server(kind=Pooled)
app.log.info("listening on %s:%d", *server.server_address[:2])
server.serve_forever()
