// What a client does with a server, step by step; each step is a line of JSON on standard output.
// An SDK's own way of doing it is in the adapter: v1.mjs and v2.mjs. The same steps are taken over
// either transport.

/** A plan names the tools to call; what is missing from it is left out. */
const url = process.argv[2];
const plan = JSON.parse(process.argv[3]);

const say = (step, fields) => console.log(JSON.stringify({ step, ...fields }));

/** Every HTTP exchange, for what an SDK does not show. */
const exchanges = [];

async function watchedFetch(target, init = {}) {
  const response = await fetch(target, init);
  const lastEventId = new Headers(init.headers).get('last-event-id');
  exchanges.push({ method: init.method ?? 'GET', lastEventId, status: response.status });
  return response;
}

const resumes = () =>
  exchanges.filter(({ lastEventId, status }) => lastEventId !== null && status === 200).length;

/** Waits until a condition holds that something else brings about. */
async function until(condition) {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5));
}

const textOf = (result) => result.content[0].text;

export async function run(adapter) {
  setTimeout(() => {
    console.error('the steps took too long; HTTP exchanges so far:', exchanges);
    process.exit(2);
  }, 60_000).unref();

  const asked = [];
  const open = () =>
    adapter.open({
      url: new URL(url),
      fetch: watchedFetch,
      binding: plan.binding,
      revision: plan.revision,
      mode: plan.mode,
      onSampling: () => {
        asked.push('sampling/createMessage');
        return { role: 'assistant', model: 'e2e', content: { type: 'text', text: 'forty-two' } };
      },
      onElicitation: () => {
        asked.push('elicitation/create');
        return { action: 'accept', content: plan.elicited ?? { seat: '4A' } };
      },
    });

  const connection = await open();
  const { client, transport } = connection;
  const sessionId = transport.sessionId;
  say('initialize', {
    revision: transport.protocolVersion ?? null,
    session: sessionId !== undefined,
    server: client.getServerVersion()?.name,
  });

  const { tools } = await client.listTools();
  say('list', { tools: tools.map(({ name }) => name) });

  if (plan.progress) {
    const events = [];
    const onprogress = ({ progress }) => events.push(progress);
    const result = await adapter.call(connection, plan.progress, { onprogress });
    say('progress', { events, text: textOf(result) });
  }

  for (const tool of plan.ask ?? []) {
    asked.length = 0;
    const result = await adapter.call(connection, tool, {});
    say('ask', { tool: tool.name, asked, text: textOf(result) });
  }

  if (plan.cut) {
    const before = resumes();
    const events = [];
    const onprogress = ({ progress }) => events.push(progress);
    const result = await adapter.call(connection, plan.cut, { onprogress });
    say('cut', { events, text: textOf(result), resumes: resumes() - before });
  }

  if (plan.cancel) {
    const leaving = new AbortController();
    const { signal } = leaving;
    const onprogress = () => leaving.abort('enough');
    const call = adapter.call(connection, plan.cancel.call, { signal, onprogress });
    const isRefused = await call.then(() => false, () => true);
    const result = await adapter.call(connection, plan.cancel.proof, {});
    say('cancel', { isRefused, text: textOf(result) });
  }

  if (plan.change) {
    let changes = 0;
    await adapter.watch(connection, plan.change.uri, () => (changes += 1));
    // What happens before somebody listens is told to nobody.
    while (changes === 0) {
      await adapter.call(connection, plan.change, {});
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    say('change', { uri: plan.change.uri });
  }

  if (plan.resume) await resume(adapter, open);
  if (plan.survive) await survive(adapter, connection);

  // Over HTTP+SSE the connection is the session.
  if (plan.binding === 'sse') await client.close();
  if (sessionId !== undefined) {
    await transport.terminateSession();
    say('delete', { status: exchanges.findLast(({ method }) => method === 'DELETE').status });
    const response = await fetch(url, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        accept: 'application/json, text/event-stream',
        'mcp-session-id': sessionId,
        'mcp-protocol-version': transport.protocolVersion,
      },
      body: JSON.stringify({ jsonrpc: '2.0', id: 99, method: 'tools/list', params: {} }),
    });
    say('gone', { status: response.status });
    await response.body?.cancel();
  }
  process.exit(0);
}

/** A client that loses its connection in mid-stream, and resumes on a new one where it was. */
async function resume(adapter, open) {
  const connection = await open();
  const events = [];
  let token;
  const lost = adapter.call(connection, plan.resume.call, {
    onprogress: ({ progress }) => events.push(progress),
    onresumptiontoken: (id) => (token = id),
  });
  lost.catch(() => {});
  await until(() => events.length > 0 && token !== undefined);
  const seenBefore = events.length;
  const { sessionId, protocolVersion } = connection.transport;
  await connection.transport.close();

  // The same client: one that counts its requests from the start again would use an id twice.
  await adapter.reconnect(connection, { url: new URL(url), fetch: watchedFetch, sessionId, protocolVersion });
  adapter.onProgress(connection, ({ progress }) => events.push(progress));
  // All that is missing is there before it is asked for: servers may lose what they send while they
  // move a stream to another connection.
  await adapter.call(connection, plan.resume.release, {});
  const before = resumes();
  const result = await adapter.call(connection, plan.resume.call, { resumptionToken: token });
  say('resume', { events, seenBefore, text: textOf(result), resumes: resumes() - before });
  await connection.transport.terminateSession();
}

/** A client whose stream somebody else breaks: it resumes it by itself. */
async function survive(adapter, connection) {
  const before = resumes();
  const events = [];
  const onprogress = ({ progress }) => events.push(progress);
  const held = adapter.call(connection, plan.survive.call, { onprogress });
  await until(() => events.length > 0);
  say('holding');
  await until(() => resumes() > before);
  await adapter.call(connection, plan.survive.release, {});
  say('survive', { events, text: textOf(await held) });
}
