"""Lists and calls tools once, in the default way of the official Python SDK, and prints what
servers/record.mjs has recorded then.

brief.py ORIGIN sse|streamable|auto
"""

import asyncio
import sys
import urllib.request

from mcp import Client, ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client

ORIGIN, WAY = sys.argv[1:]


async def use(client):
    await client.list_tools()
    await client.call_tool("echo", {})


async def main():
    if WAY == "auto":
        async with Client(f"{ORIGIN}/mcp") as client:
            await use(client)
        return
    open_transport = {
        "sse": lambda: sse_client(f"{ORIGIN}/sse"),
        "streamable": lambda: streamable_http_client(f"{ORIGIN}/mcp"),
    }[WAY]
    async with open_transport() as streams:
        async with ClientSession(streams[0], streams[1]) as client:
            await client.initialize()
            await use(client)


asyncio.run(main())
with urllib.request.urlopen(f"{ORIGIN}/recorded") as recorded:
    print(recorded.read().decode())
