// An MCP server of both transports that does next to nothing but to write down what clients send. `GET
// /recorded` tells it; the headers of the connection itself are left out.
//
// Its records are crates/proto/src/deprecation/tests/clients.json. To add a client to that file, run this
// with the Node of your choice and let the client list and call tools at /sse or /mcp.

import { createServer } from 'node:http';

const OF_THE_CONNECTION = ['host', 'connection', 'content-length'];
const NEWEST_WITH_INITIALIZE = '2025-11-25';

const recorded = [];
const streams = new Map();

function resultOf({ method, params }) {
  const isModern = params?._meta?.['io.modelcontextprotocol/protocolVersion'] !== undefined;
  const rest = isModern ? { resultType: 'complete', ttlMs: 0, cacheScope: 'private' } : {};
  const server = { capabilities: { tools: {} }, serverInfo: { name: 'record', version: '1' } };
  switch (method) {
    case 'initialize': {
      const asked = params.protocolVersion;
      const protocolVersion = asked < NEWEST_WITH_INITIALIZE ? asked : NEWEST_WITH_INITIALIZE;
      return { protocolVersion, ...server };
    }
    case 'server/discover':
      return { supportedVersions: ['2026-07-28', NEWEST_WITH_INITIALIZE], ...server, ...rest };
    case 'tools/list':
      return { tools: [{ name: 'echo', inputSchema: { type: 'object' } }], ...rest };
    case 'tools/call':
      return { content: [{ type: 'text', text: 'echo' }], ...rest };
    default:
      return rest;
  }
}

const answerTo = (message) =>
  JSON.stringify({ jsonrpc: '2.0', id: message.id, result: resultOf(message) });

const isRequest = (message) => message.method !== undefined && message.id !== undefined;

function openStream(response) {
  response.writeHead(200, { 'content-type': 'text/event-stream' });
  response.flushHeaders();
}

const routes = {
  'GET /sse'(url, message, response) {
    const sessionId = String(streams.size);
    streams.set(sessionId, response);
    openStream(response);
    response.write(`event: endpoint\ndata: /messages?sessionId=${sessionId}\n\n`);
  },
  'POST /messages'(url, message, response) {
    response.writeHead(202).end();
    if (!isRequest(message)) return;
    const stream = streams.get(url.searchParams.get('sessionId'));
    stream.write(`event: message\ndata: ${answerTo(message)}\n\n`);
  },
  'POST /mcp'(url, message, response) {
    if (!isRequest(message)) return response.writeHead(202).end();
    const session = message.method === 'initialize' ? { 'mcp-session-id': 'abc' } : {};
    response.writeHead(200, { 'content-type': 'application/json', ...session });
    response.end(answerTo(message));
  },
  'GET /mcp': (url, message, response) => openStream(response),
  'DELETE /mcp': (url, message, response) => response.writeHead(200).end(),
  'GET /recorded': (url, message, response) => response.end(JSON.stringify(recorded)),
};

const server = createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  const message = body === '' ? undefined : JSON.parse(body);
  const url = new URL(request.url, 'http://localhost');
  const { method } = request;
  const headers = { ...request.headers };
  OF_THE_CONNECTION.forEach((name) => delete headers[name]);
  if (url.pathname !== '/recorded') {
    recorded.push({ method, message: message?.method ?? null, headers });
  }
  const route = routes[`${method} ${url.pathname}`];
  if (route === undefined) return response.writeHead(404).end();
  route(url, message, response);
});

server.listen(Number(process.argv[2] ?? 0), '127.0.0.1', () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}/mcp`);
});
