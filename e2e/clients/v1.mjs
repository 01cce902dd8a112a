// The official TypeScript SDK, first generation.

import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { SSEClientTransport } from '@modelcontextprotocol/sdk/client/sse.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import {
  CallToolResultSchema,
  CreateMessageRequestSchema,
  ElicitRequestSchema,
  ProgressNotificationSchema,
  ToolListChangedNotificationSchema,
} from '@modelcontextprotocol/sdk/types.js';
import { run } from './scenario.mjs';

await run({
  async open({ url, fetch, binding, onSampling, onElicitation }) {
    const Transport = binding === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport;
    const transport = new Transport(url, { fetch });
    const client = new Client(
      { name: 'e2e-typescript-v1', version: '1.0.0' },
      { capabilities: { sampling: {}, elicitation: {} } },
    );
    client.setRequestHandler(CreateMessageRequestSchema, onSampling);
    client.setRequestHandler(ElicitRequestSchema, onElicitation);
    await client.connect(transport);
    return { client, transport };
  },
  async reconnect(connection, { url, fetch, sessionId, protocolVersion }) {
    connection.transport = new StreamableHTTPClientTransport(url, { fetch, sessionId });
    connection.transport.setProtocolVersion(protocolVersion);
    await connection.client.connect(connection.transport);
  },
  call: ({ client }, { name, arguments: given }, options) =>
    client.request(
      { method: 'tools/call', params: { name, arguments: given } },
      CallToolResultSchema,
      options,
    ),
  async watch({ client }, uri, onChange) {
    client.setNotificationHandler(ToolListChangedNotificationSchema, onChange);
    await client.subscribeResource({ uri });
  },
  onProgress: ({ client }, handler) =>
    client.setNotificationHandler(ProgressNotificationSchema, ({ params }) => handler(params)),
});
