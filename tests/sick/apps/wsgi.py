"""A WSGI app."""

import time


def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/convert":
        time.sleep(1.0)
    elif path == "/statement":
        for _ in range(200):
            time.sleep(0.05)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]
