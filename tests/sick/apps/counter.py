"""A counter where one is served after the other."""

import os
import time
from http.server import BaseHTTPRequestHandler, HTTPServer


class Counter(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(1.5)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"next")

    def log_message(self, *args):
        pass


HTTPServer.request_queue_size = 2
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Counter).serve_forever()
