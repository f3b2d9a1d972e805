"""Sends mail through a relay."""

import smtplib

from web import Request, Web

app = Web("mailer")


@app.post("/send")
def send(request: Request) -> object:
    with smtplib.SMTP("relay.internal.invalid", 25, timeout=5) as relay:
        relay.noop()
    return {"sent": True}


@app.get("/")
def index(request: Request) -> object:
    return {"mails": 0}


app.run()
