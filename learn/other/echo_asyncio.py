"""An echo server on asyncio, Python's own event loop: it drains, keeps, bounds and closes as the twelve steps do."""

import asyncio
import os

IDLE = int(os.environ.get("IDLE_MS", "60000")) / 1000


async def echo(reader, writer):
    try:
        while data := await asyncio.wait_for(reader.read(4096), IDLE):
            writer.write(data)
            # Waits while too much output is kept: backpressure.
            await writer.drain()
    except (ConnectionError, asyncio.TimeoutError):
        pass
    finally:
        # What is kept is sent first.
        writer.close()


async def main():
    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    print("listening 127.0.0.1:%d" % server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
