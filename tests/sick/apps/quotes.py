"""Quotes come from another service, asked without a thread. `quotes.py ADDRESS`."""

import os
import sys

import aiohttp
from aiohttp import web

routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(request):
    return web.Response(text="ok")


@routes.get("/quote")
async def quote(request):
    async with request.app["client"].get(f"http://{sys.argv[1]}/v1/quote") as answer:
        return web.Response(body=await answer.read())


async def client(app):
    app["client"] = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60))
    yield
    await app["client"].close()


app = web.Application()
app.add_routes(routes)
app.cleanup_ctx.append(client)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
