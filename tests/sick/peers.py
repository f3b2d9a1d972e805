"""A server that apps depend on, as a process: `peers.py KIND HOST PORT DELAY`; prints its port, then takes commands.

sql     answers a line with a line, after the delay; a stand-in for any database's way on the wire
http    answers a request with a little JSON, after the delay
shut    accepts, reads, and closes without a word

Commands on its input: `delay SECONDS`, `refuse` (nothing listens any more), `end`.
"""

from __future__ import annotations

import asyncio
import sys

delay = 0.0


async def sql(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while await reader.readline():
        await asyncio.sleep(delay)
        writer.write(b"row\n")
        await writer.drain()
    writer.close()


async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while (head := await reader.readuntil(b"\r\n\r\n")) and head:
        await asyncio.sleep(delay)
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"ok": true}')
        await writer.drain()


async def shut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(65536)
    writer.close()


KINDS = {"sql": sql, "http": http, "shut": shut}


async def main(kind: str, host: str, port: int) -> None:
    global delay

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await KINDS[kind](reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, port, backlog=256)
    print(server.sockets[0].getsockname()[1], flush=True)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := (await orders.readline()).decode().split():
        if line[0] == "delay":
            delay = float(line[1])
        elif line[0] == "refuse":
            server.close()
        elif line[0] == "end":
            break


if __name__ == "__main__":
    delay = float(sys.argv[4])
    try:
        asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
    except KeyboardInterrupt:
        pass
