// What the official conformance suite expects to find, on the official TypeScript SDK (v2): 2025-11-25 in
// sessions, and 2026-07-28 without. Prints one line that says where it listens. With the argument `stdio` it
// listens nowhere.

import { randomBytes, randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import {
  localhostHostValidation,
  localhostOriginValidation,
  NodeStreamableHTTPServerTransport,
  toNodeHandler,
  toWebRequest,
} from '@modelcontextprotocol/node';
import {
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  createRequestStateCodec,
  fromJsonSchema,
  inputRequired,
  isLegacyRequest,
  McpServer,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  ProtocolErrorCode,
  ResourceNotFoundError,
} from '@modelcontextprotocol/server';
import { serveStdio } from '@modelcontextprotocol/server/stdio';
import { Events } from './streams.mjs';

const fixtures = JSON.parse(
  readFileSync(new URL('../src/bin/conformance-server/fixtures.json', import.meta.url)),
);
const codec = createRequestStateCodec({ key: randomBytes(32) });

const text = (value) => ({ content: [{ type: 'text', text: value }] });
const prompt = (value) => ({
  messages: [{ role: 'user', content: { type: 'text', text: value } }],
});
const invalid = (message) => new ProtocolError(ProtocolErrorCode.InvalidParams, message);
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** A result as it stands in the fixtures; which revisions have a type of results the SDK knows. */
const fixed = ({ resultType, ...result }) => result;

/** Tells everybody that a list changed. */
const changed = {
  tools() {
    modern.notify.toolsChanged();
    for (const { server } of sessions.values()) server.sendToolListChanged();
  },
  prompts() {
    modern.notify.promptsChanged();
    for (const { server } of sessions.values()) server.sendPromptListChanged();
  },
};

/** Of a client in a session what it said at its beginning, else what the request says. */
const capabilitiesOf = (server, context) =>
  context.mcpReq.envelope?.[CLIENT_CAPABILITIES_META_KEY] ?? server.getClientCapabilities() ?? {};

const CAPABILITY = {
  'elicitation/create': 'elicitation',
  'sampling/createMessage': 'sampling',
  'roots/list': 'roots',
};

/** Only what the client says it can answer may be asked. */
function allowed(requests, server, context) {
  const capabilities = capabilitiesOf(server, context);
  const isAllowed = ([, { method }]) => capabilities[CAPABILITY[method]] !== undefined;
  return Object.fromEntries(Object.entries(requests).filter(isAllowed));
}

/** Asks round after round, and says then what is made of the answers. In sessions the SDK sends the questions. */
async function ask({ rounds, sealed, finish }, server, context) {
  const state = context.mcpReq.requestState();
  const answers = context.mcpReq.inputResponses ?? {};
  let round = state?.round ?? 0;
  const keys = Object.keys(allowed(rounds[round], server, context));
  // A flow that seals its state starts anew without it, whatever else came.
  const isAnswered = !(sealed && state === undefined) && keys.every((key) => key in answers);
  if (isAnswered) round += 1;
  if (round === rounds.length) return finish(answers);
  const inputRequests = allowed(rounds[round], server, context);
  if (Object.keys(inputRequests).length === 0) return finish({});
  const requestState = sealed ? await codec.mint({ round }) : undefined;
  return inputRequired({ inputRequests, requestState });
}

/** What a tool or prompt asks before it answers, if it does. */
function flowOf(name, wrap, parameters = {}) {
  const flow = fixtures.flows[name];
  if (flow !== undefined) {
    const finish = (answers) => wrap(`${flow.answer} ${JSON.stringify(answers)}`);
    return { ...flow, finish };
  }
  const one = (method, params, finish) => ({
    rounds: [{ answer: { method, params } }],
    finish: ({ answer }) => finish(answer ?? {}),
  });
  if (name === 'test_sampling') {
    const messages = [{ role: 'user', content: { type: 'text', text: parameters.prompt } }];
    return one('sampling/createMessage', { messages, maxTokens: 100 }, ({ content }) =>
      text(`LLM response: ${content?.text}`),
    );
  }
  const asked = fixtures.elicitations[name];
  if (asked === undefined) return undefined;
  const message = parameters.message ?? asked.message;
  return one('elicitation/create', { ...asked, message }, ({ action, content }) =>
    text(`User response: action=${action}, content=${JSON.stringify(content)}`),
  );
}

/** A condition that something brings about and others wait for. */
function newCondition() {
  const condition = {};
  condition.met = new Promise((resolve) => (condition.meet = resolve));
  return condition;
}

const released = newCondition();
const finished = newCondition();
const cancelled = newCondition();

async function reportStep({ mcpReq }, progress) {
  const progressToken = mcpReq._meta?.progressToken;
  if (progressToken === undefined) return;
  const params = { progressToken, progress, total: 3 };
  await mcpReq.notify({ method: 'notifications/progress', params });
}

const tools = {
  /** Reports progress, waits for a call of release, and reports twice more. The suite knows nothing of this. */
  async hold(_parameters, context) {
    await reportStep(context, 1);
    await released.met;
    await reportStep(context, 2);
    await reportStep(context, 3);
    finished.meet();
    return text('held and released');
  },
  async release() {
    released.meet();
    await finished.met;
    return text('released');
  },
  /** Reports progress, and waits until it is cancelled; was_cancelled waits for that, too. */
  async wait_for_cancel(_parameters, context) {
    await reportStep(context, 1);
    const { signal } = context.mcpReq;
    await new Promise((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener('abort', resolve);
    });
    cancelled.meet();
    return text('nobody hears this');
  },
  async was_cancelled() {
    await cancelled.met;
    return text('cancelled');
  },
  async test_tool_with_logging(_parameters, { mcpReq }) {
    for (const line of ['started', 'processing', 'completed']) await mcpReq.log('info', line);
    return text('The log was written');
  },
  async test_logging_tool(_parameters, { mcpReq }) {
    await mcpReq.log('info', 'a level was asked for');
    return text('The log was written');
  },
  async test_tool_with_progress(_parameters, { mcpReq }) {
    const progressToken = mcpReq._meta?.progressToken;
    if (progressToken === undefined) return text('Nobody asked for progress');
    for (const progress of [0, 50, 100]) {
      const message = `Completed step ${progress} of 100`;
      const params = { progressToken, progress, total: 100, message };
      await mcpReq.notify({ method: 'notifications/progress', params });
      // The SDK's clients lose progress that comes in one read with the response.
      await pause(20);
    }
    return text('Progress was reported');
  },
  async test_reconnection(_parameters, { http }) {
    http.closeSSE();
    await pause(1000);
    return text('The client came back');
  },
  test_missing_capability(_parameters, context, server) {
    if (capabilitiesOf(server, context).sampling) return text('The capability is there');
    throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { sampling: {} } });
  },
  test_trigger_tool_change() {
    changed.tools();
    return text('The tools changed');
  },
  test_trigger_prompt_change() {
    changed.prompts();
    return text('The prompts changed');
  },
  greet: ({ name }) => text(`Hello, ${name}!`),
};

