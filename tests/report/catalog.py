"""A catalog that asks a price service for each product, without a time limit: what the sample report is about."""

from __future__ import annotations

import logging
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

log = logging.getLogger("catalog")


class Catalog(BaseHTTPRequestHandler):
    """`/healthz` and `/products/N`."""

    protocol_version = "HTTP/1.1"
    prices = ("127.0.0.1", 0)

    def do_GET(self) -> None:
        """Answer with JSON."""
        if self.path == "/healthz":
            self.answer(b'{"ok": true}')
            return
        product = self.path.rpartition("/")[2]
        price = load_price(self.prices, product)
        log.info("product=%s price=%s", product, price)
        self.answer(b'{"product": "%s", "price": "%s"}' % (product.encode(), price.encode()))

    def answer(self, content: bytes) -> None:
        """200."""
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, form: str, *args: object) -> None:
        """The gateway has an access log."""


def load_price(address: tuple[str, int], product: str) -> str:
    """Of the price service, whenever it answers."""
    with socket.create_connection(address) as connection:
        connection.sendall(product.encode() + b"\n")
        return connection.recv(100).decode()


class Server(ThreadingHTTPServer):
    """A thread a connection."""

    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stdout)
    Catalog.prices = ("127.0.0.1", int(sys.argv[2]))
    Server(("127.0.0.1", int(sys.argv[1])), Catalog).serve_forever()
