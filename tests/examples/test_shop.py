"""The sample app, started as config.toml starts it, asked directly."""

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, IncompleteRead
from pathlib import Path

import pytest
from websockets.sync.client import connect

from proxy.control.ports import free_port

APP = Path(__file__).parents[2] / "examples" / "shop" / "app.py"
LIMIT = 30.0

pytestmark = pytest.mark.slow


@dataclass
class Shop:
    process: "subprocess.Popen[bytes]"
    port: int

    def ask(self, path: str, body: bytes | None = None) -> tuple[HTTPResponse, bytes]:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
        try:
            connection.request("GET" if body is None else "POST", path, body)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def get(self, path: str) -> str:
        response, body = self.ask(path)
        assert response.status == 200, body
        return body.decode()

    def stop(self) -> str:
        """All that it printed until it was gone."""
        self.process.terminate()
        try:
            return self.process.communicate(timeout=LIMIT)[0].decode()
        finally:
            self.process.kill()


def start() -> Shop:
    port = free_port(())
    process = subprocess.Popen(
        [sys.executable, str(APP), "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    shop = Shop(process, port)
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=LIMIT).close()
            return shop
        except ConnectionRefusedError:
            time.sleep(0.05)
    process.kill()
    raise AssertionError(f"the shop does not listen: {process.communicate()[0].decode()}")


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    shop = start()
    yield shop
    shop.stop()


@pytest.fixture
def doomed() -> Iterator[Shop]:
    shop = start()
    yield shop
    shop.stop()


def test_the_first_page_lists_every_route(shop: Shop) -> None:
    page = shop.get("/")
    source = APP.read_text()
    for path in re.findall(r'@routes\.\w+\("(/\w*)"\)', source):
        assert f"{path}<" in page, path


def test_it_is_well_and_sells(shop: Shop) -> None:
    assert shop.get("/healthz") == "ok\n"
    assert {product["name"] for product in json.loads(shop.get("/products"))} == {"kettle", "teapot", "cup"}
    response, body = shop.ask("/orders", b"a kettle")
    assert (response.status, json.loads(body)["taken_by"]) == (201, shop.process.pid)


def test_echo_sends_back_a_large_body(shop: Shop) -> None:
    body = bytes(range(256)) * 8192
    response, answer = shop.ask("/echo", body)
    assert response.status == 200
    assert answer == body


def test_streams(shop: Shop) -> None:
    assert shop.get("/stream?n=3&s=0").splitlines() == [f"line {n} of 3" for n in (1, 2, 3)]
    events = shop.get("/sse?n=2&s=0")
    assert re.fullmatch(r"(id: \d\ndata: \d\d:\d\d:\d\d\n\n){2}", events)


def test_websocket_says_back_what_it_is_told(shop: Shop) -> None:
    with connect(f"ws://127.0.0.1:{shop.port}/ws", open_timeout=LIMIT, proxy=None) as client:
        client.send("hello")
        client.send(b"\x00\xff")
        assert [client.recv(LIMIT), client.recv(LIMIT)] == ["hello", b"\x00\xff"]
    assert shop.ask("/ws")[0].status == 426


def test_takes_its_time(shop: Shop) -> None:
    assert shop.get("/slow?s=0.01") == "waited 0.01 s\n"
    assert shop.get("/block?s=0.01") == "blocked for 0.01 s\n"
    assert shop.get("/burn?s=0.01").startswith("computed for 0.01 s")
    assert shop.get("/leak?mb=1").startswith("1 MB leaked")


@pytest.mark.parametrize("path", ["/slow?s=x", "/slow?s=-1", "/slow?s=nan", "/leak?mb=9999999"])
def test_refuses_what_is_no_number_in_range(shop: Shop, path: str) -> None:
    assert shop.ask(path)[0].status == 400


def test_an_exception_is_its_own_500(shop: Shop) -> None:
    assert shop.ask("/raise")[0].status == 500


@pytest.mark.parametrize("path", ["/close", "/garbage"])
def test_answers_that_are_none(shop: Shop, path: str) -> None:
    with pytest.raises((HTTPException, ConnectionError)):
        shop.ask(path)


def test_a_body_cut_short(shop: Shop) -> None:
    with pytest.raises(IncompleteRead) as cut:
        shop.ask("/truncate")
    assert cut.value.partial == b"0123456789"


@pytest.mark.parametrize(("path", "code", "says"), [("/crash", 3, "fatal"), ("/exit?code=7", 7, "leaving")])
def test_ends_itself(doomed: Shop, path: str, code: int, says: str) -> None:
    with pytest.raises((HTTPException, ConnectionError)):
        doomed.ask(path)
    assert doomed.process.wait(LIMIT) == code
    assert says in doomed.stop()


def test_a_stop_is_clean_and_the_log_has_a_line_for_each_request(doomed: Shop) -> None:
    doomed.get("/products")
    doomed.get("/healthz")
    said = doomed.stop()
    assert doomed.process.returncode == 0, signal.strsignal(abs(doomed.process.returncode))
    assert len(re.findall(r'"GET /(products|healthz) HTTP/1.1" 200', said)) == 2
