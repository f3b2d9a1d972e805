"""Billing."""

import invoicing_sdk
from web import Request, Web

app = Web("billing")


@app.get("/")
def bills(request: Request) -> object:
    return invoicing_sdk.list()


app.run()
