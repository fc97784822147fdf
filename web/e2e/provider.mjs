// An identity provider for one client, the studio at ORFEAS_URL: writes its address, then serves until it is ended.
// Whoever signs in as `root` is an admin.
import { createServer } from "node:http";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const studio = process.env.ORFEAS_URL ?? "http://127.0.0.1:8080";
const require = createRequire(path.join(process.env.PACKAGES ?? path.join(import.meta.dirname, ".."), "package.json"));
const { default: Provider } = await import(pathToFileURL(require.resolve("oidc-provider")).href);

/** Long enough to be used, short enough to be seen renewed. */
const TOKEN_SECONDS = 15;

const server = createServer().listen(Number(process.env.PORT ?? 0), "127.0.0.1");
await new Promise((ready) => server.once("listening", ready));
const issuer = `http://127.0.0.1:${server.address().port}`;

const provider = new Provider(issuer, {
  clients: [
    {
      client_id: "studio",
      token_endpoint_auth_method: "none",
      // As such it may come back to plain HTTP on this machine.
      application_type: "native",
      redirect_uris: [`${studio}/signed-in`],
      grant_types: ["authorization_code", "refresh_token"],
      response_types: ["code"],
    },
  ],
  clientBasedCORS: (_context, origin) => origin === studio,
  cookies: { keys: ["only for tests"] },
  extraTokenClaims: (_context, { accountId }) => ({ roles: accountId === "root" ? ["admin"] : [] }),
  features: {
    resourceIndicators: {
      enabled: true,
      useGrantedResource: () => true,
      getResourceServerInfo: (_context, resource) => ({
        scope: "",
        audience: resource,
        accessTokenFormat: "jwt",
        accessTokenTTL: TOKEN_SECONDS,
        jwt: { sign: { alg: "RS256" } },
      }),
    },
    revocation: { enabled: true },
  },
  findAccount: (_context, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
  pkce: { required: () => true },
});
server.on("request", provider.callback());
console.log(issuer);
