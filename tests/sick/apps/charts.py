"""Charts, as an ASGI app."""

import asyncio
import math


def draw(points):
    total = 0.0
    for number in range(points):
        total += math.sin(number) * math.cos(number)
    return total


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body = b"ok"
    if scope["path"] == "/chart":
        body = b"%.3f" % draw(9_000_000)
    else:
        await asyncio.sleep(0.01)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
