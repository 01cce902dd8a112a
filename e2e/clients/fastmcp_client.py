"""FastMCP's client."""

from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport
from mcp.client.subscriptions import listen
from scenario import MODE, OVER_SSE, URL, run


class Connection:
    def __init__(self, client, stack):
        self.client = client
        self.stack = stack
        self.protocol_version = client.protocol_version
        self.server_info = client.server_info

    async def list_tools(self):
        return await self.client.list_tools()

    async def call_tool(self, name, arguments, on_progress):
        result = await self.client.call_tool(name, arguments, progress_handler=on_progress)
        return result.content

    async def watch(self, uri, questions):
        session = self.client.session
        if MODE != "legacy":
            # It has no way of its own; the session is the SDK's.
            listening = listen(session, tools_list_changed=True, resource_subscriptions=[uri])
            await self.stack.enter_async_context(listening)
        else:
            await session.subscribe_resource(uri)
        return questions.changed


@asynccontextmanager
async def open_client(network, questions):
    async def on_sampling(*_):
        return questions.sampling()

    # Data stands for consent; it is checked against what the server asks for before it is sent.
    async def on_elicitation(*_):
        return questions.elicitation()

    def http(**given):
        given.setdefault("timeout", 30)
        return httpx2.AsyncClient(transport=network, **given)

    transport = SSETransport if OVER_SSE else StreamableHttpTransport
    async with AsyncExitStack() as stack, Client(
        transport(URL, httpx_client_factory=http),
        mode=MODE,
        sampling_handler=on_sampling,
        elicitation_handler=on_elicitation,
        message_handler=questions.notice,
    ) as client:
        yield Connection(client, stack)


run(open_client)
