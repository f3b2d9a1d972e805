"""Mail by SMTP, in the notifier's own thread: smtplib waits, and asyncio has no client of its own.

The messages of one incident are one thread in a mail program. TLS is verified against the system's authorities.
"""

from __future__ import annotations

import asyncio
import smtplib
import socket
import ssl
from contextlib import suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate
from typing import Final
from urllib.parse import unquote, urlsplit

from proxy.config import Notify
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers.contract import TRY, Failed, Notifier, Place
from proxy.control.alerts.notifiers.lane import Lane

SUBJECT: Final = 150
DEFAULT: Final = "smtp://localhost:25"
SUBMISSION: Final = 587


@dataclass(frozen=True, slots=True)
class Server:
    """As `smtp` says."""

    host: str
    port: int
    tls: bool  # from the first byte
    starttls: bool  # or nothing is sent
    user: str = ""
    password: str = ""


def server(url: str) -> Server:
    """A password is never sent in the clear, unless `?starttls=no` says so."""
    parts = urlsplit(url)
    tls = parts.scheme == "smtps"
    port = parts.port or (465 if tls else 25)
    starttls = not tls and (parts.password is not None or port == SUBMISSION)
    if parts.query:
        starttls = not tls and parts.query == "starttls=yes"
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return Server(parts.hostname or "localhost", port, tls, starttls, user, password)


class Email:
    limit = TRY

    def __init__(self, name: str, to: str, sender: str, at: Server, host: str) -> None:
        self.target = f"{to} by {'smtps' if at.tls else 'smtp'}://{at.host}:{at.port}"
        self._to = to
        self._sender = sender
        self._at = at
        self._host = host
        self._lane = Lane(name)

    async def send(self, message: Message) -> str:
        written = mail(message, self._sender, self._to, self._host)
        used: list[smtplib.SMTP] = []
        try:
            return await self._lane.run(lambda: _deliver(self._at, written, self._host, used))
        except asyncio.CancelledError:
            for smtp in used:  # wakes the thread, which may wait for an answer
                with suppress(OSError, AttributeError):
                    smtp.sock.shutdown(socket.SHUT_RDWR)  # type: ignore[union-attr]
            raise
        except smtplib.SMTPException as error:
            raise _failed(error) from None
        except ssl.SSLCertVerificationError as error:
            raise Failed(f"its certificate is not trusted: {error.verify_message}") from None
        except OSError as error:
            raise Failed(f"not reached: {error.strerror or error}") from None


def make(name: str, notify: Notify, place: Place) -> Notifier:
    assert notify.email is not None
    sender = notify.sender or f"triage@{place.host or 'localhost'}"
    return Email(name, notify.email, sender, server(notify.smtp or DEFAULT), place.host or "localhost")


def mail(message: Message, sender: str, to: str, host: str) -> EmailMessage:
    """Plain text; the answer of no machine is wanted (RFC 3834)."""
    written = EmailMessage()
    label = f"{message.incident} " if message.incident else ""
    written["Subject"] = f"[triage] {label}{message.summary}"[:SUBJECT]
    written["From"] = f"Triage <{sender}>"
    written["To"] = to
    written["Date"] = formatdate(message.at)
    root, own = (f"<triage-{number}@{host}>" for number in (message.first or message.id, message.id))
    if message.kind in ("opened", "test"):
        written["Message-ID"] = root
    else:
        written["Message-ID"] = own
        written["In-Reply-To"] = root
        written["References"] = root
    written["Auto-Submitted"] = "auto-generated"
    written["X-Triage-Id"] = message.name
    written.set_content(message.text())
    return written


def _deliver(at: Server, written: EmailMessage, host: str, used: list[smtplib.SMTP]) -> str:
    """In the thread."""
    context = ssl.create_default_context() if at.tls or at.starttls else None
    smtp = (
        smtplib.SMTP_SSL(local_hostname=host, timeout=TRY, context=context)
        if at.tls
        else smtplib.SMTP(local_hostname=host, timeout=TRY)
    )
    smtp._host = at.host  # type: ignore[attr-defined]  # what `connect` alone leaves out, and TLS checks the name by
    used.append(smtp)
    try:
        code, said = smtp.connect(at.host, at.port)
        if code != 220:
            raise smtplib.SMTPConnectError(code, said)
        if at.starttls:
            smtp.starttls(context=context)
        if at.user:
            smtp.login(at.user, at.password)
        smtp.send_message(written)
        with suppress(smtplib.SMTPException, OSError):
            smtp.quit()
        return "taken by the mail server"
    finally:
        smtp.close()


def _failed(error: smtplib.SMTPException) -> Failed:
    """4yz is worth another try, 5yz is not (RFC 5321 section 4.2.1)."""
    said: bytes | str  # smtplib has both
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        code, said = next(iter(error.recipients.values()), (0, b""))
    elif isinstance(error, smtplib.SMTPResponseException):
        code, said = error.smtp_code, error.smtp_error
    elif isinstance(error, smtplib.SMTPNotSupportedError):
        return Failed(f"the mail server can't do what is asked: {error}", again=False)
    else:
        return Failed(f"the mail server broke off: {error}")
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else str(said)
    return Failed(f"the mail server said {code} {' '.join(text.split())[:200]}", again=not 500 <= code < 600)
