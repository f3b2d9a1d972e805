"""A page, and news for those who wait for them."""

import asyncio
import os

from aiohttp import web

routes = web.RouteTableDef()
cache: dict[int, bytes] = {}


@routes.get("/healthz")
async def healthz(request):
    return web.Response(text="ok")


@routes.get("/page")
async def page(request):
    await asyncio.sleep(0.01)
    return web.Response(text="page")


@routes.get("/news")
async def news(request):
    await asyncio.sleep(8)
    return web.json_response([])


@routes.get("/events")
async def events(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for number in range(60):
        await answer.write(b"data: %d\n\n" % number)
        await asyncio.sleep(1)
    return answer


@routes.get("/picture")
async def picture(request):
    number = int(request.query.get("id", len(cache))) % 120
    if number not in cache:
        await asyncio.sleep(0.05)
        cache[number] = os.urandom(400_000)
    return web.Response(body=cache[number][:1000])


app = web.Application()
app.add_routes(routes)
web.run_app(app, host="127.0.0.1", port=int(os.environ["PORT"]), print=None, access_log=None)
