// What the servers on the TypeScript SDKs keep, so that their streams can be resumed.

/** Everything that was ever sent in a session, in order. */
export class Events {
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
