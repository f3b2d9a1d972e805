"""The admin API as the command sees it: `http.client` over TCP or a Unix socket.

The standard library's client, because it imports in a third of the time that aiohttp's takes, and one
command makes one or two requests.
"""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, Final, NamedTuple
from urllib.parse import quote, urlencode, urlsplit

import orjson

TIMEOUT: Final = 30.0  # for one answer; reload is the longest, and validates before it answers
PREFIX: Final = "/api/v1/"


class NotThere(Exception):
    """Nothing answers at this address; the text says why."""


class ApiError(Exception):
    """The gateway refused: a problem document (RFC 9457), or what could be made of its answer."""

    def __init__(
        self, status: int, title: str, detail: str = "", hint: str = "", document: Any = None
    ) -> None:
        super().__init__(title)
        self.status = status
        self.title = title
        self.detail = detail
        self.hint = hint
        self.document: dict[str, Any] = document if isinstance(document, dict) else {}

    def lines(self) -> list[str]:
        """Title, detail, hint, and the config problems that came with them; one line each."""
        problems = self.document.get("problems") or []
        said = [self.title, self.detail, *(str(problem) for problem in problems), self.hint]
        return [line for line in dict.fromkeys(said) if line]


class Unwritten(Exception):
    """A file could not be written: that is not the gateway's doing."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Message(NamedTuple):
    """One of a stream. `id` is that of the last one that had one; without data it only says how far the stream is."""

    id: str
    kind: str
    data: Any


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.path)
        except BaseException:
            self.sock.close()
            raise


class Gateway:
    """One gateway's admin API, at `http://host:port`, `https://…` or `unix:/path`."""

    def __init__(self, address: str, token: str = "", timeout: float = TIMEOUT) -> None:
        self.address = address
        self.token = token
        self._connection = connection(address, timeout)

    def __repr__(self) -> str:
        return f"<Gateway {self.address}>"

    def connect(self) -> None:
        """Raises NotThere when nobody accepts there. The connection is kept for the first request."""
        try:
            self._connection.connect()
        except OSError as error:
            raise NotThere(error.strerror.lower() if error.strerror else str(error) or "timed out") from None

    def get(self, path: str, /, **query: Any) -> Any:
        return self.call("GET", path, query)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self.call("POST", path, {}, body or {})

    def text(self, path: str, /, **query: Any) -> str:
        """The answer as text/plain."""
        answer = self.call("GET", path, query, accept="text/plain")
        return answer if isinstance(answer, str) else str(answer.get("text", ""))

    def call(
        self,
        method: str,
        path: str,
        query: dict[str, Any],
        body: dict[str, Any] | None = None,
        accept: str = "application/json",
    ) -> Any:
        """The decoded JSON (or text) of one answer; ApiError for 4xx and 5xx, NotThere if none came.

        `path` is below /api/v1, or absolute when it begins with a slash.
        """
        query = {name: value for name, value in query.items() if value is not None}
        target = path if path.startswith("/") else PREFIX + path
        if query:
            target += "?" + urlencode(query)
        headers = {"Accept": accept}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        content = None
        if body is not None:
            content = orjson.dumps(body)
            headers["Content-Type"] = "application/json"
        try:
            self._connection.request(method, target, content, headers)
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NotThere(f"{str(error) or type(error).__name__}") from None
        return self._read(answer.status, answer.getheader("Content-Type") or "", data)

    def download(self, path: str, /, file: BinaryIO, **query: str) -> int:
        """Write an answer's content to a file as it comes; its size. ApiError, NotThere when it is not whole."""
        headers = {"Accept": "*/*"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        target = f"{PREFIX}{path}" + (f"?{urlencode(query)}" if query else "")
        size = 0
        try:
            self._connection.request("GET", target, headers=headers)
            answer = self._connection.getresponse()
            if answer.status != 200:
                self._read(answer.status, answer.getheader("Content-Type") or "", answer.read())
            while data := answer.read(1 << 18):
                try:
                    size += file.write(data)
                except OSError as error:
                    raise Unwritten(error) from None
        except Unwritten as error:
            self._connection.close()
            raise error.cause from None
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NotThere(f"{str(error) or type(error).__name__}") from None
        return size

    def stream(self, path: str, /, last: str = "", **query: Any) -> Iterator[Message]:
        """Server-sent events, from after the one with the id `last`; ApiError if refused, NotThere when it ends."""
        query = {name: value for name, value in query.items() if value is not None}
        headers = {"Accept": "text/event-stream"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        if last:
            headers["Last-Event-ID"] = last
        try:
            self._connection.request("GET", f"{PREFIX}{path}?{urlencode(query)}", headers=headers)
            answer = self._connection.getresponse()
            kind = answer.getheader("Content-Type") or ""
            if answer.status != 200 or "event-stream" not in kind:
                self._read(answer.status, kind, answer.read())
                raise ApiError(answer.status, f"{self.address} does not stream", f"content type {kind or 'none'}")
            yield from messages(answer)
        except (OSError, http.client.HTTPException) as error:
            raise NotThere(f"{str(error) or type(error).__name__}") from None
        finally:
            self._connection.close()
        raise NotThere("the stream ended")

    def _read(self, status: int, kind: str, data: bytes) -> Any:
        document: Any = None
        if "json" in kind:
            try:
                document = orjson.loads(data)
            except orjson.JSONDecodeError:
                raise ApiError(
                    status, "the answer is not JSON", f"{self.address} may be something else"
                ) from None
        if status >= 400:
            raise problem(status, document, self.address)
        if status == 204:
            return None
        if document is None and "text/plain" in kind:
            return data.decode("utf-8", "replace")
        if document is None:
            raise ApiError(
                status, f"{self.address} answers, but not as Triage does", f"content type {kind or 'none'}"
            )
        return document

    def close(self) -> None:
        self._connection.close()


def messages(lines: Iterable[bytes]) -> Iterator[Message]:
    """Of a stream's lines, as the WHATWG's "server-sent events" has them; comments are left out."""
    id, kind, data = "", "message", ""
    for raw in lines:
        name, _, value = raw.decode("utf-8", "replace").rstrip("\r\n").partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            id = value
        elif name == "event":
            kind = value
        elif name == "data":
            data += value
        elif not name and not value:
            yield Message(id, kind, orjson.loads(data) if data else None)
            kind, data = "message", ""


def connection(address: str, timeout: float) -> http.client.HTTPConnection:
    """Raises ValueError for what is no address of an admin API."""
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"), timeout)
    parts = urlsplit(address if "//" in address else f"http://{address}")
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    if parts.scheme == "https" and parts.hostname:
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=timeout)
    raise ValueError(f"{address}: expected http://HOST:PORT, https://HOST:PORT or unix:/PATH")


def problem(status: int, document: Any, address: str) -> ApiError:
    """An ApiError from a problem document; from any other answer, with what is known."""
    if not isinstance(document, dict):
        return ApiError(status, f"{address} answered {status}", http.client.responses.get(status, ""))
    title = str(document.get("title") or http.client.responses.get(status, status))
    return ApiError(
        status, title, str(document.get("detail") or ""), str(document.get("hint") or ""), document
    )


def segment(name: str) -> str:
    """`name` as one segment of a path."""
    return quote(name, safe="")
