"""The official Python SDK."""

from contextlib import AsyncExitStack, asynccontextmanager

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import CreateMessageResult, ElicitResult, TextContent
from scenario import MODE, OVER_SSE, URL, run


class Connection:
    def __init__(self, client, stack):
        self.client = client
        self.stack = stack
        self.protocol_version = client.protocol_version
        self.server_info = client.server_info

    async def list_tools(self):
        return (await self.client.list_tools()).tools

    async def call_tool(self, name, arguments, on_progress):
        result = await self.client.call_tool(name, arguments, progress_callback=on_progress)
        return result.content

    async def watch(self, uri, questions):
        if MODE != "legacy":
            listening = self.client.listen(tools_list_changed=True, resource_subscriptions=[uri])
            await self.stack.enter_async_context(listening)
        else:
            await self.client.subscribe_resource(uri)
        return questions.changed


def connect(network, http):
    """The same steps are taken over either transport."""
    if OVER_SSE:
        # It makes a client of its own, and closes it.
        return sse_client(
            URL,
            httpx_client_factory=lambda **given: httpx2.AsyncClient(transport=network, **given),
        )
    return streamable_http_client(URL, http_client=http)


@asynccontextmanager
async def open_client(network, questions):
    async def on_sampling(*_):
        content = TextContent(type="text", text=questions.sampling())
        return CreateMessageResult(role="assistant", model="e2e", content=content)

    async def on_elicitation(*_):
        return ElicitResult(action="accept", content=questions.elicitation())

    async with httpx2.AsyncClient(transport=network, timeout=30) as http:
        async with AsyncExitStack() as stack, Client(
            connect(network, http),
            mode=MODE,
            sampling_callback=on_sampling,
            elicitation_callback=on_elicitation,
            message_handler=questions.notice,
        ) as client:
            yield Connection(client, stack)


run(open_client)
