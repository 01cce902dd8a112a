// An MCP server on the official TypeScript SDK (v1), with sessions and streams that can be resumed.
// Prints one line that says where it listens. With the argument `sse` it speaks HTTP+SSE, with `stdio`
// it listens nowhere.

import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { Server } from '@modelcontextprotocol/sdk/server/index.js';
import { SSEServerTransport } from '@modelcontextprotocol/sdk/server/sse.js';
import { StdioServerTransport } from '@modelcontextprotocol/sdk/server/stdio.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';
import {
  CallToolRequestSchema,
  CreateMessageResultSchema,
  ElicitResultSchema,
  isInitializeRequest,
  ListToolsRequestSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { Events } from './streams.mjs';

const text = (value) => ({ content: [{ type: 'text', text: value }] });

const tools = {
  count: {
    description: 'Reports progress three times before it answers',
    async call(report) {
      for (const progress of [1, 2, 3]) {
        await report(progress);
        // The SDK's clients lose progress that comes in one read with the response.
        await new Promise((resolve) => setTimeout(resolve, 30));
      }
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

/** What the tools of one session have in common. */
function newSession(transport) {
  const session = { transport };
  session.released = new Promise((resolve) => (session.release = resolve));
  session.finished = new Promise((resolve) => (session.finish = resolve));
  return session;
}

const sessions = new Map();

/** HTTP+SSE: the connection is the session. */
async function handleSse(request, response) {
  const url = new URL(request.url, 'http://localhost');
  if (request.method === 'GET' && url.pathname === '/sse') {
    const session = newSession(new SSEServerTransport('/messages', response));
    sessions.set(session.transport.sessionId, session);
    response.on('close', () => sessions.delete(session.transport.sessionId));
    return connect(session);
  }
  const session = sessions.get(url.searchParams.get('sessionId'));
  if (request.method === 'POST' && url.pathname === '/messages' && session) {
    return session.transport.handlePostMessage(request, response);
  }
  response.writeHead(404);
  return response.end('not found');
}

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
  const session = newSession();
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

function listen(answer, path) {
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => {
      console.error(error);
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  server.listen(0, '127.0.0.1', () => {
    console.log(`listening on http://127.0.0.1:${server.address().port}${path}`);
  });
}

switch (process.argv[2]) {
  case 'sse':
    listen(handleSse, '/sse');
    break;
  case 'stdio':
    await connect(newSession(new StdioServerTransport()));
    break;
  default:
    listen(handle, '/mcp');
}
