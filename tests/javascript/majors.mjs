// What the two majors of the `svix` client call by different names. Teams that move over still use the old one.

import { svix } from "./packages.mjs";

// Version 1 has no methods for destinations, and fewer fields of operational endpoints.
export const OLD = !("upsert" in new svix.Svix("token", { serverUrl: "http://127.0.0.1" }).application);
const METHODS = OLD ? { upsert: "update", setHeaders: "updateHeaders" } : {};

/** The name of a method of version 2 in this one. */
export const method = (name) => METHODS[name] ?? name;

const ofEndpoints = (part) => OLD && /[eE]ndpoint$/.test(part);

/** What a method of `part` is given, as this version names its fields. */
export function given(part, name, values) {
  if (!ofEndpoints(part) || !["create", "update", "patch"].includes(name)) return values;
  return values.map((value) => {
    if (typeof value !== "object" || !("eventTypes" in value)) return value;
    const { eventTypes: filterTypes, ...rest } = value;
    return { ...rest, filterTypes };
  });
}

/** What it answers, as version 2 names its fields. */
export function answered(part, answer) {
  if (ofEndpoints(part) && answer && "filterTypes" in answer) answer.eventTypes = answer.filterTypes;
  return answer;
}
