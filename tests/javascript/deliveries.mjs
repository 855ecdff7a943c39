// What arrives at a receiver, and what the API says of it: attempts, counts, and having things sent again.

import assert from "node:assert/strict";
import { bothWays, hours, refused, until } from "./client.mjs";
import { OLD } from "./majors.mjs";
import { standardwebhooks, svix as library } from "./packages.mjs";
import { ANSWER, HANG_UP, accepts } from "./receiver.mjs";

const { deepEqual: same } = assert;
const OTHER = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const [SUCCESS, FAIL] = [0, 2];
const [SCHEDULED, MANUAL] = [0, 1];
const idsOf = (list) => list.map((one) => one.id);

export async function whatArrives(svix, receiver) {
  await svix.application.create({ name: "Shop", uid: "shop" });
  await svix.endpoint.create("shop", { url: receiver.url("/main"), uid: "main", headers: { "x-region": "eu" } });
  /** What arrives of this message, the so-manieth of all. */
  const send = async (count, message) => {
    const made = await svix.message.create("shop", message);
    const delivery = (await receiver.arrived("/main", count)).at(-1);
    assert.equal(delivery.headers["webhook-id"], made.id);
    return delivery;
  };
  const secret = async () => (await svix.endpoint.getSecret("shop", "main")).key;
  const plain = { eventType: "t", payload: {} };

  const payload = { amount: 12.5, name: "Zo\u00eb \u{1f680}" };
  const one = await send(1, { eventType: "t", payload });
  const first = await secret();
  same(new standardwebhooks.Webhook(first).verify(one.body, one.headers), payload);
  same([one.headers["content-type"], one.headers["x-region"]], ["application/json", "eu"]);
  assert(accepts(first, one) && !accepts(OTHER, one));
  assert(!accepts(first, { ...one, body: `${one.body} ` }), "another body");

  await svix.endpoint.rotateSecret("shop", "main", { gracePeriodSeconds: 600 });
  const two = await send(2, plain);
  const second = await secret();
  assert.equal(two.headers["webhook-signature"].split(" ").length, 2);
  assert(accepts(first, two) && accepts(second, two) && !accepts(OTHER, two) && !accepts(second, one));
  const third = "whsec_c2VjcmV0cyBhcmUgbWFkZSBvZiAyNCBieXRlcyBvciBtb3Jl";
  await svix.endpoint.rotateSecret("shop", "main", { key: third, gracePeriodSeconds: 0 });
  const three = await send(3, plain);
  assert(accepts(third, three) && accepts(first, three) && !accepts(second, three), "only the last had no grace");

  const raw = await send(4, library.messageInRaw("t", "a=1&b=\u00fc", "application/x-www-form-urlencoded"));
  same([raw.body, raw.headers["content-type"]], ["a=1&b=\u00fc", "application/x-www-form-urlencoded"]);
  assert(accepts(third, raw) && !accepts(OTHER, raw));
  const due = new Date(Date.now() + 1_000);
  assert((await send(5, { ...plain, deliverAt: due })).at >= due);
}

