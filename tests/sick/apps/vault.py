"""Over TLS. `vault.py CERT KEY`."""

import ssl
import sys

from web import Request, Web

app = Web("vault")


@app.get("/")
def index(request: Request) -> object:
    return {"items": 2}


server = app.server()
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.serve_forever()
