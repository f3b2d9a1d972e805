"""A cart, straight on the standard library's server."""

import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRICES = {"1": 34, "2": 21}


class Cart(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.path.startswith("/item/"):
            body = b"%d" % PRICES[self.path.rpartition("/")[2]]
        else:
            body = b"ok"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


ThreadingHTTPServer.daemon_threads = True
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Cart).serve_forever()
