import asyncio, os, stat
from pathlib import Path
import pytest
from heliograph.wire.accounts import *
from heliograph.wire.ids import *
from heliograph.wire.operations import STREAM_PATH
from heliograph.wire.problems import Problem
from tests.world import world, generous_limits, World
from tests.server.phones import *
from heliograph.wire.rooms import *

async def raw(w, method, path, **kw):
    async with w.http.request(method, w.url+path, **kw) as r:
        return r.status, (await r.read())[:300]

async def test_probe(tmp_path):
    async with world(tmp_path, limits=generous_limits(requests_in_flight=5)) as w:
        for f in sorted((tmp_path/"data").rglob("*")):
            print(f, oct(stat.S_IMODE(f.stat().st_mode)))
        print(await raw(w,"GET","/v1/channels?after=%ff"))
        print(await raw(w,"GET","/v1/channels?after=%ED%A0%80"))
        print(await raw(w,"GET","/?after=%ff%ED%A0%80"))
        print(await raw(w,"POST","/v1/reports/rp"+"a"*26+"/status", data=b'{"receipt":"\\ud800"}', headers={"content-type":"application/json"}))
        a = await w.register("alice")
        try:
            print(await w.register("alice\n"))
        except Problem as p: print("newline handle", p)
        print(await raw(w,"POST","/v1/sessions/challenge", data=b'{"account":"a%s","device":"d%s"}' % (b"z"*52, b"z"*26), headers={"content-type":"application/json"}))
        print(await raw(w,"POST","/v1/sessions", data=b'{"account":"a%s","device":"d%s","challenge":"%s","signature":""}' % (b"z"*52, b"z"*26, b"A"*43), headers={"content-type":"application/json"}))
        socks=[]
        for i in range(8):
            try: socks.append(await w.http.ws_connect(w.url+STREAM_PATH))
            except Exception as e: print("ws", i, e)
        print(await raw(w,"GET","/v1/channels"))
        for s in socks: await s.close()

async def test_consent(tmp_path):
    async with world(tmp_path) as w:
        m = await new_phone(w,"mallory"); v = await new_phone(w,"victim"); await v.publish(3)
        room = await m.create_room()
        try: print(await m.claim(v.account))
        except Problem as p: print(p)
        from heliograph.wire.room_policy import Role
        _, pol = m.addition(room, [], v.account)
        await m.commit(room, [], pol)
        print(len(await m.claim(v.account)), (await v.ask("list_rooms", Empty())))
