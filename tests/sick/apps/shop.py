"""Products from a database, with a pool of connections. `shop.py ADDRESS SIZE`."""

import sys

from db import Pool
from web import Request, Web

app = Web("shop")
pool = Pool(sys.argv[1], int(sys.argv[2]))


def load_prices(product: str) -> str:
    with pool.connection() as connection:
        return connection.query(f"select price from products where id = {product}")


@app.get("/product")
def product(request: Request) -> object:
    return {"price": load_prices(request.query.get("id", "1"))}


@app.get("/about")
def about(request: Request) -> object:
    return {"about": "us"}


@app.get("/invoice")
def invoice(request: Request) -> object:
    lines: list[int] = []
    return {"mean": sum(lines) / len(lines)}


app.run()
