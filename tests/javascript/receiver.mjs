// A receiver as a customer would run it, which also remembers what arrived; and its check with both official libraries.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { SOON } from "./client.mjs";
import { standardwebhooks, svix } from "./packages.mjs";

export const HANG_UP = 0;
export const ANSWER = "r\u00e9sum\u00e9 <b>";

/** Answers each path with its statuses in turn; the last one goes on, and a path without any is answered with 200. */
export class Receiver {
  statuses = {};
  #arrived = {};
  #server = createServer((request, response) => this.#take(request, response));

  async listen() {
    await once(this.#server.listen(0, "127.0.0.1"), "listening");
    return this;
  }

  close() {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  url(path) {
    return `http://127.0.0.1:${this.#server.address().port}${path}`;
  }

  async #take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const path = request.url;
    (this.#arrived[path] ??= []).push({ body: Buffer.concat(chunks).toString(), headers: request.headers, at: new Date() });
    const statuses = this.statuses[path] ?? [200];
    const status = statuses.length > 1 ? statuses.shift() : statuses[0];
    if (status === HANG_UP) return request.socket.destroy();
    response.writeHead(status).end(ANSWER);
  }

  /** What arrived at the path, once it is so much; more than that is wrong. */
  async arrived(path, count) {
    const start = Date.now();
    while ((this.#arrived[path] ?? []).length < count) {
      assert(Date.now() - start < SOON, `${path} waits in vain for the ${count}th of ${JSON.stringify(this.#arrived[path])}`);
      await sleep(10);
    }
    assert.equal(this.#arrived[path].length, count);
    return [...this.#arrived[path]];
  }
}

/** Whether a receiver with this secret takes the delivery for genuine; both libraries say the same. */
export function accepts(key, { body, headers }) {
  const says = (verify) => {
    try {
      verify();
      return true;
    } catch (error) {
      // The old client brings a copy of the library along.
      const refusals = [standardwebhooks.WebhookVerificationError, svix.WebhookVerificationError];
      if (refusals.some((refusal) => error instanceof refusal)) return false;
      // It also reads the body as JSON once the signature is right.
      if (error instanceof SyntaxError) return true;
      throw error;
    }
  };
  const one = says(() => new svix.Webhook(key).verify(body, headers));
  const other = says(() => new standardwebhooks.Webhook(key).verify(body, headers, { jsonParse: false }));
  assert.equal(one, other, "the two libraries differ");
  return one;
}
