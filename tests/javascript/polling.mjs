// Fetching messages in place of receiving them: by position, as a consumer, and with a token that opens one polling endpoint.

import assert from "node:assert/strict";
import { client, hours, refused, until } from "./client.mjs";
import { svix as sdk } from "./packages.mjs";

const { deepEqual: same } = assert;
const idsOf = (page) => page.data.map((one) => one.id);

/** What the SDK has no method for. */
async function asked(path, body) {
  const headers = { authorization: `Bearer ${process.env.SENDOFF_TOKEN}`, "content-type": "application/json" };
  const sent = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(`${process.env.SENDOFF_URL}/api/v1${path}`, { headers, ...sent });
  assert(answer.ok, await answer.clone().text());
  return answer.json();
}

/** What `destinations` leaves behind, for a client that has no methods for it. */
export async function destinationsByHand(svix) {
  await svix.application.create({ name: "Puller", uid: "puller" });
  await asked("/app/puller/destination", { type: "pollingEndpoint", uid: "pull" });
}

export async function destinations(svix) {
  await svix.application.create({ name: "Puller", uid: "puller" });
  const given = { type: "pollingEndpoint", uid: "pull", channels: ["eu"], metadata: { plan: "pro" }, config: {} };
  const made = await svix.destination.create("puller", given);
  assert(made.id.startsWith("poll_"));
  same([made.uid, made.status, made.channels, made.metadata], ["pull", "enabled", ["eu"], { plan: "pro" }]);
  for (const name of ["pull", made.id]) same(await svix.destination.get("puller", name), made);
  const patched = await svix.destination.patch("puller", "pull", { type: "pollingEndpoint", channels: null, config: {} });
  same([patched.channels, patched.metadata], [undefined, { plan: "pro" }]);
  const replaced = await svix.destination.upsert("puller", "pull", { type: "pollingEndpoint", config: {} });
  same([replaced.id, replaced.uid, replaced.metadata], [made.id, "pull", {}]);
  const other = await svix.destination.upsert("puller", "other", { type: "pollingEndpoint", status: "disabled", config: {} });
  assert.equal(other.status, "disabled");
  same(idsOf(await svix.destination.list("puller", { order: "descending", limit: 9 })), [other.id, made.id]);
  await refused(409, "conflict", svix.destination.create("puller", given));
  await refused(409, "conflict", svix.message.poller.poll("puller", "other"));
  await svix.destination.delete("puller", "other");
  await refused(404, "not_found", svix.destination.get("puller", "other"));
}

export async function polling(svix) {
  const poll = (options) => svix.message.poller.poll("puller", "pull", options);
  let page = await poll();
  same([page.data, page.done], [[], true]);
  const sent = [];
  for (let number = 0; number < 5; number++) {
    const eventType = number % 2 === 0 ? "t.even" : "t.odd";
    sent.push(await svix.message.create("puller", { eventType, payload: { number }, channels: ["eu"] }));
  }
  const ids = sent.map((one) => one.id);
  const found = [];
  do {
    page = await poll({ limit: 2, iterator: page.iterator });
    found.push(...page.data);
  } while (!page.done);
  same(idsOf({ data: found }), ids);
  same(found.map((one) => one.payload.number), [0, 1, 2, 3, 4]);
  same([found[1].eventType, found[1].channels, found[1].timestamp], ["t.odd", ["eu"], sent[1].timestamp]);
  same((await poll({ iterator: page.iterator })).data, []);
  same(idsOf(await poll({ eventType: "t.odd", channel: "eu", after: hours(-1) })), [ids[1], ids[3]]);
  await refused(422, ["query", "after"], poll({ after: hours(1) }));
  await refused(422, ["query", "iterator"], poll({ iterator: "nonsense" }));

  const consume = (options) => svix.message.poller.consumerPoll("puller", "pull", "c", options);
  const first = await consume({ limit: 3 });
  same([idsOf(first), first.done], [ids.slice(0, 3), false]);
  same(await consume({ limit: 3 }).then(idsOf), ids.slice(0, 3), "until it says that it has them");
  const rest = await consume({ iterator: first.iterator });
  same([idsOf(rest), rest.done], [ids.slice(3), true]);
  same((await consume({ iterator: rest.iterator })).data, []);
  await refused(409, "conflict", consume({ iterator: first.iterator }));
  const seek = (after) => svix.message.poller.consumerSeek("puller", "pull", "c", { after });
  const back = await seek(sent[0].timestamp);
  same(idsOf(await consume({ iterator: back.iterator })), ids);
  await refused(409, "conflict", consume({ iterator: rest.iterator }));
  await refused(422, ["body", "after"], seek(hours(1)));
}

