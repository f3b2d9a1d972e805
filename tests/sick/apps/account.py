"""Accounts."""

from web import Request, Web

app = Web("account")


class OperationalError(Exception):
    pass


def login(user: str) -> None:
    raise OperationalError(f'password authentication failed for user "{user}"')


@app.get("/")
def account(request: Request) -> object:
    login("web")
    return {}


@app.get("/balance")
def balance(request: Request) -> object:
    login("web")
    return {}


app.run()
