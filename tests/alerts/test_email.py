"""Mail at a real server: what is in it, TLS, and refusals."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from proxy.config import ConfigProblems, Notify, parse
from proxy.control.alerts.message import Message
from proxy.control.alerts.notifiers import make
from proxy.control.alerts.notifiers.contract import Failed, Place
from proxy.control.alerts.notifiers.email import Server, server
from tests.alerts.receivers import Mailbox, unused_port

Make = Callable[..., Message]
PLACE = Place("", "box", "1.2.3")


def notifier(smtp: str, **fields: Any) -> Any:
    return make("mail", Notify(email="ops@example.com", smtp=smtp, **fields), PLACE)


@pytest.fixture
async def mailbox() -> AsyncIterator[tuple[Mailbox, int]]:
    made = Mailbox()
    port = await made.start()
    yield made, port
    await made.close()


@pytest.fixture
def trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Of a server whose authority this machine trusts."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    return context


async def test_a_mail_says_it_all(mailbox: tuple[Mailbox, int], message: Make) -> None:
    box, port = mailbox
    assert await notifier(f"smtp://127.0.0.1:{port}").send(message()) == "taken by the mail server"
    (mail,) = box.mails
    assert mail["Subject"] == "[triage] INC-31 web is down: 12 of 20 requests failed: web-7 exited with code 3"
    assert mail["To"] == "ops@example.com"
    assert mail["From"] == "Triage <triage@box>"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Date"].datetime.year == 2026
    assert mail["X-Triage-Id"] == "msg-1767582470000"
    assert mail.get_content_type() == "text/plain"
    text = mail.get_content().replace("\r\n", "\n")
    for part in (
        "WHY    12 of 20 requests failed: web-7 exited with code 3 (certain)", "SINCE  2026-01-05 03:07:41 UTC, 9.5 s",
        "WHOM   12 of 20 requests failed (60 %): 12 instance-exited",
        "DONE   2026-01-05 03:07:44 UTC  recycle of web/web-7",
        "NOW    still going on", "LOOK   triage why INC-31   https://ops.example.com/#/incidents/INC-31",
    ):  # fmt: skip
        assert part in text
    assert [line.split(":")[0].split(" ")[0] for line in box.heard] == ["EHLO", "MAIL", "RCPT", "DATA", "QUIT"]


async def test_mails_of_one_incident_are_one_thread(mailbox: tuple[Mailbox, int], message: Make) -> None:
    box, port = mailbox
    way = notifier(f"smtp://127.0.0.1:{port}", sender="triage@example.com")
    await way.send(message())
    await way.send(message(id=1767582999000, kind="closed", ended=1767582990.0))
    first, last = box.mails
    assert first["Message-ID"] == "<triage-1767582470000@box>"
    assert last["Message-ID"] == "<triage-1767582999000@box>"
    assert last["In-Reply-To"] == last["References"] == first["Message-ID"]
    assert first["In-Reply-To"] is None
    assert "web is well again after 9 min" in last["Subject"]
    assert first["From"] == "Triage <triage@example.com>"


async def test_a_line_break_of_an_app_makes_no_header(mailbox: tuple[Mailbox, int], message: Make) -> None:
    from proxy.control.alerts.message import said

    box, port = mailbox
    await notifier(f"smtp://127.0.0.1:{port}").send(message(cause=said("x\r\nBcc: all@example.com\r\n\r\nü")))
    assert box.mails[0]["Bcc"] is None
    assert "ü" in box.mails[0].get_content()
    assert [line for line in box.heard if line.startswith("RCPT")] == ["RCPT TO:<ops@example.com>"]


async def test_starttls_before_a_password(trusted: ssl.SSLContext, message: Make) -> None:
    box = Mailbox(trusted, ("user", "p@ss"))
    port = await box.start()
    try:
        await notifier(f"smtp://user:p%40ss@127.0.0.1:{port}").send(message())
    finally:
        await box.close()
    assert len(box.mails) == 1
    verbs = [re.match("(TLS )?[A-Z]+", line)[0] for line in box.heard]  # type: ignore[index]
    assert verbs[:5] == ["EHLO", "STARTTLS", "TLS EHLO", "TLS AUTH", "TLS MAIL"]


async def test_no_password_goes_in_the_clear(mailbox: tuple[Mailbox, int], message: Make) -> None:
    box, port = mailbox
    with pytest.raises(Failed, match="STARTTLS") as raised:
        await notifier(f"smtp://user:geheim@127.0.0.1:{port}").send(message())
    assert not raised.value.again
    assert not box.mails
    assert not any(line.startswith("AUTH") for line in box.heard)


async def test_a_certificate_that_is_not_trusted(message: Make) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    box = Mailbox(context)
    port = await box.start()
    try:
        with pytest.raises(Failed, match="certificate is not trusted"):
            await notifier(f"smtp://127.0.0.1:{port}?starttls=yes").send(message())
    finally:
        await box.close()
    assert not box.mails


@pytest.mark.parametrize(
    ("verb", "answer", "again"),
    [("RCPT", "550 no such user", False), ("RCPT", "451 greylisted", True), ("MAIL", "452 full", True),
     ("DATA", "554 spam", False)],
)  # fmt: skip
async def test_what_a_server_refuses(
    mailbox: tuple[Mailbox, int], message: Make, verb: str, answer: str, again: bool
) -> None:
    box, port = mailbox
    box.refuse[verb] = answer
    with pytest.raises(Failed, match=f"the mail server said {answer}") as raised:
        await notifier(f"smtp://127.0.0.1:{port}").send(message())
    assert raised.value.again is again


async def test_one_that_hangs_is_let_go_of(mailbox: tuple[Mailbox, int], message: Make) -> None:
    box, port = mailbox
    box.hang_at = "RCPT"
    way = notifier(f"smtp://127.0.0.1:{port}")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await way.send(message())
    box.hang_at = ""
    async with asyncio.timeout(30):  # its thread has ended too
        await way.send(message())
    assert len(box.mails) == 1


async def test_nobody_there(message: Make) -> None:
    with pytest.raises(Failed, match="not reached") as raised:
        await notifier(f"smtp://127.0.0.1:{unused_port()}").send(message())
    assert raised.value.again


def test_what_a_url_means() -> None:
    assert server("smtp://localhost:25") == Server("localhost", 25, False, False)
    assert server("smtp://mail.example.com") == Server("mail.example.com", 25, False, False)
    assert server("smtp://mail.example.com:587") == Server("mail.example.com", 587, False, True)
    assert server("smtp://u:p%40@mail:2525") == Server("mail", 2525, False, True, "u", "p@")
    assert server("smtp://u:p@mail?starttls=no") == Server("mail", 25, False, False, "u", "p")
    assert server("smtps://u:p@mail") == Server("mail", 465, True, False, "u", "p")
    assert server("smtps://[::1]:4650") == Server("::1", 4650, True, False)


def test_a_bad_url_is_refused_without_its_password() -> None:
    for bad in ("smtp://u:geheim@", "http://u:geheim@mail", "smtp://u:geheim@mail:99999", "smtp://u:geheim@mail/x?y"):
        with pytest.raises(ConfigProblems) as raised:
            parse(f'[notify.mail]\nemail = "ops@example.com"\nsmtp = "{bad}"', "/tmp/config.toml")
        assert "geheim" not in str(raised.value)


def test_its_target_shows_no_password() -> None:
    assert notifier("smtps://user:geheim@mail.example.com").target == "ops@example.com by smtps://mail.example.com:465"
