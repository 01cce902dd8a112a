"""An MCP server on the official Python SDK, with sessions and streams that can be resumed.

Prints one line that says where it listens. With the argument `sse` it speaks HTTP+SSE, with `stdio` it
listens nowhere.
"""

import sys

import anyio
from mcp.server.mcpserver import Context, MCPServer
from mcp.types import SamplingMessage, TextContent
from pydantic import BaseModel
from streams import Events, listen


class Seat(BaseModel):
    seat: str


server = MCPServer("e2e-python")


class Gate:
    def __init__(self):
        self.released = anyio.Event()
        self.finished = anyio.Event()


gates: dict[str, Gate] = {}


def gate(context: Context) -> Gate:
    """One for each session."""
    headers = context.headers or {}
    return gates.setdefault(headers["mcp-session-id"], Gate())


@server.tool()
async def count(context: Context) -> str:
    """Reports progress three times before it answers"""
    for progress in (1, 2, 3):
        await context.report_progress(progress, 3)
        # The TypeScript SDK's clients lose progress that comes in one read with the response.
        await anyio.sleep(0.03)
    return "counted"


@server.tool()
async def sample(context: Context) -> str:
    """Asks the client's model before it answers"""
    question = SamplingMessage(role="user", content=TextContent(type="text", text="What is it?"))
    answer = await context.session.create_message(
        messages=[question], max_tokens=10, related_request_id=context.request_id
    )
    return f"the model said {answer.content.text}"


@server.tool()
async def elicit(context: Context) -> str:
    """Asks the user before it answers"""
    answer = await context.elicit("Which seat?", Seat)
    return f"the user said {answer.action} {answer.data.seat}"


@server.tool()
async def cut(context: Context) -> str:
    """Ends its stream after the first of three progress reports"""
    await context.report_progress(1, 3)
    await context.close_sse_stream()
    await context.report_progress(2, 3)
    await context.report_progress(3, 3)
    return "cut and mended"


@server.tool()
async def hold(context: Context) -> str:
    """Reports progress, waits for a call of release, and reports twice more"""
    await context.report_progress(1, 3)
    await gate(context).released.wait()
    await context.report_progress(2, 3)
    await context.report_progress(3, 3)
    gate(context).finished.set()
    return "held and released"


@server.tool()
async def release(context: Context) -> str:
    """Lets hold go on, and answers after it"""
    gate(context).released.set()
    await gate(context).finished.wait()
    return "released"


match sys.argv[1:]:
    case ["sse"]:
        listen(server.sse_app(), "/sse")
    case ["stdio"]:
        anyio.run(server.run_stdio_async)
    case _:
        listen(server.streamable_http_app(event_store=Events(), retry_interval=50), "/mcp")
