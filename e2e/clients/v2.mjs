// The official TypeScript SDK, second generation, which also speaks 2026-07-28.

import {
  Client,
  SSEClientTransport,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client';
import { run } from './scenario.mjs';

await run({
  async open({ url, fetch, binding, revision, mode, onSampling, onElicitation }) {
    const Transport = binding === 'sse' ? SSEClientTransport : StreamableHTTPClientTransport;
    const transport = new Transport(url, { fetch });
    const client = new Client(
      { name: 'e2e-typescript-v2', version: '1.0.0' },
      {
        capabilities: { sampling: {}, elicitation: {} },
        versionNegotiation: { mode: revision ? { pin: revision } : (mode ?? 'legacy') },
      },
    );
    client.setRequestHandler('sampling/createMessage', onSampling);
    client.setRequestHandler('elicitation/create', onElicitation);
    await client.connect(transport);
    return { client, transport, revision };
  },
  async reconnect(connection, { url, ...options }) {
    connection.transport = new StreamableHTTPClientTransport(url, options);
    await connection.client.connect(connection.transport);
  },
  call: ({ client }, { name, arguments: given }, options) =>
    client.callTool({ name, arguments: given }, options),
  async watch({ client, revision }, uri, onChange) {
    client.setNotificationHandler('notifications/tools/list_changed', onChange);
    if (revision === undefined) return client.subscribeResource({ uri });
    return client.listen({ toolsListChanged: true, resourceSubscriptions: [uri] });
  },
  onProgress: ({ client }, handler) =>
    client.setNotificationHandler('notifications/progress', ({ params }) => handler(params)),
});
