// What the team hears itself, whom it lets in, and who gets nowhere.

import assert from "node:assert/strict";
import { bothWays, client, refused } from "./client.mjs";
import { OLD } from "./majors.mjs";
import { svix as library } from "./packages.mjs";
import { accepts } from "./receiver.mjs";
import { HERE } from "./resources.mjs";

const { deepEqual: same } = assert;

export async function operationalWebhooks(svix, receiver) {
  const ops = svix.operationalWebhook.endpoint;
  same((await ops.list()).data, []);
  const headers = { "x-team": "ops", "x-api-key": "hush" };
  const given = { url: receiver.url("/ops"), uid: "ops", description: "d", eventTypes: ["endpoint.created"] };
  const [told, once] = [{ ...given, throttleRate: 5, metadata: { a: "b" }, headers }, { idempotencyKey: "ops-1" }];
  const made = await ops.create(told, once);
  assert(made.id.startsWith("ep_"));
  same([made.eventTypes, made.throttleRate, made.metadata], [["endpoint.created"], 5, { a: "b" }]);
  same(await ops.create(told, once), made);
  for (const name of ["ops", made.id]) same(await ops.get(name), made);
  // The old one has no field for them.
  if (OLD) await ops.setHeaders("ops", { headers });
  const shown = await ops.getHeaders("ops");
  same([shown.headers, shown.sensitive], [{ "x-team": "ops" }, ["x-api-key"]]);
  const { key } = await ops.getSecret("ops");
  await ops.rotateSecret("ops", { gracePeriodSeconds: 60 });
  const rotated = (await ops.getSecret("ops")).key;
  assert(rotated.startsWith("whsec_") && rotated !== key);

  const app = await svix.application.get("shop");
  const endpoint = await svix.endpoint.create("shop", { url: HERE, uid: "told" });
  const [delivery] = await receiver.arrived("/ops", 1);
  assert(accepts(rotated, delivery) && accepts(key, delivery) && delivery.headers["x-api-key"] === "hush");
  const data = { appId: app.id, appUid: "shop", endpointId: endpoint.id, endpointUid: "told" };
  same(JSON.parse(delivery.body), { type: "endpoint.created", data });

  await ops.setHeaders("ops", { headers: { "x-team": "other" } });
  same((await ops.getHeaders("ops")).headers, { "x-team": "other" });
  const replaced = await ops.upsert("ops", { url: `${HERE}2`, disabled: true });
  same([replaced.id, replaced.url, replaced.disabled, replaced.eventTypes], [made.id, `${HERE}2`, true, null]);
  const ids = [made.id];
  for (const uid of ["b", "c"]) ids.push((await ops.upsert(uid, { url: HERE, disabled: true })).id);
  await bothWays((page) => ops.list({ order: "ascending", ...page }), ids);
  await bothWays((page) => ops.list({ order: "descending", ...page }), [...ids].reverse());
  await refused(422, ["body", "eventTypes"], ops.create({ url: HERE, eventTypes: ["invoice.paid"] }));
  const uids = (await svix.application.list()).data.map((one) => one.uid);
  same(uids, ["acme", "shop", "tried", "down"], "no application is seen for it");
  for (const id of ids) await ops.delete(id);
  await refused(404, "not_found", ops.get("ops"));
}

export async function customers(svix) {
  const access = (given) => svix.authentication.appPortalAccess("visitor", given);
  const { token, url } = await access({ application: { name: "Visitor", uid: "visitor" }, expiry: 3_600 });
  assert(url.includes("/portal/enter/"));
  const visitor = client(token);
  await visitor.endpoint.create("visitor", { url: HERE });
  await refused(404, "not_found", visitor.endpoint.list("shop"));
  await refused(403, "permission_denied", visitor.message.create("visitor", { eventType: "t.a", payload: {} }));
  const capabilities = [library.AppPortalCapability.ViewBase];
  const looker = client((await access({ capabilities, featureFlags: ["beta"], sessionId: "s" })).token);
  assert.equal((await looker.endpoint.list("visitor")).data.length, 1);
  await refused(403, "permission_denied", looker.endpoint.create("visitor", { url: HERE }));
  await visitor.authentication.logout();
  await refused(401, "authentication_failed", visitor.endpoint.list("visitor"));
  await looker.endpoint.list("visitor");
  await refused(422, ["body", "expiry"], access({ expiry: 59 }));
  if (OLD) assert((await svix.authentication.dashboardAccess("visitor")).url.includes("/portal/enter/"));
  await svix.authentication.expireAll("visitor", {});
  await refused(401, "authentication_failed", looker.endpoint.list("visitor"));
}

export async function strangers() {
  const stranger = client("nonsense");
  await refused(401, "authentication_failed", stranger.application.list());
  await stranger.health.get();
}
