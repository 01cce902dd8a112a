"""Lists and calls tools once, in FastMCP's default way, and prints what servers/record.mjs has
recorded then.

brief_fastmcp.py ORIGIN sse|streamable
"""

import asyncio
import sys
import urllib.request

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

ORIGIN, WAY = sys.argv[1:]


async def main():
    transport = {
        "sse": lambda: SSETransport(f"{ORIGIN}/sse"),
        "streamable": lambda: StreamableHttpTransport(f"{ORIGIN}/mcp"),
    }[WAY]()
    async with Client(transport) as client:
        await client.list_tools()
        await client.call_tool("echo", {})


asyncio.run(main())
with urllib.request.urlopen(f"{ORIGIN}/recorded") as recorded:
    print(recorded.read().decode())