export async function pollingTokens() {
  const path = "/auth/app/puller/poller/pull/token";
  const old = (await asked(`${path}/rotate`, {})).token;
  const made = await asked(`${path}/rotate`, { expiry: 3600, oldTokenExpiry: 60 });
  assert(made.token.startsWith("sk_poll_") && made.token !== old && made.expiresAt);
  const told = await asked(path);
  assert(told.id === made.id && told.token !== made.token);
  for (const token of [old, made.token]) {
    const reader = client(token);
    assert.equal((await reader.message.poller.poll("puller", "pull")).data.length, 5);
    await reader.message.poller.consumerPoll("puller", "pull", "by-token");
    await refused(403, "permission_denied", reader.message.list("puller"));
    await refused(404, "not_found", reader.message.poller.poll("puller", "another"));
    await refused(404, "not_found", reader.message.poller.poll("shop", "pull"));
  }
}

/** A receiver's own program subscribes with the one token that it was given. */
export async function autoconfig(svix, receiver) {
  await svix.application.create({ name: "Auto", uid: "auto" });
  await svix.eventType.create({ name: "t.auto", description: "" });
  const given = await svix.autoconfigSubscription.create("auto");
  const wanted = { url: receiver.url("/auto"), uid: "auto" };
  const program = new sdk.AutoConfig(given.token, wanted);
  const endpoint = await program.subscribe();
  same([endpoint.url, endpoint.uid], [wanted.url, "auto"]);
  assert.equal((await program.subscribe()).id, endpoint.id, "the same endpoint");
  await svix.message.create("auto", { eventType: "t.auto", payload: { by: "push" } });
  const [arrived] = await receiver.arrived("/auto", 1);
  program.verify(arrived.body, arrived.headers);
  same(JSON.parse(arrived.body), { by: "push" });

  const reader = new sdk.AutoConfigConsumer(given.token, { uid: "queue", eventTypes: ["t.auto"], metadata: { k: "v" } });
  const queue = await reader.subscribe();
  same([queue.uid, queue.type, queue.metadata], ["queue", "pollingEndpoint", { k: "v" }]);
  // Another program of the same customer, which has not subscribed itself.
  const other = new sdk.AutoConfigConsumer(given.token, {});
  same((await other.receive("c")).data, []);
  const ids = [];
  for (let number = 0; number < 5; number++) {
    ids.push((await svix.message.create("auto", { eventType: "t.auto", payload: { number } })).id);
  }
  await svix.message.create("auto", { eventType: "t.other", payload: {} });
  const first = await reader.receive("worker", { limit: 3, leaseDurationMs: 60_000 });
  same([idsOf(first), first.done], [ids.slice(0, 3), false]);
  await refused(409, "conflict", other.receive("worker"));
  await reader.commit("worker", first.data[0].offset);
  await reader.commit("worker", first.data[2].offset);
  await reader.commit("worker", first.data[2].offset);
  const rest = await other.receive("worker", { startingPosition: "latest" });
  same([idsOf(rest), rest.done], [ids.slice(3), true]);
  // Its first answer might have been lost.
  await reader.commit("worker", first.data[2].offset);
  await refused(422, ["body", "offset"], reader.commit("worker", rest.data[1].offset + 1));
  await other.commit("worker", rest.data[1].offset);
  same((await reader.receive("worker")).data, []);
  const lapsed = await reader.receive("slow", { leaseDurationMs: 1 });
  const receive = () => reader.receive("slow", { leaseDurationMs: 60_000 }).catch((error) => assert.equal(error.code, 409));
  const again = await until("the lease ends", receive, Boolean);
  same(idsOf(again), idsOf(lapsed));
  await refused(409, "conflict", reader.commit("slow", lapsed.data.at(-1).offset));
  await reader.commit("slow", again.data.at(-1).offset);

  const rotated = await svix.autoconfigSubscription.rotate("auto", given.id);
  assert(rotated.id === given.id && rotated.token !== given.token);
  const fresh = new sdk.AutoConfig(rotated.token, wanted);
  assert.equal((await fresh.subscribe()).id, endpoint.id);
  await receiver.arrived("/auto", 7);
  await svix.message.create("auto", { eventType: "t.auto", payload: { by: "push again" } });
  const last = (await receiver.arrived("/auto", 8)).at(-1);
  // Both secrets sign for a while.
  for (const one of [fresh, program]) one.verify(last.body, last.headers);
  same(JSON.parse(last.body), { by: "push again" });
}