function callTool({ name, arguments: parameters = {} }, context, server) {
  const flow = flowOf(name, text, parameters);
  if (flow !== undefined) return ask(flow, server, context);
  const result = fixtures.tool_results[name];
  if (result !== undefined) return fixed(result);
  if (tools[name] !== undefined) return tools[name](parameters, context, server);
  // The others show that the arguments arrive. What the suite wants to be a task is none: the SDK has no tasks.
  if (fixtures.tools.some((tool) => tool.name === name)) return text(JSON.stringify(parameters));
  throw invalid(`no tool ${name}`);
}

function getPrompt({ name, arguments: parameters = {} }, context, server) {
  const flow = flowOf(name, prompt);
  if (flow !== undefined) return ask(flow, server, context);
  if (name === 'test_prompt_with_arguments') {
    const { arg1, arg2 } = parameters;
    return prompt(`Prompt with arguments: arg1='${arg1}', arg2='${arg2}'`);
  }
  const result = fixtures.prompt_results[name];
  if (result === undefined) throw invalid(`no prompt ${name}`);
  return fixed(result);
}

function readResource({ uri }) {
  const result = fixtures.resource_results[uri];
  if (result !== undefined) return fixed(result);
  const id = /^test:\/\/template\/(.*)\/data$/.exec(uri)?.[1];
  if (id === undefined) throw new ResourceNotFoundError(uri);
  const data = { id, templateTest: true, data: `Data for ID: ${id}` };
  return { contents: [{ uri, mimeType: 'application/json', text: JSON.stringify(data) }] };
}

