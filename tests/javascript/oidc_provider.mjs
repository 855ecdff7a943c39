// An OpenID Connect provider on loopback: the npm package oidc-provider, with people and faults that a test chooses.
//
// Prints `ready PORT`. `POST /control` with JSON merges into the state:
//   account   who signs in next; null: nobody, the provider refuses
//   people    their claims, by subject
//   tamper    changes the ID token after the provider made it: {claims, key, alg}
//   published the names of the keys in the key set
//   down      every request but this one is answered with 503

import { createServer } from "node:http";
import { createHmac, webcrypto } from "node:crypto";
import { createRequire } from "node:module";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

globalThis.crypto ??= webcrypto;
const require = createRequire(join(process.env.SENDOFF_TEST_NPM, "node_modules", "/"));
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")));
const jose = await import(pathToFileURL(require.resolve("jose")));

const [client_id, client_secret] = ["sendoff", "a secret of the client, long enough for HS256"];
const state = { account: null, people: {}, tamper: null, published: ["first"], down: false };

const keys = {};
for (const name of ["first", "second", "unpublished"]) {
  const { privateKey, publicKey } = await jose.generateKeyPair("RS256", { extractable: true });
  const about = { kid: name, alg: "RS256", use: "sig" };
  keys[name] = {
    privateKey,
    private: { ...(await jose.exportJWK(privateKey)), ...about },
    public: { ...(await jose.exportJWK(publicKey)), ...about },
  };
}

const server = createServer();
await new Promise((done) => server.listen(0, "127.0.0.1", done));
const issuer = `http://127.0.0.1:${server.address().port}`;

const scopes = "openid profile email groups";
const provider = new Provider(issuer, {
  clients: [{ client_id, client_secret, redirect_uris: ["http://127.0.0.1/"], response_types: ["code"], grant_types: ["authorization_code"] }],
  scopes: scopes.split(" "),
  claims: { openid: ["sub"], email: ["email", "email_verified"], profile: ["preferred_username"], groups: ["groups"] },
  // Claims in the ID token, where clients that ask no further read them.
  conformIdTokenClaims: false,
  pkce: { required: () => true, methods: ["S256"] },
  features: { devInteractions: { enabled: false } },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  cookies: { keys: ["a key of cookies"] },
  jwks: { keys: [keys.first.private] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, ...state.people[id] }) }),
  loadExistingGrant: async (context) => {
    const accountId = context.oidc.session.accountId;
    const grant = new provider.Grant({ clientId: context.oidc.client.clientId, accountId });
    grant.addOIDCScope(scopes);
    await grant.save();
    return grant;
  },
});
// The port of the suite's Sendoff is not known in advance.
provider.Client.prototype.redirectUriAllowed = (uri) => uri.startsWith("http://127.0.0.1:");

const base64 = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

/** The ID token with other claims, signed by another key or in another way. */
async function tampered(token, { claims = {}, key = "first", alg = "RS256" }) {
  const payload = { ...jose.decodeJwt(token), ...claims };
  if (alg === "none") return `${base64({ alg })}.${base64(payload)}.`;
  if (alg === "HS256") {
    const text = `${base64({ alg })}.${base64(payload)}`;
    return `${text}.${createHmac("sha256", client_secret).update(text).digest("base64url")}`;
  }
  return new jose.SignJWT(payload).setProtectedHeader({ alg, kid: key }).sign(keys[key].privateKey);
}

/** Replaces the ID token in the response. */
function tamper(response, how) {
  const end = response.end.bind(response);
  response.end = (body) => {
    const answer = JSON.parse(body);
    if (!answer.id_token) return end(body);
    tampered(answer.id_token, how).then((id_token) => {
      const changed = JSON.stringify({ ...answer, id_token });
      response.setHeader("content-length", Buffer.byteLength(changed));
      end(changed);
    });
    return response;
  };
}

async function control(request, response) {
  let text = "";
  for await (const piece of request) text += piece;
  Object.assign(state, JSON.parse(text));
  response.end();
}

const callback = provider.callback();
server.on("request", async (request, response) => {
  const { pathname } = new URL(request.url, issuer);
  if (pathname === "/control") return control(request, response);
  if (state.down) return response.writeHead(503).end("down");
  if (pathname === "/jwks") {
    response.setHeader("content-type", "application/jwk-set+json");
    return response.end(JSON.stringify({ keys: state.published.map((name) => keys[name].public) }));
  }
  if (pathname.startsWith("/interaction/")) {
    const result = state.account ? { login: { accountId: state.account } } : { error: "access_denied" };
    return provider.interactionFinished(request, response, result, { mergeWithLastSubmission: false });
  }
  if (pathname === "/token" && state.tamper) tamper(response, state.tamper);
  callback(request, response);
});
console.log(`ready ${issuer}`);
// Ends with the test that started it.
process.stdin.on("end", () => process.exit(0)).resume();