export async function attempts(svix, receiver) {
  await svix.application.create({ name: "Tried", uid: "tried" });
  receiver.statuses["/flaky"] = [503, HANG_UP, 200];
  const endpoint = (await svix.endpoint.create("tried", { url: receiver.url("/flaky"), uid: "flaky" })).id;
  const given = { eventType: "t.a", eventId: "tried-1", payload: { a: 1 }, channels: ["eu"], tags: ["x"] };
  const message = await svix.message.create("tried", given);
  const byMessage = async (options) => (await svix.messageAttempt.listByMsg("tried", "tried-1", options)).data;
  const byEndpoint = async (options) => (await svix.messageAttempt.listByEndpoint("tried", endpoint, options)).data;

  const found = await until("three attempts", () => byMessage({ withContent: true }), (found) => found.length === 3);
  const [newest, cutOff, oldest] = found;
  same([newest.status, newest.statusText, oldest.status, oldest.statusText], [SUCCESS, "success", FAIL, "fail"]);
  same(found.map((one) => one.responseStatusCode), [200, 0, 503]);
  same([newest.response, oldest.response], [ANSWER, ANSWER]);
  same([newest.endpointId, newest.msgId, newest.url], [endpoint, message.id, receiver.url("/flaky")]);
  assert(newest.triggerType === SCHEDULED && newest.timestamp > oldest.timestamp && newest.responseDurationMs >= 0);
  assert.equal((await byMessage())[0].response, OLD ? ANSWER : "");
  const ids = idsOf(found);
  await bothWays((page) => svix.messageAttempt.listByMsg("tried", message.id, page), ids);
  for (const [options, wanted] of [
    [{ status: FAIL }, ids.slice(1)],
    [{ statusCodeClass: 500 }, ids.slice(2)],
    [{ endpointId: "flaky", eventTypes: ["t.a"], tag: "x", channel: "eu" }, ids],
    [{ channel: "none" }, []],
    [{ tag: "none" }, []],
    [{ eventTypes: ["t.b"] }, []],
    [{ before: hours(-1) }, []],
    [{ after: hours(-1) }, ids],
  ]) {
    same(idsOf(await byMessage(options)), wanted, JSON.stringify(options));
  }
  await bothWays((page) => svix.messageAttempt.listByEndpoint("tried", "flaky", page), ids);
  assert.equal((await byEndpoint({ withMsg: true, limit: 1 }))[0].msg.eventId, "tried-1");
  same(idsOf(await byEndpoint({ status: SUCCESS })), ids.slice(0, 1));
  same(idsOf(await byEndpoint({ status: FAIL, eventTypes: ["t.a"] })), ids.slice(1));
  assert.equal((await svix.messageAttempt.get("tried", "tried-1", oldest.id)).response, ANSWER);
  await svix.messageAttempt.expungeContent("tried", "tried-1", oldest.id);
  same((await byMessage({ withContent: true })).map((one) => one.response), [ANSWER, cutOff.response, "EXPUNGED"]);
  await refused(404, "not_found", svix.messageAttempt.get("tried", "tried-1", message.id.replace("msg_", "atmpt_")));
}

export async function whatAnEndpointWasSent(svix, receiver) {
  const [endpoint] = (await svix.endpoint.list("tried")).data;
  const listed = async (options) => {
    const found = await svix.messageAttempt.listAttemptedMessages("tried", "flaky", options);
    same([found.done, found.iterator], [true, found.data.at(-1)?.id ?? null]);
    return found.data;
  };
  const stands = (await svix.messageAttempt.listAttemptedDestinations("tried", "tried-1")).data;
  same(stands.map((one) => [one.id, one.uid, one.status, one.nextAttempt]), [[endpoint.id, "flaky", SUCCESS, null]]);
  const [one] = await listed({ withContent: true, after: hours(-1), eventTypes: ["t.a"], tag: "x", channel: "eu" });
  same([one.eventId, one.payload, one.tags, one.channels], ["tried-1", { a: 1 }, ["x"], ["eu"]]);
  same([one.status, one.statusText, one.nextAttempt], [SUCCESS, "success", null]);
  same((await listed())[0].payload, OLD ? { a: 1 } : {});
  assert.equal((await listed({ status: SUCCESS })).length, 1);
  for (const options of [{ status: FAIL }, { before: hours(-1) }, { tag: "y" }]) same(await listed(options), []);
  const counts = { success: 1, pending: 0, sending: 0, fail: 0, canceled: 0 };
  same({ ...(await svix.endpoint.getStats("tried", "flaky")) }, counts);
  same({ ...(await svix.endpoint.getStats("tried", "flaky", { until: hours(-1) })) }, { ...counts, success: 0 });

  const once = { idempotencyKey: "resend-1" };
  for (const _ of [1, 2]) await svix.messageAttempt.resend("tried", "tried-1", "flaky", once);
  assert.equal((await receiver.arrived("/flaky", 4)).at(-1).headers["webhook-id"], one.id);
  const all = async () => (await svix.messageAttempt.listByMsg("tried", "tried-1")).data;
  await until("the resend is recorded", all, (found) => found.filter((one) => one.triggerType === MANUAL).length === 1);
  await refused(404, "not_found", svix.messageAttempt.resend("tried", "nothing", endpoint.id));
}