const CACHEABLE = [
  'prompts/list',
  'resources/list',
  'resources/read',
  'resources/templates/list',
  'server/discover',
  'tools/list',
];

function newServer() {
  const served = new McpServer(
    { name: 'e2e-typescript-conformance', version: '1.0.0' },
    {
      capabilities: {
        completions: {},
        logging: {},
        prompts: { listChanged: true },
        resources: { listChanged: true, subscribe: true },
        tools: { listChanged: true },
      },
      cacheHints: Object.fromEntries(
        CACHEABLE.map((method) => [method, { ttlMs: 60_000, cacheScope: 'public' }]),
      ),
      requestState: { verify: codec.verify },
    },
  );
  const { server } = served;
  for (const { name, description, inputSchema } of fixtures.tools) {
    const call = (parameters, context) =>
      callTool({ name, arguments: parameters }, context, server);
    served.registerTool(name, { description, inputSchema: fromJsonSchema(inputSchema) }, call);
  }
  const { prompts, resources, resource_templates: resourceTemplates } = fixtures;
  const answer = (method, of) =>
    server.setRequestHandler(method, ({ params }, context) => of(params, context, server));
  // Tools are registered so that the SDK compares headers with their arguments. Called by it, they could not
  // answer with an error of the protocol.
  answer('tools/call', callTool);
  answer('prompts/list', () => ({ prompts }));
  answer('prompts/get', getPrompt);
  answer('resources/list', () => ({ resources }));
  answer('resources/templates/list', () => ({ resourceTemplates }));
  answer('resources/read', readResource);
  answer('resources/subscribe', () => ({}));
  answer('resources/unsubscribe', () => ({}));
  answer('completion/complete', ({ argument: { value } }) => ({
    completion: { values: [`${value}aris`, `${value}ark`] },
  }));
  return served;
}

const sessions = new Map();

/** What comes without an envelope belongs to a session, or opens one. */
async function inSession(request, response, body) {
  const id = request.headers['mcp-session-id'];
  if (id !== undefined) {
    const session = sessions.get(id);
    if (session !== undefined) return session.transport.handleRequest(request, response, body);
    const error = { code: -32001, message: 'Session not found' };
    response.writeHead(404, { 'content-type': 'application/json' });
    return response.end(JSON.stringify({ jsonrpc: '2.0', id: null, error }));
  }
  const served = newServer();
  const transport = new NodeStreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Events(),
    retryInterval: 500,
    onsessioninitialized: (id) => void sessions.set(id, { server: served.server, transport }),
    onsessionclosed: (id) => void sessions.delete(id),
  });
  await served.connect(transport);
  return transport.handleRequest(request, response, body);
}

const modern = createMcpHandler(newServer, { legacy: 'reject' });
const withoutSession = toNodeHandler(modern, { onerror: console.error });
const isHostKnown = localhostHostValidation();
const isOriginKnown = localhostOriginValidation();

/** What is no JSON is refused by either as what it is. */
function parsed(body) {
  try {
    return JSON.parse(body);
  } catch {
    return body;
  }
}

async function handle(request, response) {
  if (!isHostKnown(request, response) || !isOriginKnown(request, response)) return;
  const seen = await toWebRequest(request);
  const isLegacy = await isLegacyRequest(seen);
  const body = seen.body === null ? undefined : parsed(await seen.text());
  await (isLegacy ? inSession : withoutSession)(request, response, body);
}

if (process.argv[2] === 'stdio') {
  serveStdio(newServer);
} else {
  const listener = createServer((request, response) => {
    handle(request, response).catch((error) => {
      console.error(error);
      if (!response.headersSent) response.writeHead(500);
      response.end();
    });
  });
  listener.listen(0, '127.0.0.1', () => {
    console.log(`listening on http://127.0.0.1:${listener.address().port}/mcp`);
  });
}
