// What every step of the walk uses: the client, and how to be refused, to wait and to page.
//
// SENDOFF_URL and SENDOFF_TOKEN say where the server is and as whom it is asked.

import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { checked } from "./models.mjs";
import { svix } from "./packages.mjs";

// In milliseconds; long, since only a failing walk waits it out.
export const SOON = 20_000;

/** A client that shows the token, without retries of its own: a 5xx fails the walk at once. */
export const client = (token) =>
  checked(new svix.Svix(token, { serverUrl: process.env.SENDOFF_URL, retryScheduleInMs: [] }));

/** The call is refused with this status, and `why`: a code, or the place of the one field that is wrong. */
export async function refused(status, why, call) {
  const error = await call.then(
    () => assert.fail(`this was not refused with ${status}`),
    (error) => error,
  );
  if (!(error instanceof svix.ApiException)) throw error;
  assert.equal(error.code, status, JSON.stringify(error.body));
  if (status === 422) {
    assert.deepEqual(error.body.detail.map((item) => item.loc), [why]);
    assert(error.body.detail.every((item) => item.msg && item.type));
  } else {
    assert.equal(error.body.code, why);
    assert(error.body.detail);
  }
}

/** Calls until the answer fits, and gives that answer. */
export async function until(what, call, condition) {
  const start = Date.now();
  for (;;) {
    const answer = await call();
    if (condition(answer)) return answer;
    assert(Date.now() - start < SOON, `in vain for: ${what}; the last was ${JSON.stringify(answer)}`);
    await sleep(20);
  }
}

/** Goes through a list in pages of two, to its end and back to its beginning. */
export async function bothWays(page, wanted, key = "id") {
  const keys = (found) => found.data.map((one) => one[key]);
  const pages = [await page({ limit: 2 })];
  while (!pages.at(-1).done) pages.push(await page({ limit: 2, iterator: pages.at(-1).iterator }));
  let found = pages.at(-1);
  assert.equal(found.iterator, keys(found).at(-1));
  assert.deepEqual(pages.flatMap(keys), wanted);
  assert(pages.length === Math.ceil(wanted.length / 2) && pages.length > 1);
  for (const before of pages.slice(0, -1).reverse()) {
    assert(found.prevIterator);
    found = await page({ limit: 2, iterator: found.prevIterator });
    assert.deepEqual(keys(found), keys(before));
  }
  assert(found.done);
}

export const hours = (count) => new Date(Date.now() + count * 3_600_000);
