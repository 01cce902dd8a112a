"""What the servers on the Python SDK have in common: how they listen, and how their streams are resumed."""

import socket

import uvicorn
from mcp.server.streamable_http import EventMessage, EventStore


class Events(EventStore):
    """Everything that was ever sent, in order."""

    def __init__(self):
        self.events = []

    async def store_event(self, stream_id, message):
        self.events.append((stream_id, message))
        return str(len(self.events))

    async def replay_events_after(self, last_event_id, send_callback):
        last = int(last_event_id)
        stream_id = self.events[last - 1][0]
        for index, (stream, message) in enumerate(self.events[last:], start=last + 1):
            if stream == stream_id and message is not None:
                await send_callback(EventMessage(message, str(index)))
        return stream_id


def listen(app, path):
    listener = socket.create_server(("127.0.0.1", 0))
    print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}{path}", flush=True)
    uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listener])
