"""An app on a bare socket; `gate.py KIND` is how it answers /feed."""

import asyncio
import os
import socket
import struct
import sys

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    "a": b"",
    "b": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + b"x" * 4700,
    "c": b"HTTP/1.1 OK 200\r\nContent-Length: 2\r\n\r\nok",
    "d": b"HTTP/1.1 200 OK\r\nX-Note: first\r\nsecond line of the note\r\nContent-Length: 2\r\n\r\nok",
    "e": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\nworld\r\n0\r\n\r\n",
    "f": b"HTTP/1.1 200 OK\r\nSet-Cookie: session=" + b"y" * 90_000 + b"\r\nContent-Length: 2\r\n\r\nok",
    "g": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 7\r\n\r\nok",
}


async def serve(reader, writer):
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            if b" /feed " not in head.partition(b"\r\n")[0]:
                await asyncio.sleep(0.01)
                writer.write(OK)
                continue
            await asyncio.sleep(0.05)
            if sys.argv[1] == "a":
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
                return
            writer.write(ANSWERS[sys.argv[1]])
            await writer.drain()
            if sys.argv[1] == "b":
                break
    except (asyncio.IncompleteReadError, OSError):
        pass
    writer.close()


async def main():
    async with await asyncio.start_server(serve, "127.0.0.1", int(os.environ["PORT"])) as server:
        await server.serve_forever()


asyncio.run(main())
