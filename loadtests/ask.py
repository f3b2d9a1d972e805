"""One request over one fresh connection, read whole: for checks beside a measurement, not for speed."""

from __future__ import annotations

import http.client
import ssl
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """A response read whole. Field names are lower case; of repeated fields the last stands."""

    status: int
    fields: dict[str, str]
    content: bytes


def get(
    port: int,
    target: str,
    *,
    host: str = "127.0.0.1",
    method: str = "GET",
    content: bytes | None = None,
    tls: bool = False,
    timeout: float = 10.0,
    fields: dict[str, str] | None = None,
) -> Answer:
    """Ask and read the whole answer; OSError when there is none. Certificates are not verified."""
    connection: http.client.HTTPConnection
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = http.client.HTTPSConnection(host, port, timeout=timeout, context=context)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, target, body=content, headers=fields or {})
        response = connection.getresponse()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())
    except http.client.HTTPException as error:
        raise OSError(f"no answer: {error!r}") from error
    finally:
        connection.close()
