// What a team sets up: applications, event types, endpoints with their secrets and headers.

import assert from "node:assert/strict";
import { bothWays, refused } from "./client.mjs";

// Nobody is asked to send there.
export const HERE = "http://127.0.0.1:9/hook";

const { deepEqual: same } = assert;

export async function applications(svix) {
  const once = { idempotencyKey: "app-1" };
  const acme = { name: "Acme", uid: "acme", throttleRate: 10, metadata: { plan: "pro" } };
  const app = await svix.application.create(acme, once);
  assert(app.id.startsWith("app_"));
  same([app.name, app.uid, app.throttleRate, app.metadata], ["Acme", "acme", 10, { plan: "pro" }]);
  assert(Math.abs(app.createdAt - Date.now()) < 60_000);
  same(await svix.application.create(acme, once), app, "the same key, the first answer again");
  await refused(422, ["header", "idempotency-key"], svix.application.create({ name: "Another" }, once));
  same(await svix.application.get("acme"), app);
  same(await svix.application.get(app.id), app);
  same(await svix.application.getOrCreate({ name: "other", uid: "acme" }), app);
  assert.equal((await svix.application.getOrCreate({ name: "New", uid: "new" })).name, "New");
  await refused(409, "conflict", svix.application.create(acme));
  await refused(422, ["body", "uid"], svix.application.create({ name: "Acme", uid: "app_x" }));
  await refused(404, "not_found", svix.application.get("nobody"));
  let patched = await svix.application.patch(app.id, { throttleRate: null });
  same([patched.throttleRate, patched.name, patched.metadata], [null, "Acme", { plan: "pro" }]);
  assert(patched.updatedAt >= app.updatedAt && patched.createdAt.getTime() === app.createdAt.getTime());
  patched = await svix.application.patch(app.id, { uid: null, name: "Nameless" });
  same([patched.uid, patched.name], [null, "Nameless"]);
  await svix.application.patch(app.id, { uid: "acme" });
  const replaced = await svix.application.upsert("acme", { name: "Acme 2", uid: "acme" });
  same([replaced.id, replaced.name, replaced.metadata], [app.id, "Acme 2", {}]);
  assert.equal((await svix.application.upsert("put-made", { name: "Made" })).uid, "put-made");
  const ids = (await svix.application.list()).data.map((one) => one.id);
  assert(ids.length === 3 && ids[0] === app.id);
  await bothWays((page) => svix.application.list({ order: "ascending", ...page }), ids);
  await bothWays((page) => svix.application.list({ order: "descending", ...page }), [...ids].reverse());
  await refused(422, ["query", "limit"], svix.application.list({ limit: 251 }));
  await svix.application.delete("put-made");
  await svix.application.delete("new");
  same((await svix.application.list()).data.map((one) => one.uid), ["acme"]);
  await refused(404, "not_found", svix.application.delete("new"));
}

export async function eventTypes(svix) {
  const once = { idempotencyKey: "type-1" };
  const schemas = { 1: { type: "object", examples: [{ total: 1 }, { total: 2.5 }] } };
  const paid = { name: "invoice.paid", description: "Paid", schemas, featureFlags: ["beta"], groupName: "invoice" };
  let made = await svix.eventType.create(paid, once);
  same(await svix.eventType.create(paid, once), made);
  same(await svix.eventType.get("invoice.paid"), made);
  same([made.schemas, made.featureFlags, made.groupName], [schemas, ["beta"], "invoice"]);
  same([made.name, made.description, made.deprecated, made.archived], ["invoice.paid", "Paid", false, false]);
  const patched = await svix.eventType.patch("invoice.paid", { description: "Paid in full", featureFlags: null });
  same([patched.description, patched.featureFlags, patched.groupName], ["Paid in full", [], "invoice"]);
  made = await svix.eventType.upsert("invoice.sent", { description: "Sent" });
  same([made.name, made.schemas, made.groupName], ["invoice.sent", null, null]);
  const again = await svix.eventType.upsert("invoice.sent", { description: "Sent off", deprecated: true });
  same([again.description, again.deprecated, again.createdAt], ["Sent off", true, made.createdAt]);
  await refused(409, "conflict", svix.eventType.create({ name: "invoice.sent", description: "" }));
  await refused(422, ["body", "name"], svix.eventType.create({ name: "no spaces", description: "" }));
  await svix.eventType.create({ name: "invoice.void", description: "" });
  const names = ["invoice.void", "invoice.sent", "invoice.paid"];
  await bothWays((page) => svix.eventType.list({ order: "descending", ...page }), names, "name");
  await svix.eventType.delete("invoice.sent");
  assert((await svix.eventType.get("invoice.sent")).archived);
  let shown = (await svix.eventType.list()).data;
  same(shown.map((one) => [one.name, one.schemas]), [["invoice.paid", null], ["invoice.void", null]]);
  shown = (await svix.eventType.list({ includeArchived: true, withContent: true })).data;
  same(shown.map((one) => [one.archived, one.schemas]), [[false, schemas], [true, null], [false, null]]);
  await svix.eventType.delete("invoice.sent", { expunge: true });
  await refused(404, "not_found", svix.eventType.get("invoice.sent"));
  const spec = { openapi: "3.1.0", webhooks: { "invoice.imported": { post: { summary: "Imported." } } } };
  const planned = (await svix.eventType.importOpenapi({ dryRun: true, spec })).data;
  same([planned.modified, planned.toModify.map((one) => one.name)], [[], ["invoice.imported"]]);
}