export async function backgroundTasks(svix, receiver) {
  await svix.application.create({ name: "Down", uid: "down" });
  receiver.statuses["/down"] = [500];
  await svix.endpoint.create("down", { url: receiver.url("/down"), uid: "was-down" });
  const sent = [];
  for (const n of [1, 2]) sent.push((await svix.message.create("down", { eventType: "t.a", payload: { n } })).id);
  const dead = () => svix.messageAttempt.listAttemptedMessages("down", "was-down", { status: FAIL });
  await until("two dead deliveries", dead, (found) => found.data.length === 2);
  await receiver.arrived("/down", 6);

  const ended = async (task, kind) => {
    assert(task.id.startsWith("qtask_"));
    same([task.status, task.task], ["running", kind]);
    const done = await until("its end", () => svix.backgroundTask.get(task.id), (one) => one.status === "finished");
    same([done.id, done.task, done.data.sent], [task.id, kind, 2]);
  };
  const arrivedAgain = (deliveries) => same(deliveries.map((one) => one.headers["webhook-id"]).sort(), [...sent].sort());

  receiver.statuses["/down"] = [200];
  const [since, once] = [hours(-1), { idempotencyKey: "recover-1" }];
  const begun = await svix.endpoint.recover("down", "was-down", { since }, once);
  assert.equal((await svix.endpoint.recover("down", "was-down", { since }, once)).id, begun.id);
  await ended(begun, "endpoint.recover");
  arrivedAgain((await receiver.arrived("/down", 8)).slice(6));
  await refused(422, ["body", "since"], svix.endpoint.recover("down", "was-down", { since: hours(-15 * 24) }));

  await svix.endpoint.create("down", { url: receiver.url("/late"), uid: "late" });
  const missing = await svix.endpoint.replayMissing("down", "late", { since, until: new Date() });
  await ended(missing, "endpoint.replay");
  arrivedAgain(await receiver.arrived("/late", 2));
  await until("both are recorded", () => svix.endpoint.getStats("down", "late"), (stats) => stats.success === 2);
  const bulk = await svix.endpoint.bulkReplay("down", "late", { since, eventTypes: ["t.a"], status: SUCCESS });
  await ended(bulk, "endpoint.bulk-replay");
  arrivedAgain((await receiver.arrived("/late", 4)).slice(2));

  await bothWays((page) => svix.backgroundTask.list(page), [bulk.id, missing.id, begun.id]);
  const options = { limit: 1, order: "ascending", status: "finished", task: "endpoint.recover" };
  same(idsOf((await svix.backgroundTask.list(options)).data), [begun.id]);
  await refused(404, "not_found", svix.backgroundTask.get(`${bulk.id.slice(0, -4)}0000`));
}

export async function examples(svix, receiver) {
  await svix.endpoint.create("shop", { url: receiver.url("/example"), uid: "example", eventTypes: ["invoice.paid"] });
  const { key } = await svix.endpoint.getSecret("shop", "example");
  const once = { idempotencyKey: "example-1" };
  const send = () => svix.endpoint.sendExample("shop", "example", { eventType: "invoice.paid", exampleIndex: 1 }, once);
  const made = await send();
  same(await send(), made);
  same([made.eventType, made.payload], ["invoice.paid", { total: 2.5 }]);
  const [delivery] = await receiver.arrived("/example", 1);
  assert(accepts(key, delivery));
  same(JSON.parse(delivery.body), { total: 2.5 });
  await refused(422, ["body", "eventType"], svix.endpoint.sendExample("shop", "example", { eventType: "no.such" }));
}
