// The pinned packages, from where `make npm` has put them: SENDOFF_TEST_NPM, outside of the source tree, where `import` would not look.

import { webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const folder = join(process.env.SENDOFF_TEST_NPM, "node_modules");
const require = createRequire(join(folder, "/"));

// Node 18 has it under another name, and Debian 12 has Node 18; the client asks for 22, of which it needs nothing else.
globalThis.crypto ??= webcrypto;

export const svix = await import(pathToFileURL(require.resolve("svix")));
export const standardwebhooks = require("standardwebhooks");
/** Where the sources of the client are, with the types of all it gives. */
export const sources = join(folder, "svix", "src");
