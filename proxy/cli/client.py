"""The admin API as the command sees it: `http.client` over TCP or a Unix socket.

The standard library's client, because it imports in a third of the time that aiohttp's takes, and one
command makes one or two requests.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any, BinaryIO, Final, NamedTuple
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

    def __init__(self, address: str, token: str = "", timeout: float = TIMEOUT, ca: str = "") -> None:
        """`ca`: a file with the certificates to trust instead of the system's. Raises ValueError."""
        if not (token.isascii() and token.isprintable()):
            raise ValueError("the token has characters that no token of Triage's has")
        self.address = address
        self.token = token
        self.ca = ca
        self._connection = connection(address, timeout, ca)

    def __repr__(self) -> str:
        return f"<Gateway {self.address}>"

    @property
    def in_the_open(self) -> bool:
        """Whether what is sent leaves this machine unencrypted."""
        if isinstance(self._connection, (UnixConnection, http.client.HTTPSConnection)):
            return False
        host = self._connection.host
        return not (host == "localhost" or host.startswith("127.") or host == "::1")

    def connect(self) -> None:
        """Raises NotThere when nobody accepts there. The connection is kept for the first request."""
        try:
            self._connection.connect()
        except OSError as error:
            raise NotThere(reason(error)) from None

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
        headers = self.headers(accept)
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
            raise NotThere(reason(error)) from None
        return self._read(answer, data)

    def headers(self, accept: str) -> dict[str, str]:
        """Of a call: what is wanted, and who asks."""
        return {"Accept": accept, **({"Authorization": f"Bearer {self.token}"} if self.token else {})}

    def file(self, method: str, path: str, headers: Mapping[str, str], content: IO[bytes] | None = None) -> Any:
        """A call about a file: its answer, decoded, and the answer's head. `content` is sent as it is read.

        ApiError and NotThere as with `call`; the answer to HEAD has no content: (None, head).
        """
        sent = {**self.headers("application/json"), **headers}
        try:
            try:
                self._connection.request(method, PREFIX + path, content, sent)
            except (BrokenPipeError, ConnectionResetError):
                if content is None:
                    raise  # else: refused before all was read; the answer says why
            answer = self._connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            raise NotThere(reason(error)) from None
        if method == "HEAD":
            if answer.status >= 400:
                raise problem(answer.status, None, self.address)
            return None, answer.headers
        return self._read(answer, data), answer.headers

    def download(self, path: str, /, file: BinaryIO, **query: str) -> int:
        """Write an answer's content to a file as it comes; its size. ApiError, NotThere when it is not whole."""
        target = f"{PREFIX}{path}" + (f"?{urlencode(query)}" if query else "")
        size = 0
        try:
            self._connection.request("GET", target, headers=self.headers("*/*"))
            answer = self._connection.getresponse()
            if answer.status != 200:
                self._read(answer, answer.read())
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
            raise NotThere(reason(error)) from None
        return size

    def stream(
        self, path: str, /, last: str = "", body: dict[str, Any] | None = None, **query: Any
    ) -> Iterator[Message]:
        """Server-sent events, from after the one with the id `last`; ApiError if refused, NotThere when it ends.

        With a `body` it is POSTed."""
        query = {name: value for name, value in query.items() if value is not None}
        target = f"{PREFIX}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = self.headers("text/event-stream")
        if last:
            headers["Last-Event-ID"] = last
        if body is not None:
            headers["Content-Type"] = "application/json"
        try:
            content = orjson.dumps(body) if body is not None else None
            self._connection.request("GET" if body is None else "POST", target, content, headers)
            answer = self._connection.getresponse()
            kind = answer.getheader("Content-Type") or ""
            if answer.status != 200 or "event-stream" not in kind:
                self._read(answer, answer.read())
                raise ApiError(answer.status, f"{self.address} does not stream", f"content type {kind or 'none'}")
            yield from messages(answer)
        except (OSError, http.client.HTTPException) as error:
            raise NotThere(reason(error)) from None
        finally:
            self._connection.close()
        raise NotThere("the stream ended")

    def _read(self, answer: http.client.HTTPResponse, data: bytes) -> Any:
        status, kind = answer.status, answer.getheader("Content-Type") or ""
        document: Any = None
        if "json" in kind:
            try:
                document = orjson.loads(data)
            except orjson.JSONDecodeError:
                raise ApiError(
                    status, "the answer is not JSON", f"{self.address} may be something else"
                ) from None
        if status >= 400:
            raise problem(status, document, self.address, answer.getheader("Retry-After") or "")
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


def connection(address: str, timeout: float, ca: str = "") -> http.client.HTTPConnection:
    """Raises ValueError for what is no address of an admin API, and for a `ca` that can't be read."""
    if address.startswith("unix:"):
        return UnixConnection(address.removeprefix("unix:"), timeout)
    parts = urlsplit(address if "//" in address else f"http://{address}")
    if parts.scheme in ("http", "https") and parts.path.strip("/"):
        raise ValueError(f"{address}: expected no path: the API is below /api/v1 of the address itself")
    if parts.scheme == "http" and parts.hostname:
        return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=timeout)
    if parts.scheme == "https" and parts.hostname:
        context = trusting(ca)
        return http.client.HTTPSConnection(parts.hostname, parts.port or 443, timeout=timeout, context=context)
    raise ValueError(f"{address}: expected http://HOST:PORT, https://HOST:PORT or unix:/PATH")


def trusting(ca: str) -> ssl.SSLContext:
    """Trusts what the system does, or only what is in the file `ca`. Raises ValueError."""
    try:
        return ssl.create_default_context(cafile=ca or None)
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{ca}: expected certificates in PEM: {error.strerror or error}") from None


def reason(error: Exception) -> str:
    """Why nothing came, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        why = error.verify_message or "it cannot be verified"
        return f"its certificate is not trusted: {why}. --ca FILE, or TRIAGE_CA, names what to trust"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {(error.reason or str(error)).lower().replace('_', ' ')}. Is it https:// there?"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def problem(status: int, document: Any, address: str, retry_after: str = "") -> ApiError:
    """An ApiError from a problem document; from any other answer, with what is known."""
    if not isinstance(document, dict):
        found = ApiError(status, f"{address} answered {status}", http.client.responses.get(status, ""))
    else:
        title = str(document.get("title") or http.client.responses.get(status, status))
        detail, hint = str(document.get("detail") or ""), str(document.get("hint") or "")
        found = ApiError(status, title, detail, hint, document)
    if retry_after.isdecimal() and retry_after not in found.hint + found.detail:
        found.hint = f"{found.hint} Try again in {retry_after} s.".lstrip()
    return found


def segment(name: str) -> str:
    """`name` as one segment of a path."""
    return quote(name, safe="")
