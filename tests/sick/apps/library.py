"""Books from a database. `library.py ADDRESS`."""

import sys

from db import Pool
from web import Failed, Request, Web

app = Web("library")
pool = Pool(sys.argv[1], 4)


@app.get("/book")
def book(request: Request) -> object:
    connection = pool.acquire()
    found = connection.query("select title from books")
    if request.query.get("id") == "0":
        raise Failed(404, "no such book")
    pool.release(connection)
    return {"title": found}


app.run()
