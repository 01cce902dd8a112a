"""What a client in Python does with a server, step by step; each step is a line of JSON on standard
output.

URL PLAN
"""

import asyncio
import json
import sys

import httpx2

URL = sys.argv[1]
# A plan names the tools to call; what is missing from it is left out.
PLAN = json.loads(sys.argv[2])
OVER_SSE = PLAN.get("binding") == "sse"
MODE = PLAN.get("revision") or PLAN.get("mode", "legacy")


def say(step, **fields):
    print(json.dumps({"step": step, **fields}), flush=True)


class Loss:
    """A connection that is about to be lost: nothing more is read from it, then it breaks."""

    def __init__(self):
        self.stalled = asyncio.Event()
        self.broken = asyncio.Event()


class WatchedStream(httpx2.AsyncByteStream):
    """A body that breaks off after the first event with a progress report, once told to."""

    def __init__(self, stream, loss):
        self.stream = stream
        self.loss = loss

    async def __aiter__(self):
        async for chunk in self.stream:
            yield chunk
            if self.loss is not None and b"notifications/progress" in chunk:
                self.loss.stalled.set()
                await self.loss.broken.wait()
                raise httpx2.ReadError("the connection was lost")

    async def aclose(self):
        await self.stream.aclose()


class Watched(httpx2.AsyncHTTPTransport):
    """The network, with a record of what went over it and a way to lose a connection."""

    def __init__(self):
        super().__init__()
        self.exchanges = []
        self.session = None
        self.revision = None
        self.loss = None

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        self.session = response.headers.get("mcp-session-id", self.session)
        self.revision = request.headers.get("mcp-protocol-version", self.revision)
        last_event_id = request.headers.get("last-event-id")
        self.exchanges.append((request.method, last_event_id, response.status_code))
        if self.loss is not None and b'"hold"' in request.content:
            response.stream = WatchedStream(response.stream, self.loss)
        return response

    def resumes(self):
        return sum(last is not None and status == 200 for _, last, status in self.exchanges)


class Questions:
    """What the server asks the client, and how it is answered; what it tells it of."""

    def __init__(self):
        self.asked = []
        self.changed = asyncio.Event()

    async def notice(self, message):
        """Takes what the server says without being asked."""
        if getattr(message, "method", None) == "notifications/tools/list_changed":
            self.changed.set()

    def sampling(self):
        self.asked.append("sampling/createMessage")
        return "forty-two"

    def elicitation(self):
        self.asked.append("elicitation/create")
        return PLAN.get("elicited", {"seat": "4A"})


class Mark:
    """Takes reports of progress for a sign that something is under way."""

    def __init__(self, event):
        self.event = event

    def append(self, _progress):
        self.event.set()


async def call(client, tool, events):
    async def on_progress(progress, total, message):
        events.append(progress)

    content = await client.call_tool(tool["name"], tool.get("arguments"), on_progress)
    return content[0].text


async def steps(client, network, questions):
    info = client.server_info
    say(
        "initialize",
        revision=client.protocol_version,
        session=network.session is not None,
        server=info and info.name,
    )
    tools = await client.list_tools()
    say("list", tools=[tool.name for tool in tools])

    if "progress" in PLAN:
        events = []
        text = await call(client, PLAN["progress"], events)
        say("progress", events=events, text=text)

    for tool in PLAN.get("ask", []):
        questions.asked.clear()
        text = await call(client, tool, [])
        say("ask", tool=tool["name"], asked=questions.asked, text=text)

    if "cut" in PLAN:
        before, events = network.resumes(), []
        text = await call(client, PLAN["cut"], events)
        say("cut", events=events, text=text, resumes=network.resumes() - before)

    if "cancel" in PLAN:
        under_way = asyncio.Event()
        leaving = asyncio.create_task(call(client, PLAN["cancel"]["call"], Mark(under_way)))
        await under_way.wait()
        leaving.cancel()
        results = await asyncio.gather(leaving, return_exceptions=True)
        text = await call(client, PLAN["cancel"]["proof"], [])
        say("cancel", isRefused=isinstance(results[0], BaseException), text=text)

    if "change" in PLAN:
        changed = await client.watch(PLAN["change"]["uri"], questions)
        # What happens before somebody listens is told to nobody.
        while not changed.is_set():
            await call(client, PLAN["change"], [])
            await asyncio.sleep(0.02)
        say("change", uri=PLAN["change"]["uri"])

    if "resume" in PLAN:
        before, events = network.resumes(), []
        network.loss = Loss()
        held = asyncio.create_task(call(client, PLAN["resume"]["call"], events))
        await network.loss.stalled.wait()
        # The rest is sent while nobody reads, and is lost with the connection.
        await call(client, PLAN["resume"]["release"], [])
        seen_before = len(events)
        network.loss.broken.set()
        text = await held
        resumes = network.resumes() - before
        say("resume", events=events, seenBefore=seen_before, text=text, resumes=resumes)

    if "survive" in PLAN:
        await survive(client, network)


async def survive(client, network):
    """The stream is broken by somebody else: the client resumes it by itself."""
    before, events = network.resumes(), []
    held = asyncio.create_task(call(client, PLAN["survive"]["call"], events))
    while not events:
        await asyncio.sleep(0.005)
    say("holding")
    while network.resumes() == before:
        await asyncio.sleep(0.005)
    await call(client, PLAN["survive"]["release"], [])
    say("survive", events=events, text=await held)


async def gone(network):
    """After the client has ended its session."""
    deleted = [status for method, _, status in network.exchanges if method == "DELETE"]
    say("delete", status=deleted[0])
    headers = {
        "accept": "application/json, text/event-stream",
        "mcp-session-id": network.session,
        "mcp-protocol-version": network.revision,
    }
    message = {"jsonrpc": "2.0", "id": 99, "method": "tools/list", "params": {}}
    async with httpx2.AsyncClient() as http:
        response = await http.post(URL, headers=headers, json=message)
        say("gone", status=response.status_code)


async def scenario(open_client):
    network = Watched()
    questions = Questions()
    async with open_client(network, questions) as client:
        await steps(client, network, questions)
    if network.session is not None:
        await gone(network)


def run(open_client):
    """Takes the steps with the client that `open_client(network, questions)` opens: it has
    `protocol_version`, `server_info`, `list_tools()` and `call_tool(name, arguments, on_progress)`."""
    asyncio.run(asyncio.wait_for(scenario(open_client), timeout=30))