export async function endpoints(svix) {
  const once = { idempotencyKey: "endpoint-1" };
  const filters = { eventTypes: ["invoice.paid"], channels: ["eu"] };
  const more = { description: "d", throttleRate: 50, metadata: { a: "b" }, headers: { "x-api-key": "hush" } };
  const main = { url: HERE, uid: "main", ...filters, ...more };
  const made = await svix.endpoint.create("acme", main, once);
  assert(made.id.startsWith("ep_") && !JSON.stringify(made).includes("hush"));
  same([made.eventTypes, made.channels, made.metadata], [["invoice.paid"], ["eu"], { a: "b" }]);
  same([made.url, made.uid, made.description, made.throttleRate, made.disabled], [HERE, "main", "d", 50, false]);
  same(await svix.endpoint.create("acme", main, once), made);
  same(await svix.endpoint.get("acme", "main"), made);
  same(await svix.endpoint.get("acme", made.id), made);
  let patched = await svix.endpoint.patch("acme", made.id, { channels: null, disabled: true });
  same([patched.channels, patched.disabled, patched.throttleRate], [null, true, 50]);
  patched = await svix.endpoint.patch("acme", "main", { throttleRate: null, eventTypes: null });
  same([patched.throttleRate, patched.eventTypes, patched.description], [null, null, "d"]);
  const replaced = await svix.endpoint.upsert("acme", "main", { url: `${HERE}2` });
  same([replaced.id, replaced.url, replaced.disabled, replaced.uid], [made.id, `${HERE}2`, false, "main"]);
  const ids = [made.id];
  for (const uid of ["second", "third"]) ids.push((await svix.endpoint.upsert("acme", uid, { url: HERE })).id);
  await bothWays((page) => svix.endpoint.list("acme", { order: "ascending", ...page }), ids);
  await bothWays((page) => svix.endpoint.list("acme", { order: "descending", ...page }), [...ids].reverse());
  for (const uid of ["second", "third"]) await svix.endpoint.delete("acme", uid);
  await refused(404, "not_found", svix.endpoint.get("acme", "second"));
  await refused(409, "conflict", svix.endpoint.create("acme", { url: HERE, uid: "main" }));
  await refused(422, ["body", "url"], svix.endpoint.create("acme", { url: "http://10.0.0.1/" }));
  await refused(422, ["body", "eventTypes"], svix.endpoint.create("acme", { url: HERE, eventTypes: ["no.such"] }));
  await secrets(svix);
  await headers(svix);
}

async function secrets(svix) {
  const secret = async () => (await svix.endpoint.getSecret("acme", "main")).key;
  const key = await secret();
  assert(key.startsWith("whsec_"));
  const rotate = (rotation, options) => svix.endpoint.rotateSecret("acme", "main", rotation, options);
  const once = { idempotencyKey: "rotate-1" };
  // This client throws away the secret that is answered.
  await rotate({ gracePeriodSeconds: 60 }, once);
  const rotated = await secret();
  assert.notEqual(rotated, key);
  await rotate({ gracePeriodSeconds: 60 }, once);
  assert.equal(await secret(), rotated, "rotated once");
  await rotate({ key });
  assert.equal(await secret(), key);
  await refused(422, ["body", "gracePeriodSeconds"], rotate({ gracePeriodSeconds: 604801 }));
}

async function headers(svix) {
  const shown = async () => {
    const { headers, sensitive } = await svix.endpoint.getHeaders("acme", "main");
    return [headers, sensitive];
  };
  same(await shown(), [{}, ["x-api-key"]]);
  await svix.endpoint.setHeaders("acme", "main", { headers: { "x-region": "eu", cookie: "a=b" } });
  same(await shown(), [{ "x-region": "eu" }, ["cookie"]]);
  await svix.endpoint.patchHeaders("acme", "main", { headers: { "x-a": "1" }, deleteHeaders: ["Cookie"] });
  same(await shown(), [{ "x-region": "eu" }, ["x-a"]]);
  await refused(422, ["body", "headers"], svix.endpoint.setHeaders("acme", "main", { headers: { "webhook-id": "x" } }));
}
