// The client takes whatever the server sends for what its TypeScript says. This holds each answer against those types, which are read
// from the sources that the package brings along: required fields, and the kind of every field.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { answered, given, method } from "./majors.mjs";
import { sources } from "./packages.mjs";

const upperFirst = (name) => name[0].toUpperCase() + name.slice(1);
const lowerFirst = (name) => name[0].toLowerCase() + name.slice(1);
const read = (...path) => readFileSync(join(sources, ...path), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "");
const known = new Map();

/** The fields of a model, or the values of an enumeration. */
function model(name) {
  if (!known.has(name)) {
    const source = read("models", `${lowerFirst(name)}.ts`);
    // A model of several types has what they share in an interface of its own.
    const shared = source.includes(`export type ${name} = _${name}Fields`);
    const head = shared ? `interface _${name}Fields` : `export interface ${name}`;
    const fields = source.match(new RegExp(`${head} \\{\n([\\s\\S]*?)\n\\}`))?.[1];
    const values = source.match(new RegExp(`export enum ${name} \\{([\\s\\S]*?)\\}`))?.[1];
    assert(fields ?? values ?? source.includes(`interface ${name} {}`), `the model ${name} is not where it was`);
    known.set(name, {
      fields: [...(fields ?? "").matchAll(/^ {2}(\w+)(\??): ([^;]+);$/gm)].map(([, field, optional, type]) => ({ field, optional, type })),
      values: values && [...values.matchAll(/= ("[^"]*"|\d+)/g)].map(([, value]) => JSON.parse(value)),
    });
  }
  return known.get(name);
}

function check(type, value, where) {
  const kinds = type.split(" | ");
  if (kinds.length > 1) {
    if (value === null && kinds.includes("null")) return;
    type = kinds.filter((kind) => kind !== "null").join(" | ");
  }
  const is = (fits) => assert(fits, `${where} is no ${type}: ${JSON.stringify(value)}`);
  if (type === "any") return is(value !== undefined);
  if (["string", "number", "boolean"].includes(type)) return is(typeof value === type);
  if (type === "Date") return is(value instanceof Date && !Number.isNaN(value.getTime()));
  if (type === "{ [key: string]: string }") return is(Object.values(value).every((one) => typeof one === "string"));
  if (type.endsWith("[]")) {
    is(Array.isArray(value));
    return value.forEach((one, n) => check(type.slice(0, -2), one, `${where}[${n}]`));
  }
  const { fields, values } = model(type);
  if (values) return is(values.includes(value));
  is(typeof value === "object" && value !== null);
  for (const { field, optional, type: kind } of fields) {
    // The client makes `undefined` of an optional field that did not come, and for times `null` of `null`.
    if (!(optional && value[field] === undefined)) check(kind, value[field], `${where}.${field}`);
  }
}

/** A client, or the part of it of this name, whose every answer is held against the type that its method promises. */
export function checked(part, name = "") {
  return new Proxy(part, {
    get(_, property) {
      property = method(property);
      const found = part[property];
      if (typeof found === "object") return checked(found, name + (name ? upperFirst(property) : property));
      return async (...values) => {
        const answer = await found.apply(part, given(name, property, values));
        const signature = new RegExp(`public (?:async )?${property}\\([\\s\\S]*?\\): Promise<(\\w+)>`);
        const type = read("api", `${name}.ts`).match(signature)?.[1];
        assert(type, `${name}.${property} is not where it was`);
        if (type !== "void") check(type, answer, `${name}.${property}()`);
        return answered(name, answer);
      };
    },
  });
}
