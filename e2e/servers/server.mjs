// An MCP server on the official TypeScript SDK (v1), with sessions and streams that can be resumed.
// Prints one line that says where it listens.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import {
  CallToolRequestSchema,
  CreateMessageResultSchema,
  ElicitResultSchema,
  isInitializeRequest,
  ListToolsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';

/** Everything that was ever sent in a session, in order. */
class Events {
  #events = [];

  storeEvent(streamId, message) {
    this.#events.push({ streamId, message });
    return Promise.resolve(String(this.#events.length));
  }

  getStreamIdForEventId(id) {
    return Promise.resolve(this.#events[Number(id) - 1]?.streamId);
  }

  async replayEventsAfter(id, { send }) {
    const last = Number(id);
    const { streamId } = this.#events[last - 1];
    for (const [index, event] of this.#events.entries()) {
      // A message without content is the one that primes a stream.
      if (index < last || event.streamId !== streamId || !event.message.jsonrpc) continue;
      await send(String(index + 1), event.message);
    }
    return streamId;
  }
}

const text = (value) => ({ content: [{ type: 'text', text: value }] });

const tools = {
  count: {
    description: 'Reports progress three times before it answers',
    async call(report) {
      for (const progress of [1, 2, 3]) await report(progress);
      return text('counted');
    },
  },
  sample: {
    description: "Asks the client's model before it answers",
    async call(_report, extra) {
      const messages = [{ role: 'user', content: { type: 'text', text: 'What is it?' } }];
      const params = { messages, maxTokens: 10 };
      const request = { method: 'sampling/createMessage', params };
      const answer = await extra.sendRequest(request, CreateMessageResultSchema);
      return text(`the model said ${answer.content.text}`);
    },
  },
  elicit: {
    description: 'Asks the user before it answers',
    async call(_report, extra) {
      const requestedSchema = { type: 'object', properties: { seat: { type: 'string' } } };
      const params = { mode: 'form', message: 'Which seat?', requestedSchema };
      const request = { method: 'elicitation/create', params };
      const answer = await extra.sendRequest(request, ElicitResultSchema);
      return text(`the user said ${answer.action} ${answer.content?.seat}`);
    },
  },
  cut: {
    description: 'Ends its stream after the first of three progress reports',
    async call(report, extra) {
      await report(1);
      extra.closeSSEStream();
      await report(2);
      await report(3);
      return text('cut and mended');
    },
  },
  hold: {
    description: 'Reports progress, waits for a call of release, and reports twice more',
    async call(report, _extra, session) {
      await report(1);
      await session.released;
      await report(2);
      await report(3);
      session.finish();
      return text('held and released');
    },
  },
  release: {
    description: 'Lets hold go on, and answers after it',
    async call(_report, _extra, session) {
      session.release();
      await session.finished;
      return text('released');
    },
  },
};

const inputSchema = { type: 'object', properties: {} };

function connect(session) {
  const server = new Server(
    { name: 'e2e-typescript', version: '1.0.0' },
    { capabilities: { tools: {} } },
  );
  server.setRequestHandler(ListToolsRequestSchema, () => ({
    tools: Object.entries(tools).map(([name, { description }]) => ({
      name,
      description,
      inputSchema,
    })),
  }));
  server.setRequestHandler(CallToolRequestSchema, (request, extra) => {
    const progressToken = request.params._meta?.progressToken;
    const report = async (progress) => {
      if (progressToken === undefined) return;
      const params = { progressToken, progress, total: 3 };
      await extra.sendNotification({ method: 'notifications/progress', params });
    };
    return tools[request.params.name].call(report, extra, session);
  });
  return server.connect(session.transport);
}

const sessions = new Map();

async function handle(request, response) {
  const id = request.headers['mcp-session-id'];
  if (id !== undefined) {
    const session = sessions.get(id);
    if (session) return session.transport.handleRequest(request, response);
    const error = { code: -32001, message: 'Session not found' };
    response.writeHead(404, { 'content-type': 'application/json' });
    return response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  const message = body === '' ? undefined : JSON.parse(body);
  if (!isInitializeRequest(message)) {
    const error = { code: -32000, message: 'Bad Request: initialize comes first' };
    response.writeHead(400, { 'content-type': 'application/json' });
    return response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
  }
  const session = {};
  session.released = new Promise((resolve) => (session.release = resolve));
  session.finished = new Promise((resolve) => (session.finish = resolve));
  session.transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Events(),
    retryInterval: 50,
    onsessioninitialized: (id) => sessions.set(id, session),
    onsessionclosed: (id) => sessions.delete(id),
  });
  await connect(session);
  return session.transport.handleRequest(request, response, message);
}

const server = createServer((request, response) => {
  handle(request, response).catch((error) => {
    console.error(error);
    if (!response.headersSent) response.writeHead(500);
    response.end();
  });
});
server.listen(0, '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/mcp`);
});
