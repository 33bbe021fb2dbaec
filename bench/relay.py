"""The floor that `bench delivery` measures against: a bare aiohttp relay.

    python -m bench.relay        prints its port, serves until it is killed

A client's first frame names its room (text of the path: `/room/<name>`). Each binary frame is answered to its sender
with a short acknowledgement and forwarded to everyone in the room, the sender included. It decodes nothing, checks
nothing and keeps nothing.
"""

import asyncio
from collections import defaultdict

import uvloop
from aiohttp import WSMsgType, web

ACKNOWLEDGEMENT = b"\x01" * 24
_rooms: defaultdict[str, list[web.WebSocketResponse]] = defaultdict(list)


async def relay(request: web.Request) -> web.WebSocketResponse:
    """Serve one socket of one room."""
    socket = web.WebSocketResponse(compress=False)
    await socket.prepare(request)
    room = _rooms[request.match_info["room"]]
    room.append(socket)
    try:
        async for frame in socket:
            if frame.type is WSMsgType.BINARY:
                await socket.send_bytes(ACKNOWLEDGEMENT)
                for member in room:
                    await member.send_bytes(frame.data)
    finally:
        room.remove(socket)
    return socket


async def _serve() -> None:
    app = web.Application()
    app.router.add_get("/room/{room}", relay)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(_serve())
