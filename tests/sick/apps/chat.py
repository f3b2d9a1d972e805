"""Messages over aiohttp, and their archive."""

import asyncio
import os
import time

from aiohttp import web

routes = web.RouteTableDef()


@routes.get("/healthz")
async def healthz(request):
    return web.Response(text="ok")


@routes.get("/messages")
async def messages(request):
    await asyncio.sleep(0.01)
    return web.json_response([1, 2, 3])


@routes.get("/archive")
async def archive(request):
    upload(b"x" * 1000)
    return web.json_response({"archived": 1})


def upload(data):
    for _ in range(15):
        time.sleep(0.1)


@routes.get("/export")
async def export(request):
    answer = web.StreamResponse(headers={"Content-Length": "90000"})
    await answer.prepare(request)
    await answer.write(b"x" * 4700)
    request.transport.close()
    return answer


app = web.Application()
app.add_routes(routes)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
