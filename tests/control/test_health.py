import socket
import threading
from pathlib import Path

import pytest

from proxy.control.health import Target, probe


class Origin:
    """Answers one request, or reads it and waits for the other to leave (`linger`)."""

    def __init__(self, answer: bytes, linger: bool = False) -> None:
        self.seen = b""
        self._answer, self._linger = answer, linger
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> "Origin":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.join(20)
        self._listener.close()

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            while b"\r\n\r\n" not in self.seen:
                self.seen += sock.recv(4096)
            sock.sendall(self._answer)
            while self._linger:
                try:
                    self._linger = bool(sock.recv(4096))
                except ConnectionError:
                    return


@pytest.mark.parametrize(
    ("answer", "ok", "words"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True, "status 200"),
        (b"HTTP/1.0 204 No Content\r\n\r\n", True, "status 204"),
        (b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", True, "status 200"),
        (b"HTTP/1.1 503 No\r\n\r\ndatabase down", False, "status 503"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n",
            False,
            "status 302, a redirect to /login: redirects are not followed, set health.path to what it leads to",
        ),
        (b"SSH-2.0-OpenSSH\r\n", False, "no HTTP response: b'SSH-2.0-OpenSSH\\r\\n'"),
        (b"", False, "closed without a whole answer"),
    ],
)
async def test_answers(answer: bytes, ok: bool, words: str) -> None:
    with Origin(answer) as origin:
        result = await probe(Target(host="127.0.0.1", port=origin.port, path="/healthz", host_field="example.com"))
    assert (result.ok, result.words) == (ok, words)
    assert origin.seen.startswith(b"GET /healthz HTTP/1.1\r\nHost: example.com\r\nUser-Agent: triage-probe\r\n")


async def test_the_beginning_of_the_body_is_kept() -> None:
    with Origin(b"HTTP/1.1 500 No\r\n\r\n" + b"x" * 1000) as origin:
        result = await probe(Target(host="127.0.0.1", port=origin.port, path="/"))
    assert result.body == "x" * 200
    assert not result.refused


async def test_an_answer_without_content_over_a_connection_that_stays_open() -> None:
    with Origin(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", linger=True) as origin:
        assert (await probe(Target(host="127.0.0.1", port=origin.port, path="/"))).ok
    with Origin(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", linger=True) as origin:
        result = await probe(Target(host="127.0.0.1", port=origin.port, path="/", timeout=0.2))
    assert (result.ok, result.words) == (False, "status 503")


async def test_no_answer_in_time() -> None:
    with Origin(b"HTTP/1.1 200", linger=True) as origin:
        result = await probe(Target(host="127.0.0.1", port=origin.port, path="/", timeout=0.2))
    assert (result.ok, result.words) == (False, "no answer within 200 ms")


async def test_refused_and_missing(tmp_path: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    result = await probe(Target(host="127.0.0.1", port=port))
    assert (result.ok, result.words, result.refused) == (False, "connection refused", True)
    result = await probe(Target(unix=str(tmp_path / "none.sock")))
    assert result.refused


async def test_a_connect_is_enough_without_a_path() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        assert (await probe(Target(host="127.0.0.1", port=sock.getsockname()[1]))).ok
