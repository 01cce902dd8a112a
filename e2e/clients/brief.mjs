// Lists and calls tools once, in the default way of an official TypeScript SDK, and prints what
// servers/record.mjs has recorded then.
//
// brief.mjs ORIGIN v1|v2 sse|streamable|auto

import * as v1 from '@modelcontextprotocol/sdk/client/index.js';
import * as v1Sse from '@modelcontextprotocol/sdk/client/sse.js';
import * as v1Streamable from '@modelcontextprotocol/sdk/client/streamableHttp.js';
import * as v2 from '@modelcontextprotocol/client';

const [origin, generation, way] = process.argv.slice(2);
const { Client, SSEClientTransport, StreamableHTTPClientTransport } =
  generation === 'v1' ? { ...v1, ...v1Sse, ...v1Streamable } : v2;

const transport =
  way === 'sse'
    ? new SSEClientTransport(new URL('/sse', origin))
    : new StreamableHTTPClientTransport(new URL('/mcp', origin));
const negotiation = way === 'auto' ? { versionNegotiation: { mode: 'auto' } } : {};
const client = new Client({ name: 'brief', version: '1.0.0' }, { capabilities: {}, ...negotiation });
await client.connect(transport);
await client.listTools();
await client.callTool({ name: 'echo', arguments: {} });
console.log(await (await fetch(new URL('/recorded', origin))).text());
process.exit(0);
