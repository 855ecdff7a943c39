// Messages: with their ids and contents, in lists, and of the kinds that there are.

import assert from "node:assert/strict";
import { bothWays, hours, refused } from "./client.mjs";
import { OLD } from "./majors.mjs";
import { svix as library } from "./packages.mjs";

const { deepEqual: same } = assert;
const whole = { withContent: true };

export async function messages(svix) {
  const before = new Date();
  const paid = { eventType: "invoice.paid", eventId: "ev-1", payload: { z: 1, a: [1, 2] }, channels: ["eu"] };
  const once = { ...whole, idempotencyKey: "message-1" };
  const made = await svix.message.create("acme", paid, once);
  assert(made.id.startsWith("msg_") && made.timestamp >= before);
  same([made.eventType, made.eventId, made.payload, made.channels], ["invoice.paid", "ev-1", paid.payload, ["eu"]]);
  same(await svix.message.create("acme", paid, once), made);
  const other = { eventType: "invoice.paid", payload: { n: 2 } };
  await refused(422, ["header", "idempotency-key"], svix.message.create("acme", other, once));
  const second = await svix.message.create("acme", other);
  const bare = await svix.message.create("acme", { eventType: "other.type", payload: { x: "y" } });
  // The old client puts in what it has sent, where nothing is said of contents.
  same([bare.payload, bare.eventId], [OLD ? { x: "y" } : {}, null]);
  for (const name of ["ev-1", made.id]) same(await svix.message.get("acme", name, whole), made);
  // The new client asks for no content where nothing is said; the server gives it where nobody asks.
  same((await svix.message.get("acme", made.id)).payload, OLD ? made.payload : {});
  await refused(409, "conflict", svix.message.create("acme", paid));
  await refused(404, "not_found", svix.message.create("nobody", other));
  await refused(404, "not_found", svix.message.get("acme", "ev-2"));
  const large = { eventType: "t", payload: { x: "y".repeat(300_000) } };
  await refused(413, "payload_too_large", svix.message.create("acme", large));
  const late = { eventType: "t", payload: {}, deliverAt: hours(31 * 24) };
  await refused(422, ["body", "deliverAt"], svix.message.create("acme", late));
  await refused(422, ["body", "eventType"], svix.message.create("acme", { eventType: "no spaces", payload: {} }));

  const listed = async (options) => (await svix.message.list("acme", options)).data.map((one) => one.id);
  const everything = [bare.id, second.id, made.id];
  same(await listed(), everything);
  same(await listed({ eventTypes: ["invoice.paid", "x"] }), [second.id, made.id]);
  same(await listed({ channel: "eu" }), [made.id]);
  same(await listed({ channel: "us" }), []);
  same(await listed({ before }), []);
  same(await listed({ after: before }), everything);
  await bothWays((page) => svix.message.list("acme", page), everything);
  same((await svix.message.list("acme", { limit: 1, ...whole })).data[0].payload, { x: "y" });
}

export async function messagesOfAllKinds(svix) {
  const deliverAt = hours(2);
  const application = { name: "Kinds", uid: "kinds" };
  const scheduled = { eventType: "t", payload: { a: 1 }, tags: ["x", "y"], deliverAt, payloadRetentionHours: 12, application };
  const made = await svix.message.create("kinds", scheduled, whole);
  same([made.tags, made.deliverAt, made.payload], [["x", "y"], deliverAt, { a: 1 }]);
  assert.equal((await svix.application.get("kinds")).name, "Kinds");
  const raw = await svix.message.create("kinds", library.messageInRaw("t", "a=1", "text/plain"), whole);
  same([raw.payload, raw.tags, raw.deliverAt], [{}, null, null]);
  const tagged = async (tag) => (await svix.message.list("kinds", { tag })).data.map((one) => one.id);
  same(await tagged("x"), [made.id]);
  same(await tagged("z"), []);
  await svix.message.expungeContent("kinds", made.id);
  const gone = await svix.message.get("kinds", made.id, whole);
  same([gone.payload, gone.eventType, gone.tags], [{ expired: true }, "t", ["x", "y"]]);
  await refused(404, "not_found", svix.message.expungeContent("kinds", "nothing"));
  await svix.application.delete("kinds");
}
